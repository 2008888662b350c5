"""From trades to decisions: when they are made, in which order, and what is told of a falling price."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from shared.bots import BotSettings
from shared.clock import SystemClock, TradingCalendar
from shared.config import load_config
from shared.errors import PredictionError
from shared.keys import Keys
from shared.store import Store, connect
from worker.compose.account import TradingAccount
from worker.compose.bots import build_fleet
from worker.core.candles import GRACE_MS
from worker.core.trades import SECOND, Trade
from worker.replay.bots import FixedModel
from worker.trading.bots.pipeline import Crossing, Decision, Lane, Pipeline, Rhythm
from worker.trading.desk import OrderDesk
from worker.trading.switches import SwitchReader

START = 1_700_000_000 * SECOND


class Sure:
    """Always of one opinion; ``seen`` holds the closes it was asked about."""

    def __init__(self, value: float = 0.9) -> None:
        self.value = value
        self.seen: list[float] = []

    def predict(self, row: Sequence[float]) -> float:
        self.seen.append(row[0])
        if self.value < 0:
            raise PredictionError("no answer")
        return self.value

    def confidence(self, value: float, profit_target_pct: float) -> float:
        return value


def trade(symbol: str, second: float, price: float = 100.0, *, sold: bool = False, number: int | None = None) -> Trade:
    at = START + int(second * SECOND)
    return Trade(symbol, price, 1.0, sold, at, at, number)


def pipeline(*symbols: str, grace_ms: int = GRACE_MS, **models: Sure) -> tuple[Pipeline, list[Decision | Crossing]]:
    posted: list[Decision | Crossing] = []
    made = Pipeline(symbols, posted.append, Rhythm(grace_ms=grace_ms))
    for number, symbol in enumerate(symbols, 2):
        settings = BotSettings(bot_id=number, symbol=symbol, confidence_threshold=0.5, enabled=True)
        made.lines[symbol].lanes = (Lane(settings, FixedModel(models.get(symbol, Sure()))),)
    made.on_live(START)
    return made, posted


def feed(made: Pipeline, trades: Iterable[Trade]) -> None:
    for one in trades:
        made.on_trade(one)


def seconds(posted: Iterable[Decision | Crossing]) -> list[int]:
    return [(d.second - START) // SECOND for d in posted if isinstance(d, Decision)]


def test_decisions_when_sixty_candles_are_complete_come_at_even_seconds_only() -> None:
    made, posted = pipeline("AAA")
    feed(made, (trade("AAA", s + 0.5) for s in range(66)))
    assert seconds(posted) == [60, 62, 64]


def test_decision_when_no_trade_completes_its_second_comes_with_the_time() -> None:
    made, posted = pipeline("AAA")
    feed(made, (trade("AAA", s + 0.5) for s in range(60)))
    assert posted == []
    made.tick(START + int(60.24 * SECOND))
    assert posted == []
    made.tick(START + int(60.26 * SECOND))
    assert seconds(posted) == [60]


def test_decision_when_another_grace_is_configured_waits_for_that_one() -> None:
    made, posted = pipeline("AAA", grace_ms=1500)
    feed(made, (trade("AAA", s + 0.5) for s in range(60)))
    made.tick(START + int(61.49 * SECOND))
    assert posted == []
    made.tick(START + int(61.51 * SECOND))
    assert seconds(posted) == [60]


def test_grace_when_it_is_configured_reaches_the_pipelines_of_the_bots() -> None:
    config = load_config(candle_grace_ms=1500, bot_feed="binance", binance_stream_url="ws://127.0.0.1:1")
    store, clock, none = Store(connect("redis://127.0.0.1:1/0"), Keys()), SystemClock(), cast("Any", None)
    desk, calendar = OrderDesk(none, none, none, clock, none, none, 60.0), TradingCalendar(ZoneInfo("UTC"))
    account = TradingAccount(
        config,
        config.account("default"),
        store,
        none,
        desk,
        none,
        SwitchReader(store, clock),
        clock,
        calendar,
        none,
        none,
    )
    fleet = build_fleet(account, none, none)
    try:
        fleet._sources.need({"AAPL"}, 15.0)
        line = fleet._sources._line("AAPL")
        assert line is not None
        assert line.builder._grace == 1_500_000
    finally:
        fleet.close()


def test_round_when_symbols_complete_one_after_the_other_is_posted_in_name_order() -> None:
    made, posted = pipeline("BBB", "AAA")
    for s in range(61):
        feed(made, [trade("BBB", s + 0.1), trade("AAA", s + 0.2)])
    assert [(d.symbol, d.bot_id) for d in posted if isinstance(d, Decision)] == [("AAA", 3), ("BBB", 2)]


def test_round_when_one_symbol_has_never_traded_does_not_wait_for_it() -> None:
    made, posted = pipeline("AAA", "ZZZ")
    feed(made, (trade("AAA", s + 0.5) for s in range(62)))
    assert seconds(posted) == [60]


def test_decision_when_a_taker_sold_lately_bids_what_the_buyer_had_bid() -> None:
    made, posted = pipeline("AAA")
    feed(made, (trade("AAA", s + 0.5) for s in range(59)))
    feed(made, [trade("AAA", 59.2, 99.5, sold=True), trade("AAA", 59.4, 100.0), trade("AAA", 60.5, 100.5)])
    (decision,) = posted
    assert isinstance(decision, Decision)
    assert (decision.bid, decision.price) == (99.5, 100.5)


def test_decision_when_no_taker_sold_lately_bids_the_last_price() -> None:
    made, posted = pipeline("AAA")
    feed(made, [trade("AAA", 0.1, 99.0, sold=True)])
    feed(made, (trade("AAA", s + 0.5) for s in range(61)))
    (decision,) = posted
    assert isinstance(decision, Decision)
    assert decision.bid == 100.0


def test_gap_when_it_is_told_stops_decisions_for_sixty_seconds() -> None:
    made, posted = pipeline("AAA")
    feed(made, (trade("AAA", s + 0.5) for s in range(61)))
    assert seconds(posted) == [60]
    made.on_gap(START + 61 * SECOND, "lost")
    assert not made.live
    made.on_live(START + 63 * SECOND)
    feed(made, (trade("AAA", s + 0.5) for s in range(63, 130)))
    assert min(s for s in seconds(posted) if s > 60) == 124


@pytest.mark.parametrize(("value", "problem"), [(0.4, ""), (-1.0, "no answer")])
def test_prediction_when_it_does_not_reach_the_threshold_or_fails_is_kept_and_not_posted(
    value: float, problem: str
) -> None:
    made, posted = pipeline("AAA", AAA=Sure(value))
    feed(made, (trade("AAA", s + 0.5) for s in range(62)))
    lane = made.lines["AAA"].lanes[0]
    assert posted == []
    assert (lane.confidence, lane.problem) == (None if problem else value, problem)


def test_price_when_it_meets_a_stop_loss_is_told_once_until_it_is_watched_again() -> None:
    made, posted = pipeline("AAA")
    made.watch("AAA", 98.0)
    feed(made, [trade("AAA", 1, 98.1), trade("AAA", 2, 98.0), trade("AAA", 3, 97.0)])
    assert [c.price for c in posted if isinstance(c, Crossing)] == [98.0]
    made.watch("AAA", 97.5)
    assert [c.price for c in posted if isinstance(c, Crossing)] == [98.0, 97.0]


def test_price_when_a_trade_makes_none_meets_no_stop_loss_and_is_no_last_price() -> None:
    """An odd lot or a late report far from the market must not close a position."""
    made, posted = pipeline("AAA")
    made.watch("AAA", 98.0)
    feed(made, [trade("AAA", 1, 100.0)])
    stray = trade("AAA", 2, 20.0, sold=True)
    made.on_trade(replace(stray, priced=False))
    assert posted == []
    line = made.lines["AAA"]
    assert line.last is not None
    assert (line.last.price, line.sold) == (100.0, None)
