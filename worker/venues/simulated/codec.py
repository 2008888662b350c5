"""The simulated venue's wire: the port's values as JSON objects, decimals as strings, times in RFC 3339."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from shared.clock import parse_rfc3339
from worker.core.order_states import AT_VENUE
from worker.core.types import (
    OrderRequest,
    OrderState,
    OrderType,
    OrderUpdate,
    Side,
    TimeInForce,
    VenueOrder,
)
from worker.core.wire import decimal, dump_execution, dump_position, load_execution, load_position

__all__ = ["decimal", "dump_execution", "dump_position", "load_execution", "load_position"]

Json = Mapping[str, Any]


def time_text(moment: datetime | None) -> str | None:
    """Microseconds are kept: the ledger is a witness."""
    return None if moment is None else moment.isoformat()


def read_time(text: str | None) -> datetime | None:
    return None if text is None else parse_rfc3339(text)


def _optional(text: object) -> Decimal | None:
    return None if text is None else decimal(text)


def dump_request(request: OrderRequest) -> dict[str, Any]:
    return {
        "client_order_id": request.client_order_id,
        "ticker": request.ticker,
        "side": request.side.value,
        "qty": str(request.qty),
        "type": request.type.value,
        "time_in_force": request.time_in_force.value,
        "limit_price": None if request.limit_price is None else str(request.limit_price),
        "reduce_only": request.reduce_only,
        "post_only": request.post_only,
        "stop_price": None if request.stop_price is None else str(request.stop_price),
    }


def load_request(found: Json) -> OrderRequest:
    return OrderRequest(
        client_order_id=str(found["client_order_id"]),
        ticker=str(found["ticker"]),
        side=Side(found["side"]),
        qty=decimal(found["qty"]),
        type=OrderType(found["type"]),
        time_in_force=TimeInForce(found["time_in_force"]),
        limit_price=_optional(found.get("limit_price")),
        reduce_only=found.get("reduce_only") is True,
        post_only=found.get("post_only") is True,
        stop_price=_optional(found.get("stop_price")),
    )


def dump_order(order: VenueOrder) -> dict[str, Any]:
    return {
        "venue_order_id": order.venue_order_id,
        "client_order_id": order.client_order_id,
        "ticker": order.ticker,
        "side": order.side.value,
        "qty": str(order.qty),
        "state": order.state.value,
        "type": order.type.value,
        "filled_qty": str(order.filled_qty),
        "avg_fill_price": None if order.avg_fill_price is None else str(order.avg_fill_price),
        "limit_price": None if order.limit_price is None else str(order.limit_price),
        "created_at": time_text(order.created_at),
        "updated_at": time_text(order.updated_at),
        "reason": order.reason,
        "stop_price": None if order.stop_price is None else str(order.stop_price),
        "stop_filled_qty": str(order.stop_filled_qty),
    }


def load_order(found: Json) -> VenueOrder:
    """Raises KeyError, TypeError or ValueError where it is none."""
    if not found["venue_order_id"]:
        raise ValueError("an order without id")
    state, filled = OrderState(found["state"]), decimal(found["filled_qty"])
    if state not in AT_VENUE or filled < 0 or decimal(found["qty"]) <= 0:
        raise ValueError(f"no order of a venue: {state}, {filled} filled of {found['qty']}")
    return VenueOrder(
        venue_order_id=str(found["venue_order_id"]),
        client_order_id=found["client_order_id"],
        ticker=str(found["ticker"]),
        side=Side(found["side"]),
        qty=decimal(found["qty"]),
        state=state,
        type=OrderType(found["type"]),
        filled_qty=filled,
        avg_fill_price=_optional(found["avg_fill_price"]),
        limit_price=_optional(found["limit_price"]),
        created_at=read_time(found["created_at"]),
        updated_at=read_time(found["updated_at"]),
        reason=str(found["reason"]),
        stop_price=_optional(found.get("stop_price")),
        stop_filled_qty=decimal(found.get("stop_filled_qty", "0")),
    )


def dump_update(update: OrderUpdate) -> dict[str, Any]:
    return {
        "order": dump_order(update.order),
        "execution": None if update.execution is None else dump_execution(update.execution),
    }


def load_update(found: Json) -> OrderUpdate:
    execution = found["execution"]
    return OrderUpdate(load_order(found["order"]), None if execution is None else load_execution(execution))
