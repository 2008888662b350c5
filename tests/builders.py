"""Values that many tests need, with sensible defaults."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from shared.clock import TradingDay
from shared.documents import Reading, RiskSettings, TradingSettings, dump_json
from worker.core.orders import Order, micros
from worker.core.types import Effect, OrderState, OrderType, Side, TimeInForce, VenueOrder
from worker.trading.ports import Switches, Ticket

NOW = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)


def settings_reading(**fields: Any) -> Reading[TradingSettings]:
    raw = dump_json({"enabled": True, **fields})
    return Reading(raw, TradingSettings.parse(raw, TradingSettings()))


def risk_reading(**fields: Any) -> Reading[RiskSettings]:
    raw = dump_json(fields)
    return Reading(raw, RiskSettings.parse(raw, RiskSettings()))


def switches(risk: dict[str, Any] | None = None, **settings: Any) -> Switches:
    return Switches(settings_reading(**settings), risk_reading(**(risk or {})))


def order(name: str = "sbe1r0123456789", **changes: Any) -> Order:
    values: dict[str, Any] = {
        "client_order_id": name,
        "account": "default",
        "bot_id": "1",
        "ticker": "AAPL",
        "side": Side.BUY,
        "effect": Effect.ENTRY,
        "qty": Decimal(10),
        "type": OrderType.MARKET,
        "time_in_force": TimeInForce.DAY,
        "limit_price": None,
        "ref_price": Decimal(100),
        "state": OrderState.INTENT,
        "reason": "test",
        "created_at": NOW,
        "updated_at": NOW,
        "epoch": 1,
        "trading_day": "2026-03-02",
        "position_id": name,
    } | changes
    notional = values["qty"] * (values["limit_price"] or values["ref_price"])
    return Order(**({"reserved": micros(notional)} | values))


def ticket(of: Order, judged: Switches, day: TradingDay, run_id: str = "run-1") -> Ticket:
    return Ticket(of, judged, day, run_id)


def told(of: Order, state: OrderState, filled: str = "0", price: str | None = None, **changes: Any) -> VenueOrder:
    values: dict[str, Any] = {
        "venue_order_id": f"v-{of.client_order_id}",
        "client_order_id": of.client_order_id,
        "ticker": of.ticker,
        "side": of.side,
        "qty": of.qty,
        "state": state,
        "filled_qty": Decimal(filled),
        "avg_fill_price": None if price is None else Decimal(price),
    } | changes
    return VenueOrder(**values)
