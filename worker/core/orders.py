"""The order: one record, one table of transitions, one function that takes in what a venue says.

INTENT → SUBMITTED → ACCEPTED → PARTIALLY_FILLED → FILLED           NOT_SENT (never left this process)
                         ↘ PENDING_CANCEL → CANCELED                REJECTED · EXPIRED · REPLACED
any → UNKNOWN → (resolved by query) any, or ABSENT
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from itertools import chain
from math import ceil
from operator import attrgetter

import msgspec
from msgspec.structs import replace

from shared.clock import rfc3339
from shared.errors import IllegalTransition
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

S = OrderState
_QUOTE_FEE, _BASE_FEE = attrgetter("quote_fee"), attrgetter("base_fee")

FINAL = frozenset({S.FILLED, S.CANCELED, S.REJECTED, S.EXPIRED, S.REPLACED, S.NOT_SENT})
"""States in which nothing works at the venue any more. UNKNOWN and ABSENT are not final: they may still surprise."""

AT_VENUE = frozenset(
    {
        S.SUBMITTED,
        S.ACCEPTED,
        S.PARTIALLY_FILLED,
        S.FILLED,
        S.PENDING_CANCEL,
        S.CANCELED,
        S.REJECTED,
        S.EXPIRED,
        S.REPLACED,
    }
)
"""States that a venue may tell; the others are our own knowledge, or lack of it."""

TRANSITIONS: dict[OrderState, frozenset[OrderState]] = {
    S.INTENT: AT_VENUE | {S.NOT_SENT, S.UNKNOWN},
    S.SUBMITTED: (AT_VENUE - {S.SUBMITTED}) | {S.UNKNOWN},
    S.ACCEPTED: (AT_VENUE - {S.SUBMITTED, S.ACCEPTED}) | {S.UNKNOWN},
    S.PARTIALLY_FILLED: frozenset(
        {S.FILLED, S.PENDING_CANCEL, S.CANCELED, S.EXPIRED, S.REPLACED, S.REJECTED, S.UNKNOWN}
    ),
    S.PENDING_CANCEL: frozenset(
        {S.ACCEPTED, S.PARTIALLY_FILLED, S.FILLED, S.CANCELED, S.EXPIRED, S.REPLACED, S.REJECTED, S.UNKNOWN}
    ),
    S.UNKNOWN: AT_VENUE | {S.NOT_SENT, S.ABSENT},
    S.ABSENT: AT_VENUE | {S.NOT_SENT},
    S.NOT_SENT: AT_VENUE,
    S.CANCELED: frozenset({S.FILLED}),
    S.EXPIRED: frozenset({S.FILLED}),
    S.REPLACED: frozenset({S.FILLED}),
    S.REJECTED: frozenset({S.PARTIALLY_FILLED, S.FILLED}),
    S.FILLED: frozenset(),
}
"""Every arrow there is. What is absent is illegal: an act of ours raises, a late observer is dropped and recorded."""

EXTERNAL = "EXTERNAL"
"""``bot_id`` of an order that is not ours: shown, but in no figure, no counter and no position of ours."""

GIVEN_UP = "resolved by hand: not there"
"""The note of an order that a person called absent; it is NOT_SENT, and may still surprise."""

NO_STOP = "the venue holds no stop beside the limit"

STANDING = frozenset({S.ACCEPTED, S.PARTIALLY_FILLED, S.PENDING_CANCEL})
"""States in which an order surely works at the venue."""

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
        return self.state in {S.REJECTED, S.NOT_SENT} and not self.filled_qty

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
    filled, notional, fees, base_fees = _totals(order, told, executions)
    state = _state(order, told.state, filled)
    changed = replace(
        order,
        venue_order_id=told.venue_order_id or order.venue_order_id,
        filled_qty=filled,
        filled_notional=notional,
        fees=fees,
        base_fees=base_fees + order.fee_correction,
        note=told.reason or order.note,
        qty=told.qty if order.is_external and told.qty else order.qty,
    )
    if order.stop_price is not None:
        changed = _as_pair(changed, told)
    changed = replace(changed, reserved=reservation(replace(changed, state=state)))
    if state is not order.state:
        return _moved(changed, state, now, told.reason)
    return order if changed == order else replace(changed, updated_at=now)


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


def _totals(
    order: Order, told: VenueOrder, executions: Iterable[Execution]
) -> tuple[Decimal, Decimal, Decimal, Decimal]:
    """Quantity, notional, and fees in quote and in base currency.

    Pushed executions and those read by REST may be the same under other ids, so that either set is believed alone, and
    both together only where they add up to what the venue says.
    """
    known = list(executions)
    cumulative = max(told.filled_qty, order.filled_qty)
    best = _best(known, cumulative)
    # A stream may not tell the fee of a fill that it tells.
    sets = [best, *([e for e in known if e.derived is derived] for derived in (False, True))]
    fees, base_fees = (max(sum((fee(e) for e in s), Decimal(0)) for s in sets) for fee in (_QUOTE_FEE, _BASE_FEE))
    if _quantity(best) >= cumulative:
        return _quantity(best), sum((e.qty * e.price for e in best), Decimal(0)), fees, base_fees
    fees, base_fees = max(fees, order.fees), max(base_fees, order.base_fees - order.fee_correction)
    if told.filled_qty >= order.filled_qty and told.avg_fill_price is not None and told.filled_qty:
        return told.filled_qty, told.filled_qty * told.avg_fill_price, fees, base_fees
    return order.filled_qty, order.filled_notional, fees, base_fees


def _best(known: list[Execution], cumulative: Decimal) -> list[Execution]:
    pushed, derived = [e for e in known if not e.derived], [e for e in known if e.derived]
    best = derived if _quantity(pushed) < _quantity(derived) else pushed
    return known if _quantity(best) < cumulative and _quantity(known) == cumulative else best


def counted(order: Order, executions: Iterable[Execution]) -> list[Execution]:
    """The executions that make up the order's totals; none where those are the venue's rounded figures."""
    best = _best(list(executions), order.filled_qty)
    return best if _quantity(best) == order.filled_qty else []


def _quantity(executions: Iterable[Execution]) -> Decimal:
    return sum((e.qty for e in executions), Decimal(0))


def _state(order: Order, told: OrderState, filled: Decimal) -> OrderState:
    if order.is_external:
        pass  # its quantity may be unknown (an order by notional), so that only the venue's word says when it is done
    elif filled >= order.qty:
        told = S.FILLED
    elif filled > 0 and told in {S.SUBMITTED, S.ACCEPTED}:
        told = S.PARTIALLY_FILLED
    elif told is S.FILLED and filled < order.qty:
        # The venue calls it done before we know all of its fills: keep it open until the figures agree.
        told = S.PARTIALLY_FILLED if filled else S.ACCEPTED
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


STATUS = {
    S.INTENT: "submitted",
    S.SUBMITTED: "submitted",
    S.ACCEPTED: "submitted",
    S.PENDING_CANCEL: "submitted",
    S.PARTIALLY_FILLED: "partially_filled",
    S.FILLED: "filled",
    S.CANCELED: "canceled",
    S.REPLACED: "canceled",
    S.REJECTED: "rejected",
    S.EXPIRED: "expired",
    S.NOT_SENT: "failed",
    S.UNKNOWN: "unknown",
    S.ABSENT: "unknown",
}
"""``trades_log`` status by order state."""


def working_tickers(orders: Iterable[Order]) -> frozenset[str]:
    """Tickers with an order that is not final."""
    return frozenset(o.ticker for o in orders if not o.is_final)


def all_states() -> frozenset[OrderState]:
    """Every state that the table mentions: for its completeness test."""
    return frozenset(chain(TRANSITIONS, *TRANSITIONS.values()))
