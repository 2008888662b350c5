"""Binance's feed against its protocol server: what it asks for, and real frames through real websockets."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

from tests.contract.cases_feeds import Notes, now_ms
from tests.market import FUTURES, SPOT, frames, recorded
from tests.servers.binance import BinanceServer, binance_server, trade_frame
from tests.support import eventually, free_port
from worker.core.candles import CandleBuilder
from worker.core.trades import Trade
from worker.feeds.base import FeedState, FeedStats
from worker.feeds.binance import SPOT_URL, BinanceFeed, stream_address
from worker.feeds.binance_wire import BinanceDecoder


@pytest.fixture
def server() -> Iterator[BinanceServer]:
    with binance_server() as found:
        yield found


def connected(server: BinanceServer, feed: BinanceFeed) -> Notes:
    notes = Notes()
    feed.start(notes)
    eventually(lambda: server.connections, what="the feed has subscribed")
    return notes


def test_feed_when_it_connects_names_its_streams_twice_and_answers_pings(server: BinanceServer) -> None:
    feed = BinanceFeed(["BTC/USDT", "ethusdt"], server.url, kind="aggTrade")
    notes = connected(server, feed)
    assert server.paths == ["/stream?streams=btcusdt@aggTrade/ethusdt@aggTrade"]
    assert server.requests == [{"method": "SUBSCRIBE", "params": ["btcusdt@aggTrade", "ethusdt@aggTrade"], "id": 1}]
    eventually(lambda: notes.events == ["live"], what="the answer alone shows that the server listens")
    server.ping()
    eventually(lambda: server.pongs == 1, what="the ping was answered")
    row = {
        "e": "aggTrade",
        "E": 1,
        "s": "ETHUSDT",
        "a": 7,
        "p": "3.5",
        "q": "2",
        "f": 1,
        "l": 2,
        "T": now_ms(),
        "m": True,
    }
    server.send(json.dumps({"stream": "ethusdt@aggTrade", "data": row}), json.dumps({**row, "a": 8}))
    eventually(lambda: len(notes.trades) == 2, what="both came, wrapped and bare")
    first = notes.trades[0]
    assert (first.symbol, first.price, first.is_buyer_maker, first.trade_id) == ("ethusdt", 3.5, True, 7)
    feed.close()


def test_feed_when_there_are_many_symbols_asks_in_several_requests(server: BinanceServer) -> None:
    feed = BinanceFeed([f"C{n}USDT" for n in range(150)], server.url)
    connected(server, feed)
    eventually(lambda: len(server.requests) == 2, what="the second request")
    asked = [stream for request in server.requests for stream in request["params"]]
    assert asked == [f"c{n}usdt@trade" for n in range(150)]
    assert len(server.paths[0]) < 4096
    feed.close()


def test_feed_when_refused_with_html_tries_again(server: BinanceServer) -> None:
    server.refuse = HTTPStatus.SERVICE_UNAVAILABLE
    feed = BinanceFeed(["BTCUSDT"], server.url)
    notes = Notes()
    feed.start(notes)
    eventually(lambda: len(server.paths) >= 2, what="a second attempt")
    assert "503" in str(feed.stats.last_error)
    assert (feed.state, notes.events) == (FeedState.CONNECTING, [])
    server.refuse = None
    eventually(lambda: feed.state is FeedState.LIVE, what="it came back")
    feed.close()


def test_feed_when_bookings_are_not_of_the_market_ignores_them(server: BinanceServer) -> None:
    feed = BinanceFeed(["BTCUSDT"], server.url)
    notes = connected(server, feed)
    server.trade(1, "0", now_ms(), X="NA")
    server.trade(2, "60000", now_ms(), X="INSURANCE_FUND")
    server.trade(3, "60000", now_ms())
    server.send('{"error":{"code":2,"msg":"Invalid request"},"id":9}')
    eventually(lambda: feed.stats.dropped["error"] == 1, what="the error was counted")
    assert ([t.trade_id for t in notes.trades], feed.stats.ignored) == ([3], 2)
    assert feed.stats.last_error == "the server says 2: Invalid request"
    feed.close()


def test_feed_when_the_server_ends_the_day_is_back_with_one_gap(server: BinanceServer) -> None:
    feed = BinanceFeed(["BTCUSDT"], server.url)
    notes = connected(server, feed)
    for number in range(3):
        server.drop(1001)
        eventually(lambda number=number: feed.stats.connections == number + 2 and server.connections, what="it is back")
        eventually(lambda: feed.state is FeedState.LIVE, what="it is live")
    assert notes.events == ["live", *["gap", "live"] * 3]
    assert all("1001 go away" in reason for reason in notes.reasons)
    feed.close()


@pytest.mark.parametrize("name", [SPOT, FUTURES])
def test_feed_when_real_frames_are_sent_twice_gives_the_trades_of_the_file(
    data: Path, server: BinanceServer, name: str
) -> None:
    """Duplicates, and a frame from before, in the middle of the real ones."""
    feed = BinanceFeed(["BTCUSDT"], server.url)
    notes = connected(server, feed)
    found = [frame for _, frame in frames(data / name)][:2000]
    server.send(*[copy for frame in found for copy in (frame, frame, found[0])])
    expected = recorded(data, name)[:2000]
    eventually(lambda: len(notes.trades) >= 2000, what="all came")
    eventually(lambda: feed.stats.duplicates == 4000, what="all repetitions were counted")
    assert [(t.trade_id, t.price, t.quantity, t.venue_time) for t in notes.trades] == [
        (t.trade_id, t.price, t.quantity, t.venue_time) for t in expected
    ]
    feed.close()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Of localhost, signed by itself: the certificate and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is absent: no certificate can be made")
    found = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-out", str(found[0]), "-keyout", str(found[1]), "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    return found


def test_feed_when_the_server_speaks_tls_believes_only_a_certificate_it_knows(
    data: Path, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with binance_server(context) as server:
        feed = BinanceFeed(["BTCUSDT"], server.url)
        feed.start(Notes())
        eventually(lambda: "certificate" in str(feed.stats.last_error), what="the unknown certificate is refused")
        feed.close()
        assert (server.requests, feed.stats.connections) == ([], 0)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        feed = BinanceFeed(["BTCUSDT"], server.url)
        notes = connected(server, feed)
        found = [frame for _, frame in frames(data / FUTURES)][:3000]
        server.send(*found)
        eventually(lambda: len(notes.trades) == 3000, what="all came through TLS")
        server.drop(1001)
        eventually(lambda: feed.stats.connections == 2 and feed.state is FeedState.LIVE, what="it is back")
        feed.close()
        assert feed.state is FeedState.CLOSED


def test_candles_when_the_same_frames_come_live_or_from_the_file_are_the_same(data: Path) -> None:
    """The decoder is the one thing between wire and candle, in both."""
    decoder, builder = BinanceDecoder(FeedStats(), {"BTCUSDT": "X"}), CandleBuilder("X")
    live = []
    for received, frame in frames(data / FUTURES):
        trade = decoder.decode(frame, received)
        assert trade is not None
        live += builder.on_trade(trade)
    other = CandleBuilder("X")
    offline = [c for t in recorded(data, FUTURES) for c in other.on_trade(t)]
    assert (live, builder.counts) == (offline, other.counts)


def test_decoder_when_ids_begin_anew_takes_them_after_a_while() -> None:
    stats = FeedStats()
    decoder = BinanceDecoder(stats, {"BTCUSDT": "BTCUSDT"})
    taken: list[Trade | None] = []
    for number, at in ((10_000, 0), (5, 1_000), (6, 40_000), (7, 40_001), (7, 40_001)):
        taken.append(decoder.decode(trade_frame(number, 1.5, 1_700_000_000_000 + at).encode(), 0))
    assert [t and t.trade_id for t in taken] == [10_000, None, 6, 7, None]
    assert stats.duplicates == 2


def test_address_when_the_base_has_a_path_of_its_own_is_kept() -> None:
    assert stream_address(SPOT_URL, ["a@trade"]) == f"{SPOT_URL}/stream?streams=a@trade"
    assert stream_address("ws://h:1/stream", ["a@trade", "b@trade"]) == "ws://h:1/stream?streams=a@trade/b@trade"
    assert stream_address("ws://h:1/ws", ["a@trade"]) == "ws://h:1/ws"
    assert stream_address("ws://h:1/stream?streams=x", ["a@trade"]) == "ws://h:1/stream?streams=x"


def test_feed_when_the_server_never_shakes_hands_can_be_closed_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        feed, notes = BinanceFeed(["BTCUSDT"], f"ws://127.0.0.1:{silent.getsockname()[1]}"), Notes()
        feed.start(notes)
        client, _ = silent.accept()
        feed.close()
        client.close()
    assert (feed.state, notes.events) == (FeedState.CLOSED, [])


def test_feed_when_nobody_listens_says_so_and_tries_again() -> None:
    feed = BinanceFeed(["BTCUSDT"], f"ws://127.0.0.1:{free_port()}")
    feed.start(Notes())
    eventually(lambda: "refused" in str(feed.stats.last_error), what="the refusal stands in the stats")
    assert (feed.state, feed.stats.connections) == (FeedState.CONNECTING, 0)
    feed.close()
    bad = BinanceFeed(["BTCUSDT"], "http://127.0.0.1:1")
    bad.start(Notes())
    eventually(lambda: bad.stats.last_error, what="an address that is none")
    bad.close()
