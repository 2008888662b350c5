"""The order: one record, and one function that takes in what a venue says. Its states are in ``order_states``."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from math import ceil

import msgspec
from msgspec.structs import replace

from shared.clock import rfc3339
from shared.errors import IllegalTransition
from worker.core.order_states import FINAL, STANDING, TRANSITIONS
from worker.core.order_totals import Totals, grown
from worker.core.types import (
    Effect,
    Execution,
    ExitReason,
    OrderRequest,
    OrderState,
    OrderType,
    Side,
    TimeInForce,
    VenueOrder,
)

EXTERNAL = "EXTERNAL"
"""``bot_id`` of an order that is not ours: shown, but in no figure, no counter and no position of ours."""

GIVEN_UP = "resolved by hand: not there"
"""The note of an order that a person called absent; it is NOT_SENT, and may still surprise."""

NO_STOP = "the venue holds no stop beside the limit"

MICRO = Decimal(1_000_000)


def micros(amount: Decimal) -> int:
    """Money as an integer of 1e-6, rounded up: what the counters hold."""
    return ceil(amount * MICRO)


class Claim(msgspec.Struct, frozen=True, gc=False):
    """What a foreign order's fills did to a position of ours, or with no ``position_id``: what stays others'."""

    position_id: str
    qty: Decimal
    notional: Decimal
    fees: Decimal


class Order(msgspec.Struct, frozen=True, gc=False):
    """One order of ours, or a foreign one (``bot_id`` EXTERNAL, named by the venue's id).

    ``filled_qty`` and ``filled_notional`` are the best known totals and only grow. ``fees`` were paid in the quote
    currency; ``base_fees`` is the quantity that fees took from what filled, ``fee_correction`` the part of it that no
    fill told. ``least_qty`` is the least that can be sold of the ticker, 0 where that is not known. ``reserved`` is
    what the order takes from the day's cap, in 1e-6 of the quote currency. ``claims`` share a foreign order's fills
    out, in the order in which they filled. ``version`` counts writes. ``exit_reason`` is what a position is closed for
    when this order closes it. ``stop_price`` makes it a protective pair; it is gone where the venue shows that no stop
    stands.
    """

    client_order_id: str
    account: str
    bot_id: str
    ticker: str
    side: Side
    effect: Effect
    qty: Decimal
    type: OrderType
    time_in_force: TimeInForce
    limit_price: Decimal | None
    ref_price: Decimal
    state: OrderState
    reason: str
    created_at: datetime
    updated_at: datetime
    epoch: int
    trading_day: str
    reserved: int
    position_id: str
    venue_order_id: str = ""
    filled_qty: Decimal = Decimal(0)
    filled_notional: Decimal = Decimal(0)
    fees: Decimal = Decimal(0)
    note: str = ""
    history: tuple[tuple[str, str], ...] = ()
    claims: tuple[Claim, ...] = ()
    version: int = 0
    exit_reason: str = ""
    confidence: str = ""
    take_profit: str = ""
    stop_loss: str = ""
    post_only: bool = False
    stop_price: Decimal | None = None
    base_fees: Decimal = Decimal(0)
    fee_correction: Decimal = Decimal(0)
    least_qty: Decimal = Decimal(0)

    @property
    def notional(self) -> Decimal:
        """What the order may cost: quantity times its limit, else the price at the decision."""
        return self.qty * (self.limit_price if self.limit_price is not None else self.ref_price)

    @property
    def avg_fill_price(self) -> Decimal | None:
        return self.filled_notional / self.filled_qty if self.filled_qty else None

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    @property
    def is_external(self) -> bool:
        return self.bot_id == EXTERNAL

    @property
    def never_worked(self) -> bool:
        """Whether it was refused or never left, as far as is known: no fill says otherwise."""
        return self.state in {OrderState.REJECTED, OrderState.NOT_SENT} and not self.filled_qty

    @property
    def open_qty(self) -> Decimal:
        """What may still fill."""
        return Decimal(0) if self.is_final else max(self.qty - self.filled_qty, Decimal(0))

    def request(self) -> OrderRequest:
        """What is sent to the venue."""
        return OrderRequest(
            client_order_id=self.client_order_id,
            ticker=self.ticker,
            side=self.side,
            qty=self.qty,
            type=self.type,
            time_in_force=self.time_in_force,
            limit_price=self.limit_price,
            reduce_only=self.effect is Effect.EXIT,
            post_only=self.post_only,
            stop_price=self.stop_price,
        )


def act(order: Order, state: OrderState, now: datetime, note: str = "") -> Order:
    """Our own act. Raises IllegalTransition where the table has no such arrow."""
    if state not in TRANSITIONS[order.state]:
        raise IllegalTransition(f"{order.client_order_id}: {order.state} → {state}")
    return _moved(order, state, now, note)


def observe(order: Order, told: VenueOrder, executions: Iterable[Execution], now: datetime) -> Order:
    """Take in what the venue tells, in any order and any number of times; returns the same object if nothing is new.

    Totals only grow: from the executions where they cover the venue's cumulative quantity, else from its figures. An
    illegal pair of states keeps the state we have.
    """
    known = Totals(order.filled_qty, order.filled_notional, order.fees, order.base_fees - order.fee_correction)
    totals = grown(known, told, executions)
    state = _state(order, told.state, totals.qty)
    changed = replace(
        order,
        venue_order_id=told.venue_order_id or order.venue_order_id,
        filled_qty=totals.qty,
        filled_notional=totals.notional,
        fees=totals.fees,
        base_fees=totals.base_fees + order.fee_correction,
        note=_note(order, told),
        qty=told.qty if order.is_external and told.qty else order.qty,
    )
    if order.stop_price is not None:
        changed = _as_pair(changed, told)
    changed = replace(changed, reserved=reservation(replace(changed, state=state)))
    if state is not order.state:
        return _moved(changed, state, now, told.reason)
    return order if changed == order else replace(changed, updated_at=now)


def _note(order: Order, told: VenueOrder) -> str:
    """The reason that is told, unless it belongs to what is dropped."""
    heard = not order.is_final or told.state is order.state
    return told.reason if told.reason and heard else order.note


def contradicts(order: Order, told: OrderState) -> bool:
    """Whether a venue tells of an order that is over what the table has no arrow for. What it merely tells late of one
    that still works is no contradiction."""
    return order.is_final and told is not order.state and told not in TRANSITIONS[order.state]


def _as_pair(order: Order, told: VenueOrder) -> Order:
    """What closes a position is a stop-loss once the stop has sold; without a stop it is a limit like any other."""
    if told.stop_filled_qty:
        hit = ExitReason.SL_HIT.value
        return replace(order, exit_reason=hit, reason=hit if order.reason == order.exit_reason else order.reason)
    if told.stop_price is None and told.state in STANDING:
        return replace(order, stop_price=None, note=NO_STOP)
    return order


def correct_fee(order: Order, taken: Decimal, now: datetime) -> Order:
    """The venue took so much more of what filled than its fills told, or less where it is negative."""
    return replace(
        order,
        base_fees=order.base_fees + taken,
        fee_correction=order.fee_correction + taken,
        updated_at=now,
    )


def reservation(order: Order) -> int:
    """What the order takes from the day's cap: its fills, and while it may still fill, the rest at its price."""
    if order.is_external or order.never_worked:
        return 0
    price = order.limit_price if order.limit_price is not None else order.ref_price
    return micros(order.filled_notional + order.open_qty * price)


def _state(order: Order, told: OrderState, filled: Decimal) -> OrderState:
    if order.is_external:
        pass  # its quantity may be unknown (an order by notional), so that only the venue's word says when it is done
    elif filled >= order.qty:
        told = OrderState.FILLED
    elif filled > 0 and told in {OrderState.SUBMITTED, OrderState.ACCEPTED}:
        told = OrderState.PARTIALLY_FILLED
    elif told is OrderState.FILLED and filled < order.qty:
        # The venue calls it done before we know all of its fills: keep it open until the figures agree.
        told = OrderState.PARTIALLY_FILLED if filled else OrderState.ACCEPTED
    return told if told in TRANSITIONS[order.state] else order.state


def _moved(order: Order, state: OrderState, now: datetime, note: str) -> Order:
    moved = replace(
        order,
        state=state,
        updated_at=now,
        note=note or order.note,
        history=(*order.history, (rfc3339(now), state.value)),
    )
    return replace(moved, reserved=reservation(moved))


def working_tickers(orders: Iterable[Order]) -> frozenset[str]:
    """Tickers with an order that is not final."""
    return frozenset(o.ticker for o in orders if not o.is_final)
