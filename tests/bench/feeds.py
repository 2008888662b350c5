"""From a websocket's message to a candle and its features, and how both grow with the number of symbols."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event

import msgspec
from websockets.sync.client import connect

from tests.bench.compute import Tell
from tests.bench.feed_source import frame
from tests.bench.table import Row, median, p99, timed
from tests.formula import by_pandas
from worker.core.candles import WINDOW, Candle, CandleBuilder
from worker.core.features import FeatureWindow
from worker.core.trades import Trade
from worker.core.venue_clock import VenueClock
from worker.feeds.base import FeedStats
from worker.feeds.binance import BinanceFeed
from worker.feeds.binance_wire import BinanceDecoder

T0 = 1_700_000_000_000
FRAMES, CHUNK, SENT = 100_000, 1000, 500_000


def rows(tell: Tell) -> list[Row]:
    tell("frames to candles")
    found = [_decode(), _through_websockets(tell)]
    tell("candles to features")
    return [*found, _features(), *_growth(tell)]


def _each(take: Callable[[bytes, int], object], frames: Sequence[bytes]) -> list[float]:
    """Processor seconds a frame, of every thousand of them; each is received 50 ms after its time."""
    spent = []
    for first in range(0, len(frames), CHUNK):
        part = frames[first : first + CHUNK]
        received = (T0 + first + 50) * 1000
        start = time.thread_time()
        for one in part:
            take(one, received)
            received += 1000
        spent.append((time.thread_time() - start) / len(part))
    return spent


def _decode() -> Row:
    frames = [frame(n, T0 + n) for n in range(FRAMES)]
    decoder, builder = BinanceDecoder(FeedStats(), {"BTCUSDT": "BTCUSDT"}), CandleBuilder("BTCUSDT")
    decode, on_trade = decoder.decode, builder.on_trade

    def ours(one: bytes, received: int) -> None:
        trade = decode(one, received)
        if trade is not None:
            on_trade(trade)

    bare = msgspec.json.Decoder().decode
    made, limit, habit = _each(ours, frames), _each(lambda one, _: bare(one), frames), _each(_habit(), frames)
    if builder.counts.dropped:
        raise RuntimeError(f"the bench lost trades: {builder.counts}")
    return Row(
        "message decoded and in its candle",
        f"{median(made) * 1e6:.2f} µs",
        f"{p99(made) * 1e6:.2f} µs (of thousands)",
        f"{median(habit) / median(made):.1f} × the habit",
        f"msgspec to dicts, nothing else: {median(limit) * 1e6:.2f} µs",
        "≤ 0.8 µs",
        f"json and dicts {median(habit) * 1e6:.2f} µs",
    )


def _habit() -> Callable[[bytes, int], None]:
    candle: dict[str, float] = {}

    def take(one: bytes, _received: int) -> None:
        found = json.loads(one)["data"]
        price, quantity, second = float(found["p"]), float(found["q"]), found["T"] // 1000
        if candle.get("second") != second:
            candle.clear()
            candle.update(second=second, open=price, high=price, low=price, volume=0.0, buy=0.0, trades=0)
        candle["high"], candle["low"] = max(candle["high"], price), min(candle["low"], price)
        candle["close"] = price
        candle["volume"] += quantity
        candle["buy"] += 0.0 if found["m"] else quantity
        candle["trades"] += 1

    return take


class _Counting:
    """Candles of what comes; the process's processor time from the first trade to the last."""

    def __init__(self) -> None:
        self.builder, self.count, self.done = CandleBuilder("BTCUSDT"), 0, Event()
        self.cpu = self.wall = 0.0

    def on_trade(self, trade: Trade) -> None:
        self.builder.on_trade(trade)
        if self.count == 0:
            self.cpu, self.wall = time.process_time(), time.perf_counter()
        self.count += 1
        if self.count == SENT:
            self.cpu, self.wall = time.process_time() - self.cpu, time.perf_counter() - self.wall
            self.done.set()

    def on_gap(self, received_at: int, reason: str) -> None:
        """Only after the last trade."""

    def on_live(self, received_at: int) -> None:
        """Before the first."""


@contextmanager
def _source(count: int) -> Iterator[str]:
    """The address of a sender of so many trades."""
    source = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.feed_source", str(count)], stdout=subprocess.PIPE, text=True
    )
    try:
        if source.stdout is None:
            raise RuntimeError("the sender has no output")
        yield f"ws://127.0.0.1:{int(source.stdout.readline())}"
    finally:
        source.kill()
        source.wait()


def _through_websockets(tell: Tell) -> Row:
    a_core, a_second = [], []
    for number in range(3):
        tell(f"{SENT:,} trades through a websocket: {number + 1} of 3")
        with _source(SENT) as address:
            feed, sink = BinanceFeed(["BTCUSDT"], address), _Counting()
            feed.start(sink)
            if not sink.done.wait(120):
                raise RuntimeError(f"{sink.count} of {SENT} trades came: {feed.stats}")
            feed.close()
        a_core.append(SENT / sink.cpu)
        a_second.append(SENT / sink.wall)
    tell(f"{SENT // 5:,} trades by the library's own client")
    habit = _by_the_library(SENT // 5)
    return Row(
        "websocket to candle, end to end on loopback",
        f"{median(a_core):,.0f} trades/s a core",
        f"{min(a_core):,.0f} (slowest of 3)",
        f"{median(a_core) / habit:.1f} × the habit",
        f"{median(a_second):,.0f} trades/s by the clock, the sender beside",
        "≥ 250,000 trades/s a core",
        f"websockets' client, json and dicts {habit:,.0f} trades/s a core",
    )


def _by_the_library(count: int) -> float:
    take = _habit()
    with _source(count) as address, connect(address, compression=None, proxy=None) as client:
        client.send("{}")
        take(client.recv(decode=False), 0)
        start = time.process_time()
        for _ in range(count - 1):
            take(client.recv(decode=False), 0)
        return (count - 1) / (time.process_time() - start)


def _seconds(count: int) -> list[Candle]:
    builder, found = CandleBuilder("X"), []
    for n in range(count * 4):
        price, at = 60_000 + n * 7919 % 997 / 100, (T0 + n * 250) * 1000
        found += builder.on_trade(Trade("X", price, 0.1 + n % 13, n % 3 > 0, at, at, n))
    return found


def _features() -> Row:
    candles, window = _seconds(20_100), FeatureWindow()
    for candle in candles[:WINDOW]:
        window.push(candle)
    spent = []
    for candle in candles[WINDOW:]:
        start = time.perf_counter()
        window.push(candle)
        window.values()
        spent.append(time.perf_counter() - start)
    habit = timed(lambda: by_pandas(candles[:WINDOW]), 100)
    return Row(
        "completed second to thirty features",
        f"{median(spent) * 1e6:.2f} µs",
        f"{p99(spent) * 1e6:.2f} µs",
        f"{median(habit) / median(spent):.0f} × the habit",
        reach="≤ 6 µs a symbol",
        habit=f"pandas over 60 rows {median(habit) * 1e6:,.0f} µs",
    )


def _growth(tell: Tell) -> list[Row]:
    """Four trades a second for every symbol, over one clock, then its features: the cost must not know the others."""
    found, base = [], 0.0
    for count in (1, 10, 100, 1000):
        tell(f"{count} symbols")
        clock = VenueClock()
        names = [f"S{n}USDT" for n in range(count)]
        builders, windows = {n: CandleBuilder(n, clock) for n in names}, {n: FeatureWindow() for n in names}
        seconds = max(70, 20_000 // count)
        spent = 0.0
        for second in range(seconds):
            trades = [
                Trade(name, 100.0 + (second + q) % 7, 1.0, q > 1, at := (T0 + second * 1000 + q * 250) * 1000, at, None)
                for q in range(4)
                for name in names
            ]
            start = time.thread_time()
            for trade in trades:
                for candle in builders[trade.symbol].on_trade(trade):
                    window = windows[trade.symbol]
                    if window.push(candle):
                        window.values()
            spent += (time.thread_time() - start) if second > WINDOW else 0.0
        each = spent / ((seconds - WINDOW - 1) * count)
        base = base or each
        path = f"a symbol's second: four trades, candle, features; of {count:,} symbols"
        found.append(Row(path, f"{each * 1e6:.1f} µs", ratio=f"{each / base:.2f} × one symbol", reach="flat"))
    return found
