"""Servers that do what servers should not, and consumers that cannot follow: nothing wrong ever reaches a candle."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import pytest

from tests.contract.cases_feeds import Notes, now_ms
from tests.servers.alpaca_stream import KEY, SECRET
from tests.servers.binance import BinanceServer, binance_server, trade_frame
from tests.support import eventually
from worker.core.candles import CandleBuilder
from worker.core.trades import SECOND, Trade
from worker.feeds.alpaca import AlpacaFeed
from worker.feeds.base import FeedState, FeedStats, TradeFeed, TradeQueue
from worker.feeds.binance import BinanceFeed
from worker.feeds.binance_wire import BinanceDecoder
from worker.feeds.contracts import Contract
from worker.feeds.socket import LARGEST_MESSAGE, FeedSocket, SocketLost
from worker.feeds.streaming import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, SocketFeed

PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 22\r\n\r\n<html>not this</html>\n"
MOVED = b"HTTP/1.1 301 Moved\r\nLocation: https://example.com/\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def server() -> Iterator[BinanceServer]:
    with binance_server() as found:
        yield found


@contextmanager
def answering(answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that says one thing to everybody and hangs up; what it was asked."""
    calls: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client, suppress(OSError):
                    calls.append(client.recv(4096))
                    client.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"ws://127.0.0.1:{listener.getsockname()[1]}", calls
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(30)


def binance(url: str) -> TradeFeed:
    return BinanceFeed(["BTCUSDT"], url)


def alpaca(url: str) -> TradeFeed:
    return AlpacaFeed(["AAPL"], KEY, SECRET, url=url)


@pytest.mark.parametrize("make", [binance, alpaca])
@pytest.mark.parametrize("answer", [PAGE, MOVED, b"", b"\x00\xff" * 100, b"SSH-2.0-x\r\n"])
def test_feed_when_it_is_no_websocket_says_so_and_tries_again(make: type[BinanceFeed], answer: bytes) -> None:
    with answering(answer) as (url, calls):
        feed, notes = make(url), Notes()  # type: ignore[arg-type, call-arg]
        feed.start(notes)
        eventually(lambda: len(calls) >= 4, what="four attempts")
        assert (feed.state, notes.events, bool(feed.stats.last_error)) == (FeedState.CONNECTING, [], True)
        feed.close()


class Pauses(threading.Event):
    """Writes down what was waited for, and ends after so many."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count, self.waited = count, list[float]()

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.append(timeout or 0.0)
        if len(self.waited) >= self.count:
            self.set()
        return self.is_set()


@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
def test_pauses_when_nobody_answers_double_up_to_the_longest_with_jitter(jitter: float) -> None:
    class Nowhere(SocketFeed):
        def _open(self) -> FeedSocket:
            raise SocketLost("nobody there")

        def _decode(self, _messages: Sequence[bytes], _received_at: int) -> tuple[list[Trade], bool]:
            raise AssertionError

    feed, pauses = Nowhere("nowhere", ["X"], jitter=lambda: jitter), Pauses(9)
    feed._closing = pauses
    feed._run()
    doubled = [min(FIRST_PAUSE_SECONDS * 2**n, LONGEST_PAUSE_SECONDS) for n in range(9)]
    assert pauses.waited == pytest.approx([pause * (0.5 + jitter) for pause in doubled])
    assert doubled[-1] == LONGEST_PAUSE_SECONDS


def test_feed_when_a_frame_is_larger_than_any_market_message_begins_anew(server: BinanceServer) -> None:
    feed, notes = BinanceFeed(["BTCUSDT"], server.url), Notes()
    feed.start(notes)
    eventually(lambda: server.connections, what="it has subscribed")
    server.trade(1, 100.0, now_ms())
    eventually(lambda: notes.trades, what="a trade")
    server.send(trade_frame(2, "1" * (LARGEST_MESSAGE + 1), now_ms()))
    eventually(lambda: notes.reasons, what="the gap")
    eventually(lambda: feed.stats.connections == 2 and server.connections == 1, what="another connection")
    server.trade(3, 100.0, now_ms())
    eventually(lambda: [t.trade_id for t in notes.trades] == [1, 3], what="only what was one")
    feed.close()


def test_feed_when_the_address_is_of_a_raw_stream_takes_bare_frames(server: BinanceServer) -> None:
    feed, notes = BinanceFeed(["BTCUSDT"], f"{server.url}/ws/btcusdt@aggTrade"), Notes()
    feed.start(notes)
    eventually(lambda: server.connections, what="it has subscribed")
    assert server.paths == ["/ws/btcusdt@aggTrade"]
    at = now_ms()
    row = {"E": at, "s": "BTCUSDT", "p": "1.5e2", "q": "2", "T": at, "m": True}
    server.send(json.dumps({"e": "aggTrade", "a": 5, "f": 90, "l": 92, "M": True, **row}))
    server.send(json.dumps({"e": "trade", "t": 90, **row}))  # the same in the other stream's words
    server.send(json.dumps({"e": "aggTrade", "a": 6, "f": 93, "l": 93, "M": True, **row}))
    eventually(lambda: [t.trade_id for t in notes.trades] == [5, 6], what="both aggregates")
    assert (notes.trades[0].price, feed.stats.ignored, feed.stats.duplicates) == (150.0, 1, 0)
    assert server.requests[0]["params"] == ["btcusdt@aggTrade"]
    feed.close()


def test_feed_when_the_server_sends_the_other_kind_takes_it_until_the_one_asked_for_comes() -> None:
    """Every frame was passed over in silence, and the feed lived without a trade."""
    stats, row = FeedStats(), {"s": "BTCUSDT", "p": "1", "q": "2", "T": now_ms(), "m": True}
    decoder = BinanceDecoder(stats, {"BTCUSDT": "BTC/USDT"}, "trade")
    frames = [("aggTrade", {"a": 900}), ("aggTrade", {"a": 901}), ("trade", {"t": 5}), ("aggTrade", {"a": 902})]
    frames.append(("trade", {"t": 6}))
    found = [decoder.decode(json.dumps({"e": kind, **row, **number}).encode(), 1) for kind, number in frames]
    assert [t.trade_id for t in found if t is not None] == [900, 901, 5, 6]
    assert (stats.ignored, stats.duplicates) == (1, 0)


def test_feed_when_its_subscription_is_refused_is_not_live(server: BinanceServer) -> None:
    server.mute = True
    feed, notes = BinanceFeed(["BTCUSDT"], server.url, stale_seconds=1.0), Notes()
    feed.start(notes)
    eventually(lambda: server.connections, what="a connection")

    def told() -> bool:
        server.send('{"error":{"code":2,"msg":"Invalid request: unknown stream"},"id":1}')
        return feed.stats.last_error == "the server says 2: Invalid request: unknown stream"

    eventually(told, what="its words")
    eventually(lambda: feed.stats.reconnects >= 1, what="another attempt")
    assert notes.events == []
    feed.close()


def test_quantities_when_the_symbol_counts_contracts_are_in_base_units(server: BinanceServer) -> None:
    feed = BinanceFeed(["BTCUSDT"], server.url, contracts={"BTCUSDT": Contract(100.0, inverse=True)})
    notes = Notes()
    feed.start(notes)
    eventually(lambda: server.connections, what="it has subscribed")
    server.trade(1, 50_000, now_ms(), q="3")
    eventually(lambda: [t.quantity for t in notes.trades] == [3 * 100 / 50_000], what="the trade")
    feed.close()


def test_candles_when_the_consumer_cannot_follow_count_what_was_lost_and_mark_the_gap(server: BinanceServer) -> None:
    """A candle of half its trades must not look like a whole one."""
    queue, feed = TradeQueue(limit=100), BinanceFeed(["BTCUSDT"], server.url)
    feed.start(queue)
    eventually(lambda: server.connections, what="it has subscribed")
    start = now_ms() // 1000 * 1000
    server.send(*(trade_frame(n + 1, 100.0, start + n) for n in range(500)))
    eventually(lambda: feed.stats.trades == 500, what="the flood")
    builder = CandleBuilder("BTCUSDT")
    candles = []

    class Slow:
        def on_trade(self, trade: object) -> None:
            candles.extend(builder.on_trade(trade))  # type: ignore[arg-type]

        def on_gap(self, received_at: int, reason: str) -> None:
            assert "100" in reason
            candles.extend(builder.on_gap(received_at))

        def on_live(self, received_at: int) -> None:
            candles.extend(builder.on_live(received_at))

    assert queue.dropped == 401
    queue.drain(Slow())
    server.send(*(trade_frame(600 + n, 100.0, start + 1500 + n * 1000) for n in range(3)))
    eventually(lambda: len(queue) >= 3, what="what comes afterwards")
    queue.drain(Slow())
    assert candles[0].start == start * 1000
    assert (candles[0].gap, builder.ready) == (True, False)
    assert candles[-1].end - candles[0].start == len(candles) * SECOND
    feed.close()
