"""The cycle over a venue that is slow, or tells of positions what is not so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count
from zoneinfo import ZoneInfo

import pytest

from shared.clock import ManualClock, TradingCalendar
from tests.builders import NOW, order, switches, told
from worker.core.ledger import take_in
from worker.core.matching import EngineOptions
from worker.core.types import Bar, Instrument, LastPrice, MarketClock, OrderState, Prediction, VenuePosition
from worker.predictors.base import Market, PredictionSet
from worker.trading.cycle import Cycle, CycleOptions, CycleReport
from worker.trading.desk import OrderDesk
from worker.trading.memory import MemoryLedger
from worker.trading.reconcile import Snapshot
from worker.venues.simulated.local import LocalVenue

ZERO = Decimal(0)


class Rising:
    """Says that everything rises by a fifth, as often as it is to."""

    def __init__(self, times: int = 9) -> None:
        self.times, self.asked = times, 0

    def predict(
        self, tickers: Sequence[str], market: Market, now: datetime, stale_data_seconds: float
    ) -> PredictionSet:
        self.asked += 1
        said = tickers if self.asked <= self.times else ()
        return PredictionSet({t: Prediction(0.2, None, now, "test") for t in said}, {})


class SlowVenue(LocalVenue):
    """Takes its time to tell a price; its session ends."""

    seconds = 0.0
    closes: datetime | None = None

    def last_price(self, ticker: str) -> LastPrice:
        self._clock.advance(self.seconds)  # type: ignore[attr-defined]
        return LastPrice(Decimal(100), self._clock.now())

    def clock(self) -> MarketClock:
        return MarketClock(self._clock.now(), True, None, self.closes)


class Rig:
    """A cycle, with shares of AAPL bought, as the book knows."""

    def __init__(self, held: int, tickers: tuple[str, ...] = ("AAPL",), times: int = 9, **settings: object) -> None:
        judged = switches({"cooldown_minutes": 0, "max_position_per_ticker": 9}, **settings)
        self.clock, calendar = ManualClock(NOW), TradingCalendar(ZoneInfo("UTC"))
        self.ledger = MemoryLedger(self.clock, calendar, judged)
        instruments = {t: Instrument(t) for t in tickers}
        self.venue = SlowVenue(self.clock, instruments, Decimal(100_000), EngineOptions(), lambda: 1.0)
        self.predictor, self.found = Rising(times), list[Snapshot]()
        self.venue.advance("AAPL", Bar(NOW, 100.0, 100.0, 100.0, 100.0, 1.0))
        self.desk = desk = OrderDesk(
            self.venue, self.ledger, self.ledger, self.clock, _silent, lambda _n: nullcontext(), 60.0
        )
        numbers, options = count(), CycleOptions(tickers)
        self.cycle = Cycle(
            "default",
            self.venue,
            self.predictor,
            desk,
            self.ledger,
            self.clock,
            calendar,
            _silent,
            options,
            lambda: f"{next(numbers):014x}",
            lambda: self.ledger.switches,
            lambda: self.found.pop() if self.found else None,
        )
        if not held:
            return
        bought = order(qty=Decimal(held), state=OrderState.SUBMITTED)
        self.ledger.adopt(bought)
        filled = told(bought, OrderState.FILLED, str(held), "100")
        self.ledger.change(bought.client_order_id, lambda b: take_in(b, filled, (), NOW, venue="test"))

    def run(self, positions: Mapping[str, str]) -> CycleReport:
        self.clock.advance(60)
        return self.cycle.run(self.ledger.switches, self.ledger.epoch, self.snapshot(positions))

    def snapshot(self, positions: Mapping[str, str], drift: str = "") -> Snapshot:
        rows = tuple(VenuePosition(t, abs(Decimal(q)), "long", ZERO, ZERO, ZERO) for t, q in positions.items())
        return Snapshot(self.clock.now(), rows, self.venue.account(), (), drift=drift)


def _silent(_kind: str, /, **_fields: object) -> None:
    """Nobody listens."""


@pytest.mark.parametrize("positions", [{}, {"AAPL": "0"}, {"AAPL": "1"}, {"AAPL": "10"}])
def test_cycle_when_the_venue_shows_less_than_was_bought_buys_no_second_time(positions: Mapping[str, str]) -> None:
    """A list of positions may be late or wrong; a drift is one only when it is seen twice."""
    rig = Rig(10, max_position_per_trade=10, strategy="AGGRESSIVE")
    report = rig.run(positions)
    assert (report.submitted, report.errors) == ([], [])


def test_cycle_when_less_is_held_than_the_size_buys_the_rest() -> None:
    rig = Rig(3, max_position_per_trade=10, strategy="AGGRESSIVE")
    report = rig.run({"AAPL": "3"})
    assert [o.qty for o in report.submitted] == [Decimal(7)]


THREE = ("AAPL", "MSFT", "NVDA")


@pytest.mark.parametrize(("times", "bought", "asked"), [(1, ["AAPL"], 2), (9, list(THREE), 3)])
def test_cycle_when_it_takes_longer_than_predictions_hold_asks_for_them_again(
    times: int, bought: list[str], asked: int
) -> None:
    """No prediction, or a stale one: no trade, also where it was fresh when the cycle began."""
    rig = Rig(0, THREE, times)
    rig.venue.seconds = 16.0
    report = rig.run({})
    assert ([o.ticker for o in report.submitted], report.errors, rig.predictor.asked) == (bought, [], asked)


def test_cycle_when_the_session_ends_meanwhile_sends_no_more() -> None:
    rig = Rig(0, THREE)
    rig.venue.seconds, rig.venue.closes = 5.0, NOW + timedelta(seconds=68)
    report = rig.run({})
    assert [o.ticker for o in report.submitted] == ["AAPL"]
    assert [str(d).partition(":")[0] for _, d in report.denials] == ["MARKET_CLOSED"] * 2


def test_cycle_when_a_reconciliation_finds_a_drift_meanwhile_heeds_it() -> None:
    rig = Rig(0, THREE)
    rig.found.append(rig.snapshot({}, "AAPL: 1 in the book, 2 at the venue"))
    assert [str(d).partition(":")[0] for _, d in rig.run({}).denials] == ["REDUCING"] * 3


def test_cycle_when_an_order_is_replaced_meanwhile_waits_for_the_one_in_its_place() -> None:
    """Somebody changed it at the venue: it is over, and what works instead is not in the book yet."""
    rig = Rig(0)
    of = order(qty=Decimal(1), state=OrderState.ACCEPTED)
    rig.ledger.adopt(of)
    snapshot = rig.snapshot({})
    rig.desk.take(told(of, OrderState.REPLACED), ())
    report = rig.cycle.run(rig.ledger.switches, rig.ledger.epoch, snapshot)
    assert [str(d).partition(":")[0] for _, d in report.denials] == ["SYMBOL_FROZEN"]
    assert len(rig.run({}).submitted) == 1
