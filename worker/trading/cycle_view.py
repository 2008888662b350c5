"""The account's book as the rules of the cycle see it: what the cycle's bot holds and has working, less what it cannot
be sure of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

from worker.core.orders import EXTERNAL, Order
from worker.core.positions import Position
from worker.core.risk import HELD_BY_OTHERS, BookView
from worker.core.types import Effect, Side
from worker.trading.desk import UNRESOLVED, OrderDesk
from worker.trading.ports import Book, VenueRead

ZERO = Decimal(0)
BOT_ID = 1
_OURS = frozenset({str(BOT_ID), EXTERNAL})
T = TypeVar("T", Order, Position)


@dataclass(frozen=True, slots=True)
class Seen:
    """One reading: what the rules judge by, and which position of the bot an order in a ticker belongs to.

    ``booked`` is what the bot holds by the book alone, whatever the venue lists.
    """

    view: BookView
    booked: Mapping[str, Decimal]
    position_ids: Mapping[str, str]


def read_view(
    book: Book,
    desk: OrderDesk,
    snapshot: VenueRead,
    today: str,
    *,
    run_orders: int,
    day_pnl: Decimal | None,
    buying_power: Decimal | None,
    enabled: bool,
) -> Seen:
    """Read the book. Raises StoreError.

    Nothing counts as held that the venue did not hold when it was asked, unless something has filled since.
    """
    orders, positions = book.open_orders(), book.open_positions()
    figures = book.day(today)
    frozen = {o.ticker: o.state.value for o in orders if o.state in UNRESOLVED}
    frozen |= dict.fromkeys(snapshot.external - frozen.keys(), HELD_BY_OTHERS)
    ours, at_work = mine(positions), mine(orders)
    held = booked = held_of(ours)
    if held and (desk.last_fill_at is None or desk.last_fill_at < snapshot.read_at):
        at_venue = {p.ticker: p.signed_qty for p in snapshot.positions}
        held = {t: min(q, at_venue.get(t, ZERO)) for t, q in held.items()}
    view = BookView(
        held=held,
        working=frozenset(o.ticker for o in at_work),
        frozen=frozen,
        selling=_selling(at_work),
        open_tickers=frozenset(p.symbol for p in positions) | {o.ticker for o in orders if o.effect is Effect.ENTRY},
        day=figures.counters,
        last_trade=figures.last_trade,
        run_orders=run_orders,
        day_pnl=day_pnl,
        buying_power=buying_power,
        enabled=enabled,
        reducing=snapshot.drift,
    )
    return Seen(view, booked, {p.symbol: p.id for p in ours})


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
