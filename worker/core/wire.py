"""Executions and holdings as JSON objects, one table for every place that keeps or sends them. Decimals are strings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from shared.clock import parse_rfc3339
from worker.core.types import Execution, Side, VenuePosition

Json = Mapping[str, Any]


def decimal(text: object) -> Decimal:
    """A finite decimal from its text. Raises ValueError or ArithmeticError."""
    value = Decimal(str(text))
    if not value.is_finite():
        raise ValueError(f"not a number: {text!r}")
    return value


def time_text(moment: datetime) -> str:
    """RFC 3339 in UTC with every microsecond: fills are told apart by less than a millisecond."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def dump_execution(execution: Execution) -> dict[str, Any]:
    return {
        "execution_id": execution.execution_id,
        "venue_order_id": execution.venue_order_id,
        "client_order_id": execution.client_order_id,
        "ticker": execution.ticker,
        "side": execution.side.value,
        "qty": str(execution.qty),
        "price": str(execution.price),
        "fee": str(execution.fee),
        "time": time_text(execution.time),
        "derived": execution.derived,
        "fee_currency": execution.fee_currency,
    }


def load_execution(found: Json) -> Execution:
    """Raises KeyError, TypeError, ValueError or ArithmeticError where it is none."""
    return Execution(
        execution_id=str(found["execution_id"]),
        venue_order_id=str(found["venue_order_id"]),
        client_order_id=found["client_order_id"],
        ticker=str(found["ticker"]),
        side=Side(found["side"]),
        qty=decimal(found["qty"]),
        price=decimal(found["price"]),
        fee=decimal(found["fee"]),
        time=parse_rfc3339(found["time"]),
        derived=found.get("derived") is True,
        fee_currency=str(found.get("fee_currency", "")),
    )


def dump_position(position: VenuePosition) -> dict[str, str]:
    """A row of ``portfolio_positions``."""
    return {
        "ticker": position.ticker,
        "qty": str(position.qty),
        "avg_entry_price": str(position.avg_entry_price),
        "market_value": str(position.market_value),
        "unrealized_pl": str(position.unrealized_pl),
        "side": position.side,
    }


def load_position(found: Json) -> VenuePosition:
    """Raises KeyError, TypeError, ValueError or ArithmeticError where it is none."""
    return VenuePosition(
        ticker=str(found["ticker"]),
        qty=decimal(found["qty"]),
        side=str(found["side"]),
        avg_entry_price=decimal(found["avg_entry_price"]),
        market_value=decimal(found["market_value"]),
        unrealized_pl=decimal(found["unrealized_pl"]),
    )
