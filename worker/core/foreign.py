"""Fills of somebody else's order: what of them closes positions of ours, and what stays somebody else's.

A venue keeps one net holding per ticker, so that a person's order at the venue may close what we opened. Such a fill is
shared out in one step: it first takes back what others hold the other way round, then reduces our positions, the oldest
first, and the rest is others' (their exposure). Shares are slices of the order's fills, so that they sum up exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec
from msgspec.structs import replace

from worker.core.order_totals import counted
from worker.core.orders import Claim, Order
from worker.core.positions import Position, add_fill
from worker.core.types import Execution

ZERO = Decimal(0)
PLACES = Decimal("1e-12")

CLOCK_TOLERANCE = timedelta(seconds=2)
"""How far times of the venue and ours, or times cut to the second, may be apart."""

FOUND, BY_STOP, BY_LIQUIDATION = "found at the venue", "flatten order of the emergency stop", "liquidation by the venue"
_EXIT_REASON = {BY_STOP: "STOP", BY_LIQUIDATION: "LIQUIDATION"}


class Holdings(msgspec.Struct, frozen=True, gc=False):
    """What a foreign order in a ticker may touch: our positions by id (the open ones, and those that it has a claim
    on), and what others hold, signed; None where that was never settled."""

    positions: Mapping[str, Position]
    exposure: Decimal | None


def share_out(
    before: Order, after: Order, executions: Iterable[Execution], holdings: Holdings, filled_at: datetime
) -> tuple[Order, Holdings]:
    """The order with its claims, and the holdings, after its totals changed. Corrections reach every old claim."""
    fresh, exposure = _split(after, after.filled_qty - before.filled_qty, holdings, filled_at)
    if exposure is not None:
        exposure -= after.base_fees - before.base_fees
    taken = before.claims + tuple(Claim(name, qty, ZERO, ZERO) for name, qty in fresh)
    slices = _Slices(after, executions)
    claims, positions, start = [], dict(holdings.positions), ZERO
    for number, claim in enumerate(taken):
        priced = slices.claim(claim, start)
        start += claim.qty
        claims.append(priced)
        position = positions.get(claim.position_id)
        if position is not None and priced != claim:
            qty = claim.qty if number >= len(before.claims) else ZERO
            notional, fees = priced.notional - claim.notional, priced.fees - claim.fees
            changed = add_fill(position, after.side, qty, notional, fees, after.client_order_id, filled_at)
            if changed.is_closed and not changed.exit_reason:
                changed = replace(changed, exit_reason=_EXIT_REASON.get(after.reason, "MANUAL"))
            positions[position.id] = changed
    return replace(after, claims=tuple(claims)), Holdings(positions, exposure)


def _split(
    order: Order, new: Decimal, holdings: Holdings, filled_at: datetime
) -> tuple[list[tuple[str, Decimal]], Decimal | None]:
    """What was filled anew as (position id, or "" for others, quantity) in order, and others' exposure after it."""
    if new <= 0:
        return [], holdings.exposure
    sign, latest = order.side.sign, filled_at + CLOCK_TOLERANCE
    held = sorted((p for p in holdings.positions.values() if p.quantity), key=lambda p: (p.entry_time, p.id))
    if holdings.exposure is None and held and held[0].entry_time > latest:
        return [("", new)], None  # from before anything that could be counted from
    exposure = holdings.exposure or ZERO
    parts: list[tuple[str, Decimal]] = []
    back = min(new, abs(exposure)) if exposure * sign < 0 else ZERO
    exposure += sign * back
    left = new - back
    if back:
        parts.append(("", back))
    for position in held:
        qty = min(left, position.quantity)
        if qty and position.signed_qty * sign < 0 and position.entry_time <= latest:
            parts.append((position.id, qty))
            left -= qty
    if left:
        parts.append(("", left))
    return parts, exposure + sign * left


class _Slices:
    """An order's fills in their order, to be cut by quantity. What no execution covers is priced at the average."""

    def __init__(self, order: Order, executions: Iterable[Execution]) -> None:
        self._order = order
        best = counted(executions, order.filled_qty)
        self._fills = sorted(best, key=lambda e: (e.time, e.execution_id))

    def claim(self, claim: Claim, start: Decimal) -> Claim:
        end = start + claim.qty
        notional, fees = self._upto(end), self._fees_upto(end)
        return replace(claim, notional=notional - self._upto(start), fees=fees - self._fees_upto(start))

    def _upto(self, qty: Decimal) -> Decimal:
        order = self._order
        if qty >= order.filled_qty:
            return order.filled_notional
        if not self._fills:
            return _share(order.filled_notional, qty, order.filled_qty)
        total = ZERO
        for fill in self._fills:
            part = min(fill.qty, qty)
            total, qty = total + part * fill.price, qty - part
            if not qty:
                break
        return total

    def _fees_upto(self, qty: Decimal) -> Decimal:
        order = self._order
        if qty >= order.filled_qty:
            return order.fees
        if not self._fills or sum((f.fee for f in self._fills), ZERO) != order.fees:
            return _share(order.fees, qty, order.filled_qty)
        total = ZERO
        for fill in self._fills:
            part = min(fill.qty, qty)
            total, qty = total + (fill.fee if part == fill.qty else _share(fill.fee, part, fill.qty)), qty - part
            if not qty:
                break
        return total


def _share(amount: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    """A part of an amount. Rounded, which the next slice makes good: slices are differences of one running sum."""
    share = amount * part / whole if part else ZERO
    rounded = share.quantize(PLACES)
    return share if share == rounded else rounded
