"""The simulated market's trades, live: the ones that replay computes, and what a test pins."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tests.contract.cases_feeds import Notes
from tests.servers.exchange import TOKEN, ExchangeServer, exchange_server
from tests.support import eventually
from worker.core.trades import moment_of
from worker.feeds.base import FeedState
from worker.feeds.simulated import SimulatedFeed
from worker.venues.simulated.ticks import seeded_trades


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ExchangeServer]:
    with exchange_server(tmp_path) as found:
        yield found


def test_feed_when_live_gives_the_trades_that_replay_computes(server: ExchangeServer) -> None:
    feed, notes = SimulatedFeed(["AAPL", "SPY"], server.url, TOKEN), Notes()
    feed.start(notes)
    eventually(lambda: len(notes.trades) >= 8, what="four rounds of two")
    feed.close()
    live = [(t.symbol, t.price, t.quantity, t.is_buyer_maker, t.venue_time, t.trade_id) for t in notes.trades]
    start, end = moment_of(live[0][4]), moment_of(live[-1][4]) + timedelta(milliseconds=1)
    slots = {t[5] for t in live}
    expected = [t for t in seeded_trades(server.market, ["AAPL", "SPY"], start, end) if t.trade_id in slots]
    assert live == [(t.symbol, t.price, t.quantity, t.is_buyer_maker, t.venue_time, t.trade_id) for t in expected]


def test_feed_when_a_price_is_pinned_trades_there(server: ExchangeServer) -> None:
    """What orders fill at and what bots see is one market."""
    server.set_price("AAPL", Decimal("123.45"))
    feed, notes = SimulatedFeed(["AAPL"], server.url, TOKEN), Notes()
    feed.start(notes)
    eventually(lambda: notes.trades and notes.trades[-1].price == 123.45, what="the pinned price")
    feed.close()


@pytest.mark.parametrize(("ticker", "token", "code"), [("NONE", TOKEN, "404"), ("AAPL", "wrong", "401")])
def test_feed_when_it_is_refused_says_why(server: ExchangeServer, ticker: str, token: str, code: str) -> None:
    feed = SimulatedFeed([ticker], server.url, token)
    feed.start(Notes())
    eventually(lambda: code in str(feed.stats.last_error), what=f"HTTP {code} stands in the stats")
    assert feed.state is FeedState.CONNECTING
    feed.close()
