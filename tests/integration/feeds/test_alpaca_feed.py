"""Alpaca's feed against its protocol server: addresses, sides, and every error that Alpaca is known to say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest

from shared.accounts import AccountConfig
from shared.config import Config
from shared.errors import ConfigError
from tests.contract.cases_feeds import Notes, now_ms
from tests.servers.alpaca_stream import KEY, SECRET, AlpacaStreamServer, alpaca_stream_server, error
from tests.support import eventually
from worker.feeds.alpaca import AlpacaFeed, stream_beside
from worker.feeds.base import FeedState


@pytest.fixture
def server() -> Iterator[AlpacaStreamServer]:
    with alpaca_stream_server() as found:
        yield found


@pytest.mark.parametrize(
    ("symbols", "path", "side", "maker"),
    [
        (["AAPL", "MSFT"], "/v2/sip", None, None),
        (["BTC/USD"], "/v1beta3/crypto/us", "S", True),
        (["BTC/USD"], "/v1beta3/crypto/us", "B", False),
    ],
)
def test_feed_when_it_connects_asks_for_its_symbols(
    server: AlpacaStreamServer, symbols: list[str], path: str, side: str | None, maker: bool | None
) -> None:
    config = Config(
        _env_file=None,
        alpaca_api_key=KEY,
        alpaca_secret_key=SECRET,
        alpaca_data_stream_url=server.url,
        alpaca_data_feed="sip",
    )
    feed, notes = AlpacaFeed.from_config(config, symbols), Notes()
    feed.start(notes)
    eventually(lambda: server.subscribers, what="it has subscribed")
    assert (server.paths, server.asked[-1]) == ([path], {"action": "subscribe", "trades": symbols})
    at = now_ms() * 1000 + 7
    server.trade(symbols[0], 1, 2.5, at, **({} if side is None else {"tks": side}))
    eventually(lambda: notes.trades, what="the trade came")
    trade = notes.trades[0]
    assert (trade.symbol, trade.price, trade.quantity, trade.is_buyer_maker) == (symbols[0], 2.5, 100.0, maker)
    assert (trade.venue_time, trade.trade_id) == (at, None)
    feed.close()


def test_feed_when_the_server_speaks_json_is_answered_in_json_and_gives_its_trades() -> None:
    """Some servers ignore the content type that was asked for; times are then RFC 3339, to the nanosecond."""
    server = AlpacaStreamServer(text=True)
    feed, notes = AlpacaFeed(["AAPL"], KEY, SECRET, url=server.url), Notes()
    feed.start(notes)
    eventually(lambda: server.subscribers, what="it has subscribed")
    assert [a["action"] for a in server.asked] == ["auth", "subscribe"]
    times = ("2026-03-02T15:00:00.123456789Z", "2026-03-02T10:00:01-05:00", "yesterday", 7)
    for number, time in enumerate(times):
        server.send({"T": "t", "S": "AAPL", "i": number, "x": "V", "p": 2.5, "s": 100, "t": time, "c": ["@"], "z": "C"})
    eventually(lambda: feed.stats.dropped["shape"] == 2, what="all have come")
    assert [t.venue_time for t in notes.trades] == [1_772_463_600_123_456, 1_772_463_601_000_000]
    server.send_raw('[{"T":"error","code":500,"msg":"internal"}]')
    eventually(lambda: feed.stats.last_error == "Alpaca says 500: internal", what="the error")
    feed.close()
    server.stop()


@pytest.mark.parametrize(
    ("data", "stream"),
    [
        (None, None),
        ("http://127.0.0.1:8080", "ws://127.0.0.1:8080"),
        ("https://data.sandbox.alpaca.markets", "wss://stream.data.sandbox.alpaca.markets"),
        ("https://proxy.example", "wss://proxy.example"),
    ],
)
def test_stream_when_the_data_come_from_elsewhere_is_there_too(data: str | None, stream: str | None) -> None:
    assert stream_beside(data) == stream


def test_feed_when_of_another_account_signs_in_with_its_keys(server: AlpacaStreamServer, tmp_path: Path) -> None:
    """It took the default account's keys, or found none; and its trades came from Alpaca's own address."""
    address = server.url.replace("ws://", "http://")
    account = AccountConfig(
        name="second", home=tmp_path, venue="alpaca", api_key=KEY, secret_key=SECRET, data_url=address, data_feed="sip"
    )
    feed = AlpacaFeed.from_config(Config(_env_file=None), ["AAPL"], account=account)
    feed.start(Notes())
    eventually(lambda: server.subscribers, what="it has subscribed")
    assert server.paths == ["/v2/sip"]
    feed.close()


@pytest.mark.parametrize(
    ("code", "words"), [(402, "auth failed"), (406, "connection limit exceeded"), (404, "auth timeout")]
)
def test_feed_when_the_sign_in_is_refused_says_so_and_tries_again(
    server: AlpacaStreamServer, code: int, words: str
) -> None:
    server.at_sign_in.append(error(code, words))
    feed, notes = AlpacaFeed(["AAPL"], KEY, SECRET, url=server.url), Notes()
    feed.start(notes)
    eventually(lambda: feed.stats.last_error == f"Alpaca says {code}: {words}", what="the error stands in the stats")
    eventually(lambda: feed.state is FeedState.LIVE, what="the second attempt succeeds")
    assert (feed.stats.dropped["error"], notes.events) == (1, ["live"])
    feed.close()


def test_feed_when_the_subscription_is_refused_is_not_live(server: AlpacaStreamServer) -> None:
    server.at_subscribe.append(error(405, "symbol limit exceeded"))
    feed, notes = AlpacaFeed(["AAPL"], KEY, SECRET, url=server.url), Notes()
    feed.start(notes)
    eventually(lambda: feed.stats.last_error == "Alpaca says 405: symbol limit exceeded", what="the error")
    assert (feed.state, notes.events) == (FeedState.CONNECTING, [])
    feed.close()


def test_feed_when_the_key_is_used_elsewhere_later_is_a_gap(server: AlpacaStreamServer) -> None:
    feed, notes = AlpacaFeed(["AAPL"], KEY, SECRET, url=server.url), Notes()
    feed.start(notes)
    eventually(lambda: feed.state is FeedState.LIVE and server.subscribers, what="live")
    server.send(*error(406, "connection limit exceeded"))
    eventually(lambda: notes.reasons == ["Alpaca says 406: connection limit exceeded"], what="the gap")
    server.drop()
    eventually(lambda: feed.state is FeedState.LIVE, what="it is back")
    feed.close()


def test_feed_when_configured_wrongly_says_what_is_missing() -> None:
    with pytest.raises(ConfigError, match="ALPACA_API_KEY"):
        AlpacaFeed.from_config(Config(_env_file=None), ["AAPL"])
    with pytest.raises(ConfigError, match="stocks or for crypto"):
        AlpacaFeed(["AAPL", "BTC/USD"], KEY, SECRET)


def test_feed_when_a_stock_trade_makes_no_price_tells_so_and_ignores_what_is_no_trade(
    server: AlpacaStreamServer,
) -> None:
    feed, notes = AlpacaFeed(["AAPL"], KEY, SECRET, url=server.url), Notes()
    feed.start(notes)
    eventually(lambda: server.subscribers, what="it has subscribed")
    at = now_ms() * 1000
    told: list[tuple[list[str], str]] = [
        (["@"], "C"), (["@", "I"], "C"), ([" ", "P"], "A"), (["@", "M"], "C"), (["B"], "A"), (["B"], "C"), ([" "], "B")
    ]  # fmt: skip
    for number, (conditions, tape) in enumerate(told):
        server.trade("AAPL", number, 100.0 + number, at, c=conditions, z=tape)
    eventually(lambda: len(notes.trades) == 6, what="all but the official close")
    assert [(t.price, t.priced) for t in notes.trades] == [
        (100.0, True), (101.0, False), (102.0, False), (104.0, False), (105.0, True), (106.0, True)
    ]  # fmt: skip
    assert feed.stats.ignored == 1
    feed.close()


def test_feed_when_one_row_of_a_frame_is_nonsense_keeps_the_others(server: AlpacaStreamServer) -> None:
    feed, notes = AlpacaFeed(["AAPL"], KEY, SECRET, url=server.url), Notes()
    feed.start(notes)
    eventually(lambda: server.subscribers, what="it has subscribed")
    stamp = msgpack.Timestamp(now_ms() // 1000, 999_999_999)
    good = {"T": "t", "S": "AAPL", "i": 1, "x": "V", "p": 5.5, "s": 1, "t": stamp, "c": ["@"], "z": "C"}
    rows = [7, {"T": "t", "S": "AAPL"}, {"T": "q", "S": "AAPL"}, good, None, {**good, "i": 2, "s": "1e2"}]
    server.send_raw(msgpack.packb(rows))
    eventually(lambda: len(notes.trades) == 2, what="the good ones")
    assert (feed.stats.dropped["shape"], feed.stats.ignored, notes.trades[1].quantity) == (3, 1, 100.0)
    assert notes.trades[0].venue_time % 1_000_000 == 999_999  # and not of the next second
    feed.close()


def test_feed_when_it_comes_back_subscribes_again_and_repeats_nothing(server: AlpacaStreamServer) -> None:
    feed, notes = AlpacaFeed(["AAPL"], KEY, SECRET, url=server.url), Notes()
    feed.start(notes)
    eventually(lambda: server.subscribers, what="it has subscribed")
    at = now_ms() * 1000
    server.trade("AAPL", 1, 100.0, at)
    eventually(lambda: notes.trades, what="the trade")
    server.drop()
    eventually(lambda: feed.stats.connections == 2 and server.subscribers, what="another connection")
    server.trade("AAPL", 1, 100.0, at)
    server.trade("AAPL", 2, 101.0, at)
    eventually(lambda: [t.price for t in notes.trades] == [100.0, 101.0], what="only the new one")
    assert [a["action"] for a in server.asked] == ["auth", "subscribe"] * 2
    assert (feed.stats.duplicates, notes.events.count("gap")) == (1, 1)
    feed.close()
