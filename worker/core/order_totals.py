"""What an order has filled, from its executions and from the venue's cumulative figures.

Pushed executions and those read by REST may be the same under other ids, so that either set is believed alone, and both
together only where they add up to what the venue says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from operator import attrgetter

import msgspec

from worker.core.types import Execution, VenueOrder

_QUOTE_FEE: Callable[[Execution], Decimal] = attrgetter("quote_fee")
_BASE_FEE: Callable[[Execution], Decimal] = attrgetter("base_fee")


class Totals(msgspec.Struct, frozen=True, gc=False):
    """Sums over fills. ``fees`` are in the quote currency, ``base_fees`` in the base currency as fills told them."""

    qty: Decimal
    notional: Decimal
    fees: Decimal
    base_fees: Decimal


def grown(known: Totals, told: VenueOrder, executions: Iterable[Execution]) -> Totals:
    """The totals after what the venue tells; they never shrink.

    They are those of the executions where these cover the venue's cumulative quantity, else its figures.
    """
    listed = list(executions)
    cumulative = max(told.filled_qty, known.qty)
    best = _best(listed, cumulative)
    # A stream may not tell the fee of a fill that it tells.
    sets = [best, *([e for e in listed if e.derived is derived] for derived in (False, True))]
    fees, base_fees = (max(_sum(map(fee, s)) for s in sets) for fee in (_QUOTE_FEE, _BASE_FEE))
    if quantity(best) >= cumulative:
        return Totals(quantity(best), _sum(e.qty * e.price for e in best), fees, base_fees)
    fees, base_fees = max(fees, known.fees), max(base_fees, known.base_fees)
    if told.filled_qty >= known.qty and told.avg_fill_price is not None and told.filled_qty:
        return Totals(told.filled_qty, told.filled_qty * told.avg_fill_price, fees, base_fees)
    return Totals(known.qty, known.notional, fees, base_fees)


def counted(executions: Iterable[Execution], filled: Decimal) -> list[Execution]:
    """The executions that make up what has filled; none where that is the venue's rounded figure."""
    best = _best(list(executions), filled)
    return best if quantity(best) == filled else []


def quantity(executions: Iterable[Execution]) -> Decimal:
    return _sum(e.qty for e in executions)


def _best(known: list[Execution], cumulative: Decimal) -> list[Execution]:
    pushed, derived = [e for e in known if not e.derived], [e for e in known if e.derived]
    best = derived if quantity(pushed) < quantity(derived) else pushed
    return known if quantity(best) < cumulative and quantity(known) == cumulative else best


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, Decimal(0))
