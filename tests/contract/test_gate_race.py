"""Eight submitters at once, each with a gate of its own: what they are let through together never passes a limit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from shared.clock import TradingCalendar
from shared.keys import Keys
from shared.store import Store
from tests.builders import order, switches, ticket
from worker.core.orders import micros
from worker.core.types import OrderState
from worker.trading.book import RedisBook
from worker.trading.gate import RedisGate

SUBMITTERS, EACH = 8, 12


@pytest.mark.parametrize(
    ("risk", "allowed"),
    [
        ({"daily_notional_cap": 20_500}, 20),
        ({"daily_notional_cap": 0, "max_position_per_ticker": 7}, 7),
        ({"daily_notional_cap": 0, "max_trades_per_run": 5}, 5),
        ({"daily_notional_cap": 0, "cooldown_minutes": 30}, 1),
    ],
    ids=["notional", "orders_per_ticker", "trades_per_run", "cooldown"],
)
def test_admit_when_eight_ask_at_once_never_passes_a_limit(
    store: Store, redis_url: str, risk: dict[str, int], allowed: int
) -> None:
    open_risk = {"cooldown_minutes": 0, "max_position_per_ticker": 1000, "max_trades_per_run": 1000}
    judged, keys = switches(open_risk | risk), Keys()
    store.client.set(keys.trading_settings, judged.settings.raw or b"")
    store.client.set(keys.risk_settings, judged.risk.raw or b"")
    store.client.mset({keys.trading_armed: "1", keys.trading_epoch: "1", keys.lease("default"): "me"})
    calendar = TradingCalendar(ZoneInfo("UTC"))
    day = calendar.day_of(datetime.now(UTC))

    def submit(number: int) -> list[str]:
        gate = RedisGate(redis_url, keys, "default", timeout_seconds=30)
        gate.owner, admitted = "me", []
        for turn in range(EACH):
            wanted = order(f"sbe1rrace{number:02}{turn:06}", trading_day=day.name)
            if gate.admit(ticket(wanted, judged, day)) is None:
                admitted.append(wanted.client_order_id)
        gate.close()
        return admitted

    with ThreadPoolExecutor(SUBMITTERS) as pool:
        admitted = [name for names in pool.map(submit, range(SUBMITTERS)) for name in names]
    assert len(admitted) == allowed
    book = RedisBook(store, "default", calendar)
    assert sorted(o.client_order_id for o in book.open_orders()) == sorted(admitted)
    assert all(o.state is OrderState.INTENT for o in book.open_orders())
    figures = book.day(day.name)
    assert micros(figures.counters.notional) == allowed * micros(Decimal(1000))
