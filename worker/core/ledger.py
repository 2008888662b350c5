"""One change to one order, and everything that follows from it: executions, position, statistics, the trades log.

``take_in`` is what every source of news goes through (the answer to a submit, a pushed update, a query), so that the
figures agree with each other whatever arrives, in whatever order and however often.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
from msgspec.structs import replace

from shared.clock import rfc3339
from shared.documents import json_number
from shared.keys import TRADES_LOG_LENGTH
from worker.core.foreign import Holdings, share_out
from worker.core.order_states import STATUS
from worker.core.orders import EXTERNAL, Order, act, correct_fee, micros, observe
from worker.core.positions import Position, add_fill
from worker.core.stats import Stats, outcome_of
from worker.core.types import Effect, Execution, OrderState, Side, VenueOrder

ZERO = Decimal(0)

NOTHING_HELD = Holdings({}, None)

OTHER_EXIT = "MANUAL"
"""The exit reason of every close that no level, time limit, stop or liquidation caused; the cycle's own sells too."""


class Bundle(msgspec.Struct, frozen=True, gc=False):
    """An order with its executions by id and its position (None before the first fill).

    A foreign order has no position of its own, but ``holdings``: what its fills may touch.
    """

    order: Order
    executions: Mapping[str, Execution]
    position: Position | None
    holdings: Holdings = NOTHING_HELD

    @property
    def positions(self) -> Mapping[str, Position]:
        """Every position that the order can change, by id."""
        return self.holdings.positions if self.position is None else {self.position.id: self.position}


class Change(msgspec.Struct, frozen=True, gc=False):
    """What was and what is; ``reserved_delta`` is what the day's counters must change by, in 1e-6."""

    before: Bundle
    after: Bundle

    @property
    def changed(self) -> bool:
        return self.after != self.before

    @property
    def reserved_delta(self) -> int:
        return self.after.order.reserved - self.before.order.reserved

    @property
    def taken_from_day(self) -> int:
        """What the counters of the order's trading day change by, in 1e-6: on a new day, all that may still fill."""
        after = self.after.order
        if after.trading_day != self.before.order.trading_day:
            return after.reserved - micros(after.filled_notional)
        return self.reserved_delta

    @property
    def released_count(self) -> bool:
        """Whether the order turned out never to have worked: its count and cooldown are given back."""
        return self.after.order.never_worked and not self.before.order.never_worked

    @property
    def retaken_count(self) -> bool:
        """Whether the order works or filled after all, although its count and cooldown were given back."""
        return self.before.order.never_worked and not self.after.order.never_worked

    def first_fill(self, day_of: Callable[[datetime], str]) -> bool:
        """Whether the order fills for the first time on its trading day: one that works since an earlier day may have
        filled then, too. ``day_of`` names the trading day of a moment."""
        before, after = self.before.order, self.after.order
        if after.filled_qty == before.filled_qty:
            return False
        if not before.filled_qty:
            return True
        today = after.trading_day
        return day_of(after.created_at) != today and not any(
            day_of(e.time) == today for e in self.before.executions.values()
        )

    @property
    def moved(self) -> list[tuple[Position | None, Position]]:
        """Positions that changed, as they were (None: there was none) and as they are."""
        known = self.before.positions
        return [(known.get(name), p) for name, p in self.after.positions.items() if known.get(name) != p]

    @property
    def fees_delta(self) -> Decimal:
        """What we paid in fees by this change."""
        return sum((now.fees_paid - (was.fees_paid if was is not None else ZERO) for was, now in self.moved), ZERO)

    @property
    def dust_delta(self) -> Decimal:
        """What this change left at the venue, too little to be sold."""
        return sum((now.dust - (was.dust if was is not None else ZERO) for was, now in self.moved), ZERO)


def take_in(bundle: Bundle, told: VenueOrder, executions: Sequence[Execution], now: datetime, *, venue: str) -> Bundle:
    """Account for what a venue told about an order."""
    known = dict(bundle.executions)
    for execution in executions:
        if execution.execution_id not in known and not _beyond(execution, known.values(), bundle.order, told):
            known[execution.execution_id] = execution
    order = observe(bundle.order, told, known.values(), now)
    times = [e.time for e in known.values()]
    filled_at = max(times) if times else told.updated_at or now
    if order.is_external:
        order, holdings = share_out(bundle.order, order, known.values(), bundle.holdings, filled_at)
        return Bundle(order, known, None, holdings)
    return Bundle(order, known, _position(bundle, order, filled_at, venue))


def _beyond(execution: Execution, known: Iterable[Execution], order: Order, told: VenueOrder) -> bool:
    """Whether an execution is more than the venue says has filled in all: one that is known already, told again under
    another id. Where the venue's total is late instead, its list brings the execution once more."""
    if execution.derived and order.is_external:
        return False  # a list of fills may be all that is told of it
    same_way = sum((e.qty for e in known if e.derived is execution.derived), execution.qty)
    return same_way > max(told.filled_qty, order.filled_qty)


def take_act(bundle: Bundle, state: OrderState, now: datetime, note: str) -> Bundle:
    """Account for an act of ours: NOT_SENT, REJECTED, UNKNOWN, ABSENT. Raises IllegalTransition."""
    return replace(bundle, order=act(bundle.order, state, now, note))


def take_fee(bundle: Bundle, taken: Decimal, now: datetime, *, venue: str) -> Bundle:
    """Account for a fee in the base currency that no fill told: the venue holds so much less of what filled."""
    order = correct_fee(bundle.order, taken, now)
    return replace(bundle, order=order, position=_position(bundle, order, now, venue))


def _position(bundle: Bundle, order: Order, filled_at: datetime, venue: str) -> Position | None:
    before = bundle.order
    qty = order.filled_qty - before.filled_qty
    notional = order.filled_notional - before.filled_notional
    fees, base_fees = order.fees - before.fees, order.base_fees - before.base_fees
    entry = order.effect is Effect.ENTRY
    ended = entry and order.is_final and not before.is_final and bundle.position is not None
    if not (qty or notional or fees or base_fees or ended):
        return bundle.position
    position = bundle.position or Position(
        id=order.position_id,
        bot_id=order.bot_id,
        venue=venue,
        account=order.account,
        symbol=order.ticker,
        side="long" if order.side is Side.BUY else "short",
        entry_order_id=order.client_order_id,
        entry_time=filled_at,
        reason=order.reason,
        confidence=order.confidence,
        take_profit=order.take_profit,
        stop_loss=order.stop_loss,
        least_qty=order.least_qty,
    )
    entering = entry and not order.is_final
    changed = add_fill(
        position, order.side, qty, notional, fees, order.client_order_id, filled_at, base_fees, entering=entering
    )
    if changed.is_closed and not changed.exit_reason:
        changed = replace(changed, exit_reason=order.exit_reason or OTHER_EXIT)
    return changed


def update_stats(stats: Stats, change: Change, day_of: Callable[[datetime], str]) -> Stats:
    """Statistics after a change: refused orders (one that worked after all is none), fees, and round trips that it
    completed or reopened.

    ``day_of`` names the trading day of a moment.
    """
    before, after = change.before.order, change.after.order
    refused = (after.state is OrderState.REJECTED) - (before.state is OrderState.REJECTED)
    if refused and not after.is_external:
        stats = replace(stats, failed=max(stats.failed + refused, 0))
    stats = replace(stats, fees=stats.fees + change.fees_delta)
    for was, now in change.moved:
        old = outcome_of(was, day_of) if was is not None else None
        new = outcome_of(now, day_of)
        if old is not None:
            stats = stats.with_outcome(old, -1)
        if new is not None:
            stats = stats.with_outcome(new)
    return stats


def own_part(order: Order) -> tuple[Decimal, Decimal]:
    """Quantity and notional of the order's fills that are in positions of ours."""
    if not order.is_external:
        return order.filled_qty, order.filled_notional
    ours = [c for c in order.claims if c.position_id]
    return sum((c.qty for c in ours), ZERO), sum((c.notional for c in ours), ZERO)


def log_entry(order: Order) -> dict[str, Any]:
    """The order's entry in ``trades_log``; of a foreign order, the part that closed positions of ours."""
    qty, total = own_part(order)
    price = total / qty if qty else order.limit_price or order.ref_price
    if not qty:
        qty, total = order.qty, price * order.qty
    return {
        "time": rfc3339(order.created_at),
        "ticker": order.ticker,
        "side": order.side.value,
        "qty": json_number(qty),
        "price": json_number(price),
        "total_value": json_number(total),
        "reason": "; ".join(filter(None, (EXTERNAL if order.is_external else "", order.reason, order.note))),
        "order_id": order.venue_order_id or order.client_order_id,
        "status": STATUS[order.state],
        "client_order_id": order.client_order_id,
    }


def update_log(log: object, order: Order) -> list[Any]:
    """``trades_log`` with the order's entry updated in place or appended: at most 200, the newest last."""
    entries = list(log) if isinstance(log, list) else []
    if order.is_external and not own_part(order)[0]:
        return entries
    entry = log_entry(order)
    for index in range(len(entries) - 1, -1, -1):
        found = entries[index]
        if isinstance(found, dict) and found.get("client_order_id") == order.client_order_id:
            entries[index] = entry
            break
    else:
        entries.append(entry)
    return entries[-TRADES_LOG_LENGTH:]
