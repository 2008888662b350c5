"""One suite over every feed: what a bot may rely on wherever its trades come from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.contract.cases_feeds import DRIVEN, FEEDS, LOSABLE, FeedCase, Notes
from tests.support import eventually
from worker.core.trades import Trade
from worker.feeds.base import FeedState


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FeedCase]:
    name, stale = request.param if isinstance(request.param, tuple) else (request.param, 15.0)
    opened: AbstractContextManager[FeedCase] = FEEDS[name](tmp_path, stale)
    with opened as found:
        yield found


@pytest.mark.parametrize("case", FEEDS, indirect=True)
def test_feed_when_its_source_trades_gives_frozen_trades_in_order(case: FeedCase) -> None:
    assert (case.feed.state, case.feed.symbols) == (FeedState.CONNECTING, (case.symbol,))
    case.start()
    trades = case.traded(5)[:5]
    assert case.notes.events[:6] == ["live", *["trade"] * 5]
    assert case.feed.state is FeedState.LIVE
    for trade in trades:
        assert isinstance(trade, Trade)
        assert (trade.symbol, type(trade.price), type(trade.quantity)) == (case.symbol, float, float)
        assert (type(trade.venue_time), type(trade.received_at)) == (int, int)
        assert trade.price > 0 < trade.quantity
        assert trade.received_at <= case.feed.now()
        assert abs(trade.received_at - trade.venue_time) < 60_000_000
        with pytest.raises(AttributeError):
            trade.price = 1.0
    assert [t.received_at for t in trades] == sorted(t.received_at for t in trades)
    assert case.feed.stats.trades >= 5


@pytest.mark.parametrize("case", FEEDS, indirect=True)
def test_feed_when_closed_tells_nothing_more(case: FeedCase) -> None:
    case.start()
    case.traded(1)
    case.feed.close()
    told = len(case.notes.events)
    assert case.feed.state is FeedState.CLOSED
    case.feed.close()
    case.trade()
    assert len(case.notes.events) == told


@pytest.mark.parametrize("case", FEEDS, indirect=True)
def test_feed_when_closed_before_its_source_was_there_ends(case: FeedCase) -> None:
    case.feed.close()
    assert (case.feed.state, case.notes.events) == (FeedState.CLOSED, [])


@pytest.mark.parametrize("case", FEEDS, indirect=True)
def test_feed_when_its_sink_fails_goes_on(case: FeedCase) -> None:
    """A bot's fault must not cost the other bots their data."""
    notes = case.notes

    class Failing(Notes):
        def on_trade(self, trade: Trade) -> None:
            notes.on_trade(trade)
            raise RuntimeError("the bot's own fault")

    case.feed.start(Failing())
    eventually(case.live)
    case.traded(2)
    eventually(lambda: case.feed.stats.dropped["sink"] >= 2)


@pytest.mark.parametrize("case", LOSABLE, indirect=True)
def test_feed_when_the_connection_breaks_says_so_and_comes_back(case: FeedCase) -> None:
    case.start()
    case.traded(2)
    case.lose()
    eventually(lambda: "gap" in case.notes.events, what="the gap was told")
    eventually(lambda: case.feed.stats.connections == 2 and case.live(), what="another connection")
    before = len(case.notes.trades)
    case.traded(before + 1)
    assert case.notes.events.index("gap") < len(case.notes.events) - 1 - case.notes.events[::-1].index("live")
    stats = case.feed.stats
    assert (stats.gaps, stats.reconnects, bool(stats.last_error)) == (1, 1, True)


@pytest.mark.parametrize("case", [(name, 0.7) for name in DRIVEN], indirect=True, ids=DRIVEN)
def test_feed_when_the_socket_is_mute_gives_it_up(case: FeedCase) -> None:
    """A connection that stands but says nothing is the one that no keep-alive finds."""
    case.start()

    def traded() -> bool:
        case.trade()  # again and again: on a busy machine the silence may come between connecting and the first one
        return bool(case.notes.trades)

    eventually(traded, what="a trade")
    eventually(lambda: case.notes.reasons, what="the silence was told")
    assert "0.7 s" in case.notes.reasons[0]
    eventually(lambda: case.feed.stats.reconnects >= 1, what="another connection")


@pytest.mark.parametrize("case", DRIVEN, indirect=True)
def test_feed_when_it_hears_nonsense_counts_it_and_goes_on(case: FeedCase) -> None:
    case.start()
    case.traded(1)
    sent = case.nonsense()
    stats = case.feed.stats
    eventually(lambda: sum(stats.dropped.values()) >= sent, what=f"{sent} were dropped: {stats}")
    case.traded(2)
    assert sum(stats.dropped.values()) == sent
    assert (case.feed.state, stats.reconnects, "sink" in stats.dropped) == (FeedState.LIVE, 0, False)


@pytest.mark.parametrize("case", DRIVEN, indirect=True)
def test_feed_when_a_trade_is_repeated_drops_and_counts_it(case: FeedCase) -> None:
    case.start()
    case.traded(2)
    case.again()
    eventually(lambda: case.feed.stats.duplicates == 1, what="the repetition was counted")
    assert len(case.traded(3)) == 3
