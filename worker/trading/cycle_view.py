"""The account's book as the rules of the cycle see it: what the cycle's bot holds and has working, less what it cannot
be sure of.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TypeVar

from worker.core.orders import EXTERNAL, Order
from worker.core.positions import Position
from worker.core.risk import HELD_BY_OTHERS, BookView
from worker.core.types import Effect, Side
from worker.trading.desk import UNRESOLVED, OrderDesk
from worker.trading.ports import Book, DayFigures, Switches, VenueRead

ZERO = Decimal(0)
BOT_ID = 1
REPLACED = "replaced by one that is still to be read"
_OURS = frozenset({str(BOT_ID), EXTERNAL})
T = TypeVar("T", Order, Position)


class Look:
    """One reading of the orders and positions of the book. ``as_of`` says of when: ``(changes, day, switches)``."""

    def __init__(self, book: Book, desk: OrderDesk, snapshot: VenueRead, as_of: tuple[int, str, Switches]) -> None:
        """Raises StoreError.

        Nothing counts as held that the venue did not hold when it was asked, unless something has filled since.
        """
        self.as_of, self.today = as_of, as_of[1]
        self.orders, self.positions = book.open_orders(), book.open_positions()
        self.at_work, ours = mine(self.orders), mine(self.positions)
        self.position_ids = {p.symbol: p.id for p in ours}
        self.selling = _selling(self.at_work)
        self.booked = held = held_of(ours)
        """What is held by the book alone, whatever the venue lists."""
        if held and (desk.last_fill_at is None or desk.last_fill_at < snapshot.read_at):
            at_venue = {p.ticker: p.signed_qty for p in snapshot.positions}
            held = {t: min(q, at_venue.get(t, ZERO)) for t, q in held.items()}
        self.held = held
        self.replaced = [t for t, at in desk.replaced_at.items() if at >= snapshot.read_at]
        self.view: BookView | None = None
        """Of this reading, once somebody has made it."""


def read_view(
    look: Look,
    figures: DayFigures,
    snapshot: VenueRead,
    *,
    run_orders: int,
    day_pnl: Decimal | None,
    buying_power: Decimal | None,
    enabled: bool,
) -> BookView:
    """Everything that the rules ask."""
    frozen = {o.ticker: o.state.value for o in look.orders if o.state in UNRESOLVED}
    frozen |= dict.fromkeys(snapshot.external - frozen.keys(), HELD_BY_OTHERS)
    frozen |= dict.fromkeys(look.replaced, REPLACED)
    entries = {o.ticker for o in look.orders if o.effect is Effect.ENTRY}
    return BookView(
        held=look.held,
        working=frozenset(o.ticker for o in look.at_work),
        frozen=frozen,
        selling=look.selling,
        open_tickers=frozenset(p.symbol for p in look.positions) | entries,
        day=figures.counters,
        last_trade=figures.last_trade,
        run_orders=run_orders,
        day_pnl=day_pnl,
        buying_power=buying_power,
        enabled=enabled,
        reducing=snapshot.drift,
    )


def mine(found: Sequence[T]) -> list[T]:
    """What is the cycle bot's, or nobody's that we know: stream bots manage theirs, on the same account."""
    return [one for one in found if one.bot_id in _OURS]


def held_of(positions: Sequence[Position]) -> dict[str, Decimal]:
    held: dict[str, Decimal] = {}
    for position in positions:
        held[position.symbol] = held.get(position.symbol, ZERO) + position.signed_qty
    return held


def _selling(orders: Sequence[Order]) -> dict[str, Decimal]:
    selling: dict[str, Decimal] = {}
    for order in orders:
        if order.side is Side.SELL:
            selling[order.ticker] = selling.get(order.ticker, ZERO) + order.open_qty
    return selling
