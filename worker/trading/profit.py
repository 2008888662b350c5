"""The day's profit as the loss limit sees it."""

from __future__ import annotations

from decimal import Decimal

from worker.core.positions import Position
from worker.core.types import VenuePosition
from worker.trading.ports import Book, VenueRead

ZERO = Decimal(0)


def day_pnl(book: Book, snapshot: VenueRead, today: str) -> Decimal | None:
    """Profit of the day as the loss limit sees it: round trips closed today, and what is open at the venue's marks.

    What the venue does not list, or lists with nothing held, is worth what it cost: such a drift denies by itself.
    """
    tally = book.stats().by_day.get(today)
    total = tally.pnl if tally is not None else ZERO
    marks = {p.ticker: p for p in snapshot.positions}
    for position in book.open_positions():
        mark = marks.get(position.symbol)
        if mark is not None:
            total += unrealized(position, mark)
    return total if total.is_finite() else None


def unrealized(position: Position, mark: VenuePosition) -> Decimal:
    """Profit of what is open, at the venue's mark."""
    if mark.signed_qty == position.signed_qty:
        return mark.unrealized_pl
    if not mark.qty:
        return ZERO
    return position.unrealized_pnl(mark.market_value / mark.signed_qty)  # others hold some of it too
