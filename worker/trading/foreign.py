"""Orders that somebody else placed on the account: shown as EXTERNAL, and what their fills did to positions of ours.

A foreign order goes by the venue's id. One that replaces an order of ours goes on as ours, under its client order id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from worker.core import ids
from worker.core.orders import Order
from worker.core.types import Execution, OrderState, VenueOrder
from worker.trading.desk import UNRESOLVED, OrderDesk
from worker.trading.ports import Book
from worker.trading.recover import Recovery
from worker.venues.base import Venue

ZERO = Decimal(0)
Fills = Mapping[str, Sequence[Execution]]
"""Executions by the venue's order id."""


class ForeignOrders:
    """What others do on the account, as far as the book must know."""

    def __init__(
        self, venue: Venue, desk: OrderDesk, book: Book, recovery: Recovery, progress: Callable[[], None]
    ) -> None:
        self._venue, self._desk, self._book, self._recovery = venue, desk, book, recovery
        self._progress = progress
        self._seen: dict[str, tuple[OrderState, Decimal]] = {}

    def start_over(self) -> None:
        """Nothing is taken for known any more."""
        self._seen.clear()

    def take(self, told: VenueOrder, executions: Sequence[Execution]) -> None:
        """An order that is not in the book under a name of ours. Raises VenueUnavailable."""
        seen = (told.state, told.filled_qty)
        if self._seen.get(told.venue_order_id) == seen and not executions:
            return
        if self._desk.take(told, executions) is None:
            self._recovery.adopt(told, executions)
        self._seen[told.venue_order_id] = seen

    def account_for(self, since: datetime, fills: Fills, unknown: Fills) -> None:
        """Look through everything that was ordered since for what filled and the book does not know; ``unknown`` are
        fills that call for it. Raises VenueUnavailable."""
        self._search(since, fills)
        untold = [f for venue_id, f in unknown.items() if venue_id not in self._seen]
        if not untold:
            return
        # An order that the venue does not tell is what its fills say, unless it may be one of ours.
        unresolved = {o.ticker for o in self._book.open_orders() if o.state in UNRESOLVED} | self._book.given_up()
        for executions in untold:
            if executions[0].ticker not in unresolved:
                self.take(order_of(executions), executions)

    def _search(self, since: datetime, fills: Fills) -> None:
        for told in self._venue.orders_since(since):
            if not told.filled_qty or self._seen.get(told.venue_order_id) == (told.state, told.filled_qty):
                continue
            if ids.is_ours(told.client_order_id):
                self._ours(told, fills.get(told.venue_order_id, ()))
            else:
                self.take(told, fills.get(told.venue_order_id, ()))

    def _ours(self, told: VenueOrder, executions: Sequence[Execution]) -> None:
        """One of ours that was given up, or lost, and filled all the same."""
        known = self._book.order(told.client_order_id or "")
        if known is None:
            self._recovery.adopt(told, executions)
        elif known.filled_qty < told.filled_qty:
            self._desk.take(told, executions)
        self._seen[told.venue_order_id] = (told.state, told.filled_qty)

    def gone(self, orders: Sequence[Order], overlap: timedelta, fills: Fills) -> dict[str, str]:
        """Foreign orders that worked and are listed no longer, looked up in one list for all of them: somebody's
        thousand orders must cost neither the account's rate limit nor our time. Returns why, by the book's name, where
        the venue does not tell what became of one. Raises VenueUnavailable."""
        if not orders:
            return {}
        listed = self._venue.orders_since(min(o.created_at for o in orders) - overlap)
        told, problems = {o.venue_order_id: o for o in listed}, dict[str, str]()
        for order in orders:
            self._progress()
            found = told.get(order.venue_order_id)
            if found is not None:
                self.take(found, fills.get(order.venue_order_id, ()))
            else:
                problems[order.client_order_id] = f"the venue no longer tells what became of {order.venue_order_id}"
        return problems


def order_of(executions: Sequence[Execution]) -> VenueOrder:
    """The order that fills are of, as far as they tell."""
    first, last = executions[0], executions[-1]
    qty = sum((e.qty for e in executions), ZERO)
    return VenueOrder(
        venue_order_id=first.venue_order_id,
        client_order_id=first.client_order_id,
        ticker=first.ticker,
        side=first.side,
        qty=qty,
        state=OrderState.FILLED,
        filled_qty=qty,
        avg_fill_price=sum((e.qty * e.price for e in executions), ZERO) / qty,
        created_at=first.time,
        updated_at=last.time,
    )


def by_order(fills: Iterable[Execution]) -> dict[str, list[Execution]]:
    found: dict[str, list[Execution]] = {}
    for fill in fills:
        found.setdefault(fill.venue_order_id, []).append(fill)
    return found
