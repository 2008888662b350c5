"""Every feed with a hand on its source, for the contract suite over feeds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers.alpaca_stream import KEY, SECRET, AlpacaStreamServer, alpaca_stream_server
from tests.servers.binance import BinanceServer, binance_server
from tests.servers.exchange import TOKEN, ExchangeServer
from tests.support import eventually
from worker.core.trades import SECOND, Trade
from worker.feeds.alpaca import AlpacaFeed
from worker.feeds.base import TradeFeed
from worker.feeds.binance import BinanceFeed
from worker.feeds.replay import ReplayFeed
from worker.feeds.simulated import SimulatedFeed


def nothing() -> None:
    """The source does it by itself."""


class Notes:
    """A sink that writes down what it is told."""

    def __init__(self) -> None:
        self.trades: list[Trade] = []
        self.events: list[str] = []
        self.reasons: list[str] = []

    def on_trade(self, trade: Trade) -> None:
        self.events.append("trade")
        self.trades.append(trade)

    def on_gap(self, received_at: int, reason: str) -> None:
        assert received_at > 0
        self.events.append("gap")
        self.reasons.append(reason)

    def on_live(self, received_at: int) -> None:
        assert received_at > 0
        self.events.append("live")


@dataclass
class FeedCase:
    """``trade`` makes the source trade once more, ``again`` repeats the last trade, ``lose`` breaks the connection,
    ``nonsense`` sends frames that are no trades and gives how many.
    """

    feed: TradeFeed
    symbol: str
    trade: Callable[[], None] = nothing
    again: Callable[[], None] = nothing
    lose: Callable[[], None] = nothing
    nonsense: Callable[[], int] = lambda: 0
    live: Callable[[], object] = lambda: True
    notes: Notes = field(default_factory=Notes)

    def start(self) -> None:
        """Start, and wait until the source and the feed are together."""
        self.feed.start(self.notes)
        eventually(self.live, what="the feed has subscribed")

    def traded(self, count: int) -> list[Trade]:
        """Trade until so many have come."""
        while len(self.notes.trades) < count:
            before = len(self.notes.trades)
            self.trade()
            eventually(lambda before=before: len(self.notes.trades) > before, what="another trade")
        return self.notes.trades


HOSTILE = (
    "<html><body>502 Bad Gateway</body></html>",
    "",
    "null",
    "[1, 2]",
    '{"stream":"btcusdt@trade","data":7}',
    '{"stream":"btcusdt@trade","data":{"e":"trade"}}',
    "[" * 50_000,
    "\x00\x01",
)
FIELDS: tuple[dict[str, object], ...] = (
    *({"p": p} for p in ("NaN", "-1", "0", "1e400", "1e30", "Infinity", [], None, "one")),
    *({"q": q} for q in ("NaN", "-1", "0", "1e300")),
    *({"T": t} for t in (0, -1, 10**18, "now", 1e400)),
    *({"t": t} for t in (10**30, -5, "x")),
    {"m": "perhaps"},
    {"s": "DOGEUSDT"},
    {"s": 5},
)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@contextmanager
def binance(_directory: Path, stale_seconds: float = 15.0) -> Iterator[FeedCase]:
    with binance_server() as server:
        feed = BinanceFeed(["BTCUSDT"], server.url, stale_seconds=stale_seconds)
        case, numbers = FeedCase(feed, "BTCUSDT", live=lambda: server.connections), iter(range(1, 10_000))
        sent: list[tuple[int, float, int]] = []

        def trade() -> None:
            sent.append((number := next(numbers), 60_000.0 + number, now_ms()))
            server.trade(*sent[-1])

        case.trade, case.again, case.lose = trade, lambda: server.trade(*sent[-1]), server.drop
        case.nonsense = lambda: _binance_nonsense(server, numbers)
        yield case
        feed.close()


def _binance_nonsense(server: BinanceServer, numbers: Iterator[int]) -> int:
    server.send(*HOSTILE)
    for fields in FIELDS:
        server.trade(next(numbers), 1.0, now_ms(), **fields)
    return len(HOSTILE) + len(FIELDS)


@contextmanager
def alpaca(symbol: str, stale_seconds: float = 15.0) -> Iterator[FeedCase]:
    with alpaca_stream_server() as server:
        feed = AlpacaFeed([symbol], KEY, SECRET, url=server.url, stale_seconds=stale_seconds)
        case, numbers = FeedCase(feed, symbol, live=lambda: server.subscribers), iter(range(1, 10_000))
        sent: list[tuple[int, float, int]] = []

        def trade() -> None:
            sent.append((number := next(numbers), 100.0 + number, now_ms() * 1000))
            server.trade(symbol, *sent[-1])

        case.trade, case.again, case.lose = trade, lambda: server.trade(symbol, *sent[-1]), server.drop
        case.nonsense = lambda: _alpaca_nonsense(server, symbol)
        yield case
        feed.close()


def _alpaca_nonsense(server: AlpacaStreamServer, symbol: str) -> int:
    frames = [b"<html>", b"", b"\xc1", b"\x07", b"\x91\x07"]
    for frame in frames:
        server.send_raw(frame)
    fields: list[dict[str, object]] = [{"p": float("nan")}, {"p": -1}, {"p": "x"}, {"p": None}, {"s": 0}, {"t": 5}]
    for number, wrong in enumerate(fields):
        server.trade(symbol, 1000 + number, 1.0, now_ms() * 1000, **wrong)
    return len(frames) + len(fields)


def alpaca_stocks(_directory: Path, stale_seconds: float = 15.0) -> object:
    return alpaca("AAPL", stale_seconds)


def alpaca_crypto(_directory: Path, stale_seconds: float = 15.0) -> object:
    return alpaca("BTC/USD", stale_seconds)


@contextmanager
def simulated(directory: Path, stale_seconds: float = 15.0) -> Iterator[FeedCase]:
    servers = [ExchangeServer(directory)]
    servers[0].start()
    feed = SimulatedFeed(["AAPL"], servers[0].url, TOKEN, stale_seconds=stale_seconds)

    def lose() -> None:
        servers[-1].stop()
        servers.append(ExchangeServer(directory))
        servers[-1].url = servers[0].url
        servers[-1].start()

    yield FeedCase(feed, "AAPL", lose=lose)
    feed.close()
    servers[-1].stop()


@contextmanager
def replay(_directory: Path, stale_seconds: float = 15.0) -> Iterator[FeedCase]:
    """Ten trades a second."""
    start = now_ms() * 1000
    rows = (Trade("X", 5.0 + n, 1.0, None, t := start + n * SECOND // 10, t, n) for n in range(1000))
    feed = ReplayFeed(rows, ["X"], speed=1.0)
    yield FeedCase(feed, "X")
    feed.close()


FEEDS = {
    "binance": binance,
    "alpaca stocks": alpaca_stocks,
    "alpaca crypto": alpaca_crypto,
    "simulated": simulated,
    "replay": replay,
}
LOSABLE = ["binance", "alpaca stocks", "alpaca crypto", "simulated"]
DRIVEN = ["binance", "alpaca stocks", "alpaca crypto"]
