"""What a late observer says of an order that is over is dropped, and recorded once."""

from __future__ import annotations

from contextlib import nullcontext
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from shared.clock import ManualClock, TradingCalendar
from tests.builders import NOW, order, switches, told
from worker.core.matching import EngineOptions
from worker.core.types import OrderState
from worker.trading.desk import OrderDesk
from worker.trading.memory import MemoryLedger
from worker.venues.simulated.local import LocalVenue

S = OrderState


def test_news_when_they_contradict_what_is_over_are_dropped_and_noted_once() -> None:
    clock, noted = ManualClock(NOW), list[tuple[str, dict[str, Any]]]()
    ledger = MemoryLedger(clock, TradingCalendar(ZoneInfo("UTC")), switches())
    venue = LocalVenue(clock, {}, Decimal(0), EngineOptions(), lambda: 1.0)

    def notes(kind: str, /, **fields: object) -> None:
        noted.append((kind, fields))

    desk = OrderDesk(venue, ledger, ledger, clock, notes, lambda _n: nullcontext(), 60.0)
    of = order(state=S.ACCEPTED)
    ledger.adopt(of)
    for news in (S.SUBMITTED, S.CANCELED, S.ACCEPTED, S.ACCEPTED, S.EXPIRED, S.CANCELED):
        desk.take(told(of, news), ())
    found = ledger.order(of.client_order_id)
    assert found is not None
    assert found.state is S.CANCELED
    late = [fields for kind, fields in noted if kind == "late_news"]
    assert late == [
        {"client_order_id": of.client_order_id, "state": "CANCELED", "told": news} for news in ("ACCEPTED", "EXPIRED")
    ]
