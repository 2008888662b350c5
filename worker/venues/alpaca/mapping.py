"""Alpaca's JSON to the port's values, and its errors to ours: every table in one place.

Numbers are strings on the trading API; what is not finite, not known or missing is a ValueError here, and the caller
decides whether that means "unknown" or "not read".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from shared.clock import parse_rfc3339
from worker.core.types import (
    AccountState,
    Bar,
    Execution,
    Instrument,
    LastPrice,
    MarketClock,
    OrderState,
    OrderType,
    OrderUpdate,
    Side,
    VenueOrder,
    VenuePosition,
)
from worker.venues.alpaca.figures import decimal, optional, optional_positive, positive, time
from worker.venues.base import CancelOutcome, CancelResult

S = OrderState
TICK = timedelta(microseconds=1)
_PLACES = Decimal("1e-9")
Json = Mapping[str, Any]

STATUS: dict[str, OrderState] = {
    "pending_new": S.SUBMITTED,
    "accepted": S.ACCEPTED,
    "accepted_for_bidding": S.ACCEPTED,
    "pending_review": S.ACCEPTED,
    "new": S.ACCEPTED,
    "held": S.ACCEPTED,
    "stopped": S.ACCEPTED,
    "suspended": S.ACCEPTED,
    "calculated": S.ACCEPTED,
    "done_for_day": S.ACCEPTED,
    "pending_replace": S.ACCEPTED,
    "partially_filled": S.PARTIALLY_FILLED,
    "pending_cancel": S.PENDING_CANCEL,
    "filled": S.FILLED,
    "canceled": S.CANCELED,
    "expired": S.EXPIRED,
    "replaced": S.REPLACED,
    "rejected": S.REJECTED,
}
"""Order status to ours. ``calculated`` and ``done_for_day`` may still change, so they are not final."""

WORD = re.compile(r"[a-z_]{1,40}")

_ORDER_TYPE = {
    "market": OrderType.MARKET,
    "limit": OrderType.LIMIT,
    "stop": OrderType.STOP,
    "stop_limit": OrderType.STOP_LIMIT,
    "trailing_stop": OrderType.STOP,
}
_SIDE = {"buy": Side.BUY, "sell": Side.SELL, "sell_short": Side.SELL}

DUPLICATE_ID = re.compile(r"client[ _-]?order[ _-]?id|\bunique\b|\bduplicate|already exists", re.IGNORECASE)
"""Any word of our id in a refusal: the order may exist, and only asking for it tells."""
NOT_FOUND_CODE = 40410000
NO_ENDPOINT = re.compile(r"\b(endpoint|route|path|url|page|resource)\b", re.IGNORECASE)
"""Not an order or an asset is missing, but the question itself: ``endpoint not found``."""
REFUSALS: dict[int, re.Pattern[str]] = {
    40010000: re.compile(r".*"),
    40010001: re.compile(r".*"),
    40110000: re.compile(r".*"),
    40310000: re.compile(r"(?!.*rate limit).*", re.DOTALL),
    42210000: re.compile(r".*"),
}
"""The allow-list of final refusals, by body code and message; the HTTP status alone says too little."""

QUOTES = ("USDT", "USDC", "USD", "BTC")


def symbol(raw: str, asset_class: str = "") -> str:
    """``BTCUSD`` of a crypto position is ``BTC/USD`` everywhere else."""
    if asset_class == "crypto" and "/" not in raw:
        for quote in QUOTES:
            if raw.endswith(quote) and len(raw) > len(quote):
                return f"{raw.removesuffix(quote)}/{quote}"
    return raw


def order(found: Json) -> VenueOrder:
    """One order. Raises KeyError, TypeError or ValueError where it is none."""
    if not found["id"]:
        raise ValueError("an order without id")
    filled = optional(found.get("filled_qty")) or Decimal(0)
    if filled < 0:
        raise ValueError(f"negative quantity in order {found['id']}")
    qty = optional_positive(found.get("qty"))
    average = optional_positive(found.get("filled_avg_price")) if filled else None
    limit_price = optional_positive(found.get("limit_price"))
    if qty is None:
        qty = filled if found["status"] == "filled" else _wanted(found, average or limit_price) or filled
    legs = [leg for leg in found.get("legs") or () if found.get("order_class") == "mleg"]
    shown = legs[0] if legs and not found.get("side") else found  # a spread has neither symbol nor side of its own
    return VenueOrder(
        venue_order_id=str(found["id"]),
        client_order_id=found.get("client_order_id"),
        ticker=symbol(str(found.get("symbol") or shown["symbol"]), str(found.get("asset_class", ""))),
        side=_SIDE[shown["side"]],
        qty=qty,
        state=_state(found["status"]),
        type=_ORDER_TYPE[found.get("type") or found["order_type"]],
        filled_qty=filled,
        avg_fill_price=average,
        limit_price=limit_price,
        created_at=_created(found),
        updated_at=time(found.get("updated_at")),
        replaces=str(found.get("replaces") or ""),
        reason="" if str(found["status"]) in STATUS else f"a status that is not known: {found['status']}",
    )


def only_named(found: Any) -> list[VenueOrder]:
    """What makes no sense but has an id, as an order that works: enough to cancel it by; else nothing."""
    name, ours = (found.get("id"), found.get("client_order_id")) if isinstance(found, dict) else (None, None)
    if not isinstance(name, str) or not name:
        return []
    try:
        created = _created(found)
    except (TypeError, ValueError):
        created = None
    named = ours if isinstance(ours, str) else None
    return [VenueOrder(name, named, str(found.get("symbol")), Side.BUY, Decimal(0), S.ACCEPTED, created_at=created)]


def _state(status: object) -> OrderState:
    """What is not known surely is nothing final: such an order counts as working, and hides no other. Raises
    ValueError for what is no word."""
    if not isinstance(status, str) or not WORD.fullmatch(status):
        raise ValueError(f"not a status: {str(status)[:40]!r}")
    return STATUS.get(status, S.ACCEPTED)


def _wanted(found: Json, price: Decimal | None) -> Decimal | None:
    """What an order by notional may become at a price, in Alpaca's nine places."""
    notional = optional_positive(found.get("notional"))
    return (notional / price).quantize(_PLACES) if notional and price else None


def _created(found: Json) -> datetime | None:
    """A leg is submitted when its parent has filled, perhaps days later, and is listed by the parent's time."""
    known = [at for at in (time(found.get("submitted_at")), time(found.get("created_at"))) if at is not None]
    return min(known, default=None)


def made_at(found: Json) -> datetime | None:
    """When an order was made, where that is told. Raises ValueError."""
    return time(found.get("created_at"))


def with_legs(found: Json) -> Iterator[Json]:
    """An order and the legs nested in it."""
    yield found
    for leg in found.get("legs") or ():
        yield from with_legs(leg)


def activity(found: Json) -> Execution:
    """A FILL activity; its id ends in the execution's own id after ``::``."""
    return Execution(
        execution_id=str(found["id"]).rpartition("::")[2],
        venue_order_id=str(found["order_id"]),
        client_order_id=None,
        ticker=str(found["symbol"]),
        side=_SIDE[found["side"]],
        qty=positive(found["qty"]),
        price=positive(found["price"]),
        fee=optional(found.get("commission")) or Decimal(0),
        time=parse_rfc3339(found["transaction_time"]),
        derived=True,
    )


def update(found: Json) -> OrderUpdate:
    """The ``data`` of one ``trade_updates`` message."""
    changed = order(found["order"])
    if found["event"] not in {"fill", "partial_fill"} or not found.get("execution_id"):
        return OrderUpdate(changed)
    at = time(found.get("timestamp")) or changed.updated_at
    if at is None:
        raise ValueError("a fill without time")
    return OrderUpdate(
        changed,
        Execution(
            execution_id=str(found["execution_id"]),
            venue_order_id=changed.venue_order_id,
            client_order_id=changed.client_order_id,
            ticker=changed.ticker,
            side=changed.side,
            qty=positive(found["qty"]),
            price=positive(found["price"]),
            fee=Decimal(0),
            time=at,
        ),
    )


def position(found: Json) -> VenuePosition:
    qty = decimal(found["qty"])
    if found.get("side", "long") not in {"long", "short"}:
        raise ValueError(f"a position's side is {found['side']!r}")
    short, entry = qty < 0 or found.get("side") == "short", decimal(found["avg_entry_price"])
    cost = -abs(qty) * entry if short else abs(qty) * entry
    # Both are null where Alpaca has no price (alpaca-py, Position): one such row must not hide all others.
    value = cost if found["market_value"] is None else decimal(found["market_value"])
    profit = value - cost if found["unrealized_pl"] is None else decimal(found["unrealized_pl"])
    return VenuePosition(
        ticker=symbol(str(found["symbol"]), str(found.get("asset_class", ""))),
        qty=abs(qty),
        side="short" if short else "long",
        avg_entry_price=entry,
        market_value=value,
        unrealized_pl=profit,
    )


def account(found: Json) -> AccountState:
    blocked = any(
        found.get(n) not in (False, None) for n in ("trading_blocked", "account_blocked", "trade_suspended_by_user")
    ) or found.get("status") not in (None, "ACTIVE")
    return AccountState(
        equity=decimal(found["equity"]),
        cash=decimal(found["cash"]),
        buying_power=Decimal(0) if blocked else decimal(found["buying_power"]),
        currency=str(found.get("currency", "USD")),
        trading_blocked=blocked,
    )


def clock(found: Json) -> MarketClock:
    if not isinstance(found["is_open"], bool):
        raise ValueError(f"is_open is {found['is_open']!r}")
    return MarketClock(
        now=parse_rfc3339(found["timestamp"]),
        is_open=found["is_open"],
        next_open=time(found.get("next_open")),
        next_close=time(found.get("next_close")),
    )


def instrument(found: Json) -> Instrument:
    crypto = found.get("class") == "crypto"
    lot = optional_positive(found.get("min_trade_increment")) if crypto else Decimal(1)
    least = optional_positive(found.get("min_order_size")) if crypto else None
    return Instrument(
        ticker=str(found["symbol"]),
        lot_size=lot or Decimal("0.000000001"),
        tick_size=(optional_positive(found.get("price_increment")) if crypto else None) or Decimal("0.01"),
        tradable=found.get("tradable") is True and found.get("status") == "active",
        protective_pair=found.get("class") == "us_equity",
        min_qty=least or Decimal(0),
    )


def last_price(found: Json) -> LastPrice:
    return LastPrice(positive(found["p"]), parse_rfc3339(found["t"]))


def bar(found: Json) -> Bar:
    opened, high, low, close = (float(positive(found[name])) for name in ("o", "h", "l", "c"))
    volume = decimal(found["v"])
    if volume < 0:
        raise ValueError(f"negative volume: {volume}")
    return Bar(parse_rfc3339(found["t"]), opened, high, low, close, float(volume))


def cancel_row(row: Any) -> CancelResult:
    status = int(row["status"])
    if status in {200, 204, 207}:
        return CancelResult(str(row["id"]), CancelOutcome.REQUESTED)
    outcome = CancelOutcome.ALREADY_FINAL if status in {404, 422} else CancelOutcome.UNCONFIRMED
    return CancelResult(str(row["id"]), outcome, f"status {status}")


def fills_in(rows: Any) -> tuple[list[Execution], list[str]]:
    """Fills, and the ids of those that make no sense: their orders tell what has filled all the same.

    Raises KeyError, TypeError or ValueError for what is no fill of any order.
    """
    found, odd = list[Execution](), list[str]()
    for row in rows:
        name, of = row["id"], row["order_id"]
        if not (isinstance(name, str) and name and isinstance(of, str) and of):
            raise ValueError(f"a fill of no order: {str(row)[:80]}")
        try:
            found.append(activity(row))
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError):
            odd.append(name)
    return found, odd


def until(rows: Any) -> str:
    """Where the next page begins: ``until`` is exclusive, so a tick past the oldest, cut to microseconds by us."""
    oldest = min(parse_rfc3339(row.get("submitted_at") or row["created_at"]) for row in rows)
    return (oldest + TICK).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def structured(body: str) -> tuple[int, str] | None:
    """Code and message of an error body; None where it is not Alpaca's own JSON."""
    try:
        found = json.loads(body)
        code, message = found["code"], found["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return (code, str(message)) if isinstance(code, int) and not isinstance(code, bool) else None


def is_final_refusal(status: int, code: int, message: str) -> bool:
    """Whether an answer to a new order says that the order will never exist."""
    pattern = REFUSALS.get(code)
    told = pattern is not None and not DUPLICATE_ID.search(message) and bool(pattern.match(message))
    return told and 400 <= status < 500 and status not in {408, 429}
