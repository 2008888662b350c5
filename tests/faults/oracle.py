"""The oracle: Redis against the venue's ledger after a trial. What it finds is a bug of sixbot or of the bench."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

import redis

from tests.faults.venues import TrueOrder, Truth
from worker.core import ids
from worker.core.order_states import STATUS
from worker.core.orders import Order, micros
from worker.core.positions import Position
from worker.core.types import OrderState, Side
from worker.trading.records import read_order, read_position

ZERO = Decimal(0)
IN_FLIGHT_SECONDS = 0.35
DELIVERED_SECONDS = 3.0
"""What passed the gate in time has left within 250 ms; the rest is a busy machine's, before it lets a server run."""
NEVER = {OrderState.REJECTED, OrderState.NOT_SENT}


@dataclass(slots=True)
class Findings:
    """By kind, each with its facts. ``stuck`` is what never happened: a trade after the cure, a proven stop.
    ``pending`` is no finding by itself: something has not settled yet."""

    duplicates: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    phantom: list[str] = field(default_factory=list)
    unintended_on: list[str] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)

    def bad(self) -> dict[str, list[str]]:
        found = {name: getattr(self, name) for name in self.__slots__ if name != "pending"}
        return {name: facts for name, facts in found.items() if facts}

    def clean(self) -> bool:
        return not self.bad() and not self.pending


@dataclass(frozen=True, slots=True)
class Rules:
    """What the trial allowed: shares held per ticker, orders per ticker and day, the day's notional (0: no cap)."""

    most_held: Decimal
    orders_per_ticker: int
    notional_cap: Decimal = ZERO
    log_since: datetime | None = None
    """Where the trades log was destroyed: orders that changed before are not asked for in it."""
    counted_at_least: bool = False
    """Where an order was destroyed: what it had taken from the day is known roughly, and never too little."""


class Book:
    """Everything that Redis holds of orders, read at once."""

    def __init__(self, client: redis.Redis) -> None:
        self.orders = {o.client_order_id: o for o in self._orders(client)}
        self.positions = [read_position(h) for h in _hashes(client, "position:*") if h]
        self.stats = _json(client, "stats") or {}
        self.log = _json(client, "trades_log") or []
        self.counters = {
            key.decode().removeprefix("risk_counters:"): {
                name.decode(): value.decode() for name, value in cast("dict[bytes, bytes]", client.hgetall(key)).items()
            }
            for key in cast("list[bytes]", client.keys("risk_counters:*"))
        }
        self.open_ids = {m.decode() for m in cast("set[bytes]", client.smembers("orders:open"))}

    @staticmethod
    def _orders(client: redis.Redis) -> list[Order]:
        return [read_order(found) for found in _hashes(client, "order:*") if found]


def judge(client: redis.Redis, truth: Truth, rules: Rules) -> Findings:
    """All of it but what needs the trial's timing. Raises RedisError where Redis does not answer."""
    book, found = Book(client), Findings()
    _duplicates(truth, found)
    _against_ledger(book, truth, found)
    _positions(book, truth, found)
    _stats(book, found)
    _log(book, rules, found)
    _counters(book, rules, found)
    _limits(truth, rules, found)
    return found


def _duplicates(truth: Truth, found: Findings) -> None:
    found.duplicates += [f"{name} was sent {n} times" for name, n in truth.posts.items() if n > 1]
    per_id = Counter(o.client_order_id for o in truth.orders)
    found.duplicates += [f"{name} is {n} orders at the venue" for name, n in per_id.items() if n > 1]


def _against_ledger(book: Book, truth: Truth, found: Findings) -> None:
    known = set()
    for true in truth.orders:
        name = true.client_order_id if ids.is_ours(true.client_order_id) else true.venue_order_id
        known.add(name)
        order = book.orders.get(name)
        if order is None and not ids.is_ours(true.client_order_id) and not true.is_open and not true.filled.qty:
            continue  # somebody else's, over and unfilled before the trader looked: no order of the book's
        if order is None:
            found.lost.append(f"order {name} ({true.ticker} {true.side} {true.filled.qty}/{true.qty})")
            continue
        _compare(order, true, found)
    for name, order in book.orders.items():
        if name not in known and order.state not in {*NEVER, OrderState.UNKNOWN, OrderState.ABSENT, OrderState.INTENT}:
            found.phantom.append(f"order {name} is {order.state}, the venue has none")
        if name not in known and order.filled_qty:
            found.phantom.append(f"order {name} has filled {order.filled_qty}, the venue has none")
        if order.state in {OrderState.INTENT, OrderState.UNKNOWN}:
            found.pending.append(f"{name} is {order.state}")


def _compare(order: Order, true: TrueOrder, found: Findings) -> None:
    name, filled = order.client_order_id, true.filled
    if order.filled_qty < filled.qty:
        found.lost.append(f"{name}: {filled.qty} filled at the venue, {order.filled_qty} in the book")
    elif order.filled_qty > filled.qty:
        found.phantom.append(f"{name}: {filled.qty} filled at the venue, {order.filled_qty} in the book")
    elif order.filled_notional != filled.notional or order.fees != filled.fees:
        found.figures.append(
            f"{name}: notional {order.filled_notional} and fees {order.fees} in the book, "
            f"{filled.notional} and {filled.fees} at the venue"
        )
    if order.is_final == true.is_open:
        found.pending.append(f"{name} is {order.state} in the book, {'open' if true.is_open else 'final'} at the venue")


def _positions(book: Book, truth: Truth, found: Findings) -> None:
    held: dict[str, Decimal] = defaultdict(Decimal)
    by_position: dict[str, list[Order]] = defaultdict(list)
    for order in book.orders.values():
        if not order.is_external:
            by_position[order.position_id].append(order)
    for position in book.positions:
        held[position.symbol] += position.signed_qty
        found.figures += _position_faults(position, by_position.pop(position.id, []))
    for name, orders in by_position.items():
        if any(o.filled_qty for o in orders):
            found.figures.append(f"position {name} is missing")
    for ticker in held.keys() | truth.held.keys():
        external = sum(
            (
                o.filled_qty * (1 if o.side is Side.BUY else -1)
                for o in book.orders.values()
                if o.is_external and o.ticker == ticker
            ),
            ZERO,
        )
        if held.get(ticker, ZERO) + external != truth.held.get(ticker, ZERO):
            found.figures.append(
                f"{ticker}: {held.get(ticker, ZERO)} in the book, {truth.held.get(ticker, ZERO)} at the venue"
            )
    wanted = {o.client_order_id for o in book.orders.values() if not o.is_final}
    if book.open_ids != wanted:
        found.figures.append(f"orders:open differs from the orders: {sorted(book.open_ids ^ wanted)}")


def _position_faults(position: Position, orders: list[Order]) -> list[str]:
    def total(side: Side, what: str) -> Decimal:
        return sum((getattr(o, what) for o in orders if o.side is side), ZERO)

    wanted = (
        total(Side.BUY, "filled_qty"),
        total(Side.BUY, "filled_notional"),
        total(Side.SELL, "filled_qty"),
        total(Side.SELL, "filled_notional"),
        sum((o.fees for o in orders), ZERO),
    )
    kept = (
        position.bought_qty,
        position.bought_notional,
        position.sold_qty,
        position.sold_notional,
        position.fees_paid,
    )
    return [] if kept == wanted else [f"position {position.id} keeps {kept}, its orders say {wanted}"]


def _stats(book: Book, found: Findings) -> None:
    if not book.stats:
        if any(o.filled_qty for o in book.orders.values()):
            found.figures.append("stats are missing")
        return
    closed = [p for p in book.positions if p.is_closed]
    ours = [o for o in book.orders.values() if not o.is_external]
    wanted = {
        "successful_trades": len(closed),
        "wins": sum(p.realized_pnl > 0 for p in closed),
        "loss_trades": sum(p.realized_pnl < 0 for p in closed),
        "failed_trades": sum(o.state is OrderState.REJECTED for o in ours),
        "total_pnl": sum((p.realized_pnl for p in closed), ZERO),
        "fees_paid": sum((o.fees for o in ours), ZERO),
    }
    kept = {name: book.stats[name] for name in wanted}
    kept |= {name: Decimal(book.stats["exact"][name]) for name in ("total_pnl", "fees_paid")}
    if kept != wanted:
        found.figures.append(f"stats say {kept}, the book says {wanted}")


def _log(book: Book, rules: Rules, found: Findings) -> None:
    entries = {e["client_order_id"]: e for e in book.log if isinstance(e, dict) and "client_order_id" in e}
    if len(entries) != len(book.log):
        found.figures.append("trades_log has an order twice")
    changed = [o for o in book.orders.values() if not o.is_external and o.history]
    for order in sorted(changed, key=lambda o: o.updated_at)[-100:]:
        entry = entries.get(order.client_order_id)
        if entry is None:
            if rules.log_since is None or order.updated_at > rules.log_since:
                found.figures.append(f"{order.client_order_id} is not in trades_log")
        elif entry["status"] != STATUS[order.state] or (
            order.filled_qty and Decimal(str(entry["qty"])) != order.filled_qty
        ):
            found.figures.append(f"trades_log: {entry} for {order.state} {order.filled_qty}")


def _counters(book: Book, rules: Rules, found: Findings) -> None:
    by_day: dict[str, list[Order]] = defaultdict(list)
    for order in book.orders.values():
        if not order.is_external:
            by_day[order.trading_day].append(order)
    for day, orders in by_day.items():
        kept = book.counters.get(day, {})
        wanted: dict[str, int] = defaultdict(int)
        for order in orders:
            wanted["notional"] += order.reserved
            wanted[f"notional:{order.ticker}"] += order.reserved
            wanted["filled_orders"] += bool(order.filled_qty)
            wanted["filled_notional"] += micros(order.filled_notional)
            if order.state not in NEVER:
                wanted["orders"] += 1
                wanted[f"orders:{order.ticker}"] += 1
        for name, value in wanted.items():
            counted = int(kept.get(name, 0))
            if counted < value or (counted > value and not rules.counted_at_least):
                found.figures.append(f"counter {day} {name} is {kept.get(name)}, the orders say {value}")


def _limits(truth: Truth, rules: Rules, found: Findings) -> None:
    orders: Counter[str] = Counter()
    notional, cap = 0, micros(rules.notional_cap)
    for true in sorted((o for o in truth.orders if ids.is_ours(o.client_order_id)), key=lambda o: o.created_at):
        if true.side == "buy" and orders[true.ticker] >= rules.orders_per_ticker:
            found.limits.append(f"{true.client_order_id}: order {orders[true.ticker] + 1} in {true.ticker}")
        orders[true.ticker] += 1
        notional += micros(true.filled.notional)
        if cap and true.side == "buy" and notional > cap:
            found.limits.append(f"{true.client_order_id}: {notional} > {cap}")
    for ticker, qty in truth.held.items():
        if qty > rules.most_held + truth.late_qty or qty < -truth.late_qty:
            found.limits.append(f"{ticker}: {qty} held, {rules.most_held} allowed")


def late_orders(client: redis.Redis, orders: Iterable[TrueOrder], off_at: datetime) -> list[str]:
    """Orders of ours that passed the gate after trading was off by the gate's own record of its time, or, where the
    book has no such record, reached the venue when nothing could be in flight any more."""
    late = []
    for order in orders:
        if not ids.is_ours(order.client_order_id):
            continue
        gated = cast("bytes | None", client.hget(f"order:{order.client_order_id}", "cooldown_at"))
        if gated is not None and int(gated) > off_at.timestamp() * 1000 + 1:
            late.append(
                f"{order.client_order_id} passed the gate {int(gated) / 1000 - off_at.timestamp():.3f} s after OFF"
            )
        after = (order.created_at - off_at).total_seconds()
        if after > (IN_FLIGHT_SECONDS if gated is None else DELIVERED_SECONDS):
            late.append(f"{order.client_order_id} arrived {after:.3f} s after OFF")
    return late


def _hashes(client: redis.Redis, pattern: str) -> list[Any]:
    names = sorted(cast("list[bytes]", client.keys(pattern)))
    with client.pipeline(transaction=True) as pipe:
        for name in names:
            pipe.hgetall(name)
        return pipe.execute()


def _json(client: redis.Redis, key: str) -> Any:
    raw = cast("bytes | None", client.get(key))
    return None if raw is None else json.loads(raw)
