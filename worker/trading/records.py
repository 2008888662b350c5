"""Orders, executions and positions as Redis hashes and back: one table of fields each way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from shared.clock import parse_rfc3339, rfc3339
from worker.core.orders import Claim, Order
from worker.core.positions import Position
from worker.core.types import Effect, Execution, OrderState, OrderType, Side, TimeInForce
from worker.core.wire import dump_execution, load_execution

Hash = Mapping[bytes, bytes]


def order_fields(order: Order) -> dict[str, str]:
    """The hash ``order:{client_order_id}``; ``avg_fill_price`` and ``notional`` are for readers only."""
    return {
        "client_order_id": order.client_order_id,
        "venue_order_id": order.venue_order_id,
        "account": order.account,
        "bot_id": order.bot_id,
        "ticker": order.ticker,
        "side": order.side.value,
        "effect": order.effect.value,
        "type": order.type.value,
        "time_in_force": order.time_in_force.value,
        "qty": str(order.qty),
        "filled_qty": str(order.filled_qty),
        "limit_price": _text(order.limit_price),
        "avg_fill_price": _text(order.avg_fill_price),
        "notional": str(order.notional),
        "state": order.state.value,
        "reason": order.reason,
        "note": order.note,
        "created_at": rfc3339(order.created_at),
        "updated_at": rfc3339(order.updated_at),
        "epoch": str(order.epoch),
        "history": json.dumps(order.history) if order.history else "[]",
        "ref_price": str(order.ref_price),
        "trading_day": order.trading_day,
        "reserved": str(order.reserved),
        "position_id": order.position_id,
        "filled_notional": str(order.filled_notional),
        "fees": str(order.fees),
        "claims": _claims(order),
        "version": str(order.version),
        "exit_reason": order.exit_reason,
        "confidence": order.confidence,
        "take_profit": order.take_profit,
        "stop_loss": order.stop_loss,
        "post_only": "1" if order.post_only else "",
        "stop_price": _text(order.stop_price),
        "base_fees": str(order.base_fees),
        "fee_correction": str(order.fee_correction),
        "least_qty": str(order.least_qty),
    }


def _claims(order: Order) -> str:
    """None in most orders, of which this is written for every change."""
    if not order.claims:
        return "[]"
    return json.dumps([[c.position_id, str(c.qty), str(c.notional), str(c.fees)] for c in order.claims])


def read_order(found: Hash) -> Order:
    """The inverse. Raises KeyError, ValueError or ArithmeticError on a mangled hash."""
    text = {name.decode(): value.decode() for name, value in found.items()}
    return Order(
        client_order_id=text["client_order_id"],
        account=text["account"],
        bot_id=text["bot_id"],
        ticker=text["ticker"],
        side=Side(text["side"]),
        effect=Effect(text["effect"]),
        qty=Decimal(text["qty"]),
        type=OrderType(text["type"]),
        time_in_force=TimeInForce(text["time_in_force"]),
        limit_price=_decimal(text["limit_price"]),
        ref_price=Decimal(text["ref_price"]),
        state=OrderState(text["state"]),
        reason=text["reason"],
        created_at=parse_rfc3339(text["created_at"]),
        updated_at=parse_rfc3339(text["updated_at"]),
        epoch=int(text["epoch"]),
        trading_day=text["trading_day"],
        reserved=int(text["reserved"]),
        position_id=text["position_id"],
        venue_order_id=text["venue_order_id"],
        filled_qty=Decimal(text["filled_qty"]),
        filled_notional=Decimal(text["filled_notional"]),
        fees=Decimal(text["fees"]),
        note=text["note"],
        history=tuple((at, state) for at, state in json.loads(text["history"])),
        claims=tuple(
            Claim(name, Decimal(qty), Decimal(notional), Decimal(fees))
            for name, qty, notional, fees in json.loads(text.get("claims", "[]"))
        ),
        version=int(text["version"]),
        exit_reason=text.get("exit_reason", ""),
        confidence=text.get("confidence", ""),
        take_profit=text.get("take_profit", ""),
        stop_loss=text.get("stop_loss", ""),
        post_only=bool(text.get("post_only")),
        stop_price=_decimal(text.get("stop_price", "")),
        base_fees=Decimal(text.get("base_fees", "0")),
        fee_correction=Decimal(text.get("fee_correction", "0")),
        least_qty=Decimal(text.get("least_qty", "0")),
    )


def execution_text(execution: Execution) -> str:
    """A value of the hash ``fills:{client_order_id}``."""
    return json.dumps(dump_execution(execution))


def read_execution(raw: bytes) -> Execution:
    """The inverse. Raises KeyError, TypeError, ValueError or ArithmeticError on a mangled value."""
    return load_execution(json.loads(raw))


def position_fields(position: Position) -> dict[str, str]:
    """The hash ``position:{id}``: the contract's fields, and the sums that they are computed from."""
    duration = (position.exit_time - position.entry_time).total_seconds() / 60 if position.exit_time else None
    closed = position.is_closed
    return {
        "id": position.id,
        "bot_id": position.bot_id,
        "venue": position.venue,
        "account": position.account,
        "symbol": position.symbol,
        "side": position.side,
        "leverage": "1",
        "status": position.status,
        "quantity": str(position.quantity),
        "entry_price": _text(position.entry_price),
        "entry_time": rfc3339(position.entry_time),
        "confidence": position.confidence,
        "strategy_used": position.strategy_used,
        "take_profit": position.take_profit,
        "stop_loss": position.stop_loss,
        "reason": position.reason,
        "entry_order_id": position.entry_order_id,
        "exit_order_id": position.exit_order_id,
        "exit_price": _text(position.exit_price),
        "exit_time": rfc3339(position.exit_time) if position.exit_time else "",
        "exit_reason": position.exit_reason,
        "realized_pnl": str(position.realized_pnl),
        "pnl_usd": str(position.realized_pnl) if closed else "",
        "pnl_percentage": str(position.pnl_percentage) if closed else "",
        "is_winning": str(position.realized_pnl > 0).lower() if closed else "",
        "fees_paid": str(position.fees_paid),
        "quote_fees": str(position.quote_fees),
        "base_fees": str(position.base_fees),
        "dust": str(position.dust),
        "least_qty": str(position.least_qty),
        "trade_duration_minutes": f"{duration:.2f}" if duration is not None else "",
        "bought_qty": str(position.bought_qty),
        "bought_notional": str(position.bought_notional),
        "sold_qty": str(position.sold_qty),
        "sold_notional": str(position.sold_notional),
    }


def read_position(found: Hash) -> Position:
    """The inverse. Raises KeyError, ValueError or ArithmeticError on a mangled hash."""
    text = {name.decode(): value.decode() for name, value in found.items()}
    return Position(
        id=text["id"],
        bot_id=text["bot_id"],
        venue=text["venue"],
        account=text["account"],
        symbol=text["symbol"],
        side=text["side"],
        entry_order_id=text["entry_order_id"],
        entry_time=parse_rfc3339(text["entry_time"]),
        reason=text["reason"],
        confidence=text["confidence"],
        strategy_used=text["strategy_used"],
        take_profit=text.get("take_profit", ""),
        stop_loss=text.get("stop_loss", ""),
        bought_qty=Decimal(text["bought_qty"]),
        bought_notional=Decimal(text["bought_notional"]),
        sold_qty=Decimal(text["sold_qty"]),
        sold_notional=Decimal(text["sold_notional"]),
        quote_fees=Decimal(text.get("quote_fees", text["fees_paid"])),
        base_fees=Decimal(text.get("base_fees", "0")),
        dust=Decimal(text.get("dust", "0")),
        least_qty=Decimal(text.get("least_qty", "0")),
        exit_order_id=text["exit_order_id"],
        exit_time=_time(text["exit_time"]),
        exit_reason=text["exit_reason"],
    )


def _text(value: Decimal | None) -> str:
    return "" if value is None else str(value)


def _decimal(text: str) -> Decimal | None:
    return Decimal(text) if text else None


def _time(text: str) -> datetime | None:
    return parse_rfc3339(text) if text else None
