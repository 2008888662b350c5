"""Fees in the base currency that a venue takes and does not tell: the position shows them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from worker.core.decide import FEE_SHARE
from worker.core.orders import Order
from worker.core.types import Effect, VenuePosition
from worker.trading.compare import Apart, compare
from worker.trading.desk import OrderDesk
from worker.trading.ports import Book
from worker.venues.base import Venue

ZERO = Decimal(0)


class UntoldFees:
    """What such a venue holds of a pair less than the book, or more, corrects the fee of what was bought last, where it
    says so twice and no fee would be larger. Anything else is left to be a drift.

    It is looked for while an exit works, too, since that would sell more than there is.
    """

    def __init__(self, venue: Venue, desk: OrderDesk, book: Book) -> None:
        self._venue, self._desk, self._book = venue, desk, book
        self._apart: dict[str, Apart] = {}

    @property
    def pending(self) -> bool:
        """Whether another look soon would settle something."""
        return bool(self._apart)

    def settle(self, positions: Sequence[VenuePosition], orders: Sequence[Order], read_at: datetime) -> None:
        """Compare once more; ``read_at`` is when the reading of ``positions`` began."""
        last_fill = self._desk.last_fill_at
        if not self._venue.capabilities.untold_base_fees or (last_fill is not None and last_fill >= read_at):
            return
        book, entries = self._book, [o for o in orders if o.effect is Effect.ENTRY]
        found = compare(book.open_positions(), positions, entries, book.exposure(), book.dust())
        waiting: dict[str, Apart] = {}
        for ticker, seen in found.apart.items():
            order = self._bought_last(ticker) if "/" in ticker else None
            if order is None or not ZERO <= order.base_fees + seen.missing <= order.filled_qty * FEE_SHARE:
                continue
            if self._apart.get(ticker) == seen:
                self._desk.take_fee(order.client_order_id, seen.missing)
            else:
                waiting[ticker] = seen
        self._apart = waiting

    def _bought_last(self, ticker: str) -> Order | None:
        """The entry of the newest open position, else the last entry that filled."""
        held = [p for p in self._book.open_positions() if p.symbol == ticker]
        newest = max(held, key=lambda p: p.entry_time, default=None)
        name = newest.entry_order_id if newest is not None else self._desk.last_entry.get(ticker)
        return None if name is None else self._book.order(name)
