"""Alpaca's feed against its protocol server: addresses, sides, and every error that Alpaca is known to say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.config import Config
from shared.errors import ConfigError
from tests.contract.cases_feeds import Notes, now_ms
from tests.servers.alpaca_stream import KEY, SECRET, AlpacaStreamServer, alpaca_stream_server, error
from tests.support import eventually
from worker.feeds.alpaca import AlpacaFeed
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
