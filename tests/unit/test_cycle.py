"""The cycle over a venue that tells of positions what is not so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from decimal import Decimal
from itertools import count
from zoneinfo import ZoneInfo

import pytest

from shared.clock import ManualClock, TradingCalendar
from tests.builders import NOW, order, switches, told
from worker.core.ledger import take_in
from worker.core.matching import EngineOptions
from worker.core.types import Bar, Instrument, OrderState, Prediction, VenuePosition
from worker.predictors.base import Market, PredictionSet
from worker.trading.cycle import Cycle, CycleOptions, CycleReport
from worker.trading.desk import OrderDesk
from worker.trading.memory import MemoryLedger
from worker.trading.reconcile import Snapshot
from worker.venues.simulated.local import LocalVenue

ZERO = Decimal(0)


class Rising:
    """Says that everything rises by a fifth."""

    def predict(
        self, tickers: Sequence[str], market: Market, now: datetime, stale_data_seconds: float
    ) -> PredictionSet:
        return PredictionSet({t: Prediction(0.2, None, now, "test") for t in tickers}, {})


class Rig:
    """A cycle for AAPL with ten shares bought, as the book knows."""

    def __init__(self, held: int, **settings: object) -> None:
        judged = switches({"cooldown_minutes": 0, "max_position_per_ticker": 9}, **settings)
        self.clock, calendar = ManualClock(NOW), TradingCalendar(ZoneInfo("UTC"))
        self.ledger = MemoryLedger(self.clock, calendar, judged)
        self.venue = LocalVenue(
            self.clock, {"AAPL": Instrument("AAPL")}, Decimal(100_000), EngineOptions(), lambda: 1.0
        )
        self.venue.advance("AAPL", Bar(NOW, 100.0, 100.0, 100.0, 100.0, 1.0))
        desk = OrderDesk(self.venue, self.ledger, self.ledger, self.clock, _silent, lambda _n: nullcontext(), 60.0)
        numbers, options = count(), CycleOptions(("AAPL",))
        self.cycle = Cycle(
            "default",
            self.venue,
            Rising(),
            desk,
            self.ledger,
            self.clock,
            calendar,
            _silent,
            options,
            lambda: f"{next(numbers):014x}",
            lambda: self.ledger.switches,
            lambda: None,
        )
        bought = order(qty=Decimal(held), state=OrderState.SUBMITTED)
        self.ledger.adopt(bought)
        filled = told(bought, OrderState.FILLED, str(held), "100")
        self.ledger.change(bought.client_order_id, lambda b: take_in(b, filled, (), NOW, venue="test"))

    def run(self, positions: Mapping[str, str]) -> CycleReport:
        self.clock.advance(60)
        rows = tuple(VenuePosition(t, abs(Decimal(q)), "long", ZERO, ZERO, ZERO) for t, q in positions.items())
        snapshot = Snapshot(self.clock.now(), rows, self.venue.account(), ())
        return self.cycle.run(self.ledger.switches, self.ledger.epoch, snapshot)


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
