"""Book against venue in what is held: what is believed only when it was seen twice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from worker.core.orders import Order
from worker.core.types import VenuePosition
from worker.trading.compare import Apart, Comparison, compare
from worker.trading.desk import OrderDesk
from worker.trading.ports import Book

ZERO = Decimal(0)


class DriftWatch:
    """Compares, pass by pass, and keeps what others hold as it was seen twice."""

    def __init__(self, book: Book, desk: OrderDesk) -> None:
        self._book, self._desk = book, desk
        self._suspected: dict[str, Apart] = {}
        self._agreed_at: datetime | None = None
        self.suspects = False
        """Whether the last pass found book and venue apart in what we hold, once or more often."""
        self.unjudged = False
        """Whether the last pass could not compare, since something filled after its reads began."""

    def start_over(self) -> None:
        """Nothing is known of when they agreed last."""
        self._agreed_at = None

    @property
    def unsettled(self) -> bool:
        """Whether another pass soon would tell more."""
        return self.unjudged or bool(self._suspected)

    def compare(self, positions: Sequence[VenuePosition], orders: Sequence[Order]) -> Comparison:
        book = self._book
        return compare(book.open_positions(), positions, orders, book.exposure(), book.dust())

    def began(self, found: Comparison) -> datetime:
        """When what drifts can have begun at the earliest: at the last agreement, at a start with our entry."""
        return self._agreed_at or min(found.drifting.values())

    def judge(self, found: Comparison, read_at: datetime) -> str:
        """A drift that was seen twice. Where we hold nothing, what the venue says twice is what others hold; where it
        holds just what we do, others hold nothing any more: a Redis that was emptied may have taken ours for theirs."""
        last_fill = self._desk.last_fill_at
        self.unjudged = last_fill is not None and last_fill >= read_at
        if self.unjudged:
            return ""
        self.suspects = bool(found.drifting)
        if not found.drifting:
            self._agreed_at = read_at
        twice = {t: seen for t, seen in found.apart.items() if self._suspected.get(t) == seen}
        self._suspected = dict(found.apart)
        others = {t: seen.theirs - seen.dust for t, seen in twice.items() if t not in found.drifting}
        others |= {t: ZERO for t, seen in twice.items() if t in found.drifting and seen.theirs == seen.ours + seen.dust}
        for ticker, qty in others.items():
            self._book.settle_exposure(ticker, qty)
        return found.told(twice.keys() - others.keys())
