"""What became of orders whose cancel was not answered, for the report's figures."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta

from shared.errors import OrderNotFound, VenueError
from worker.core import ids
from worker.core.types import OrderState, VenueOrder
from worker.emergency.book import BookReader
from worker.emergency.state import StopState
from worker.venues.base import Venue

TALLY_SECONDS = 4.0
TALLY_REACH = timedelta(days=1)


class Tally:
    """One stop's look back at one account's venue. A venue that does not tell costs a while and no proof."""

    def __init__(
        self, account: str, state: StopState, venue: Venue, book: BookReader, pool: ThreadPoolExecutor
    ) -> None:
        self._account, self._state, self._venue, self._book, self._pool = account, state, venue, book, pool
        self._in_book: Future[dict[str, str]] | None = None

    def remember_book(self) -> None:
        """A cancel-all was not answered: what it has ended is among what the book holds open now."""
        self._in_book = self._pool.submit(self._book.working, self._account)

    def settle(self) -> None:
        """Once nothing works any more: ask what became of orders that nobody has answered for."""
        state = self._state
        if self._in_book is None and not state.found - state.canceled:
            return
        in_book = {} if self._in_book is None else self._in_book.result()
        try:
            told = self._pool.submit(self._look_back, in_book).result(TALLY_SECONDS)
        except (VenueError, TimeoutError) as error:
            state.note(f"what became of the orders is not known: {error!r}")
            return
        held = set(in_book.values())
        for order in (o for o in told if o.state is OrderState.CANCELED):
            name = order.venue_order_id
            if self._in_book is not None and (name in held or self._is_later(order.updated_at)):
                state.found.add(name)
            if name in state.found:
                state.canceled.add(name)

    def _is_later(self, at: datetime | None) -> bool:
        """Whether it is of after the stop was asked for; some venues tell whole seconds."""
        requested = self._state.requested_at
        return at is not None and at >= (requested if at.microsecond else requested.replace(microsecond=0))

    def _look_back(self, in_book: Mapping[str, str]) -> list[VenueOrder]:
        """Orders of the last day, and older ones of ours that the book held open. Raises VenueError."""
        told = self._venue.orders_since(self._state.requested_at - TALLY_REACH)
        known = {o.venue_order_id for o in told}
        older = (find_ours(self._venue, name) for name, at in in_book.items() if at not in known)
        return told + [o for o in older if o is not None]


def find_ours(venue: Venue, client_order_id: str) -> VenueOrder | None:
    """An order of ours by its id; None where the venue has none, or the id is another's. Raises VenueError."""
    if not ids.is_ours(client_order_id):
        return None
    try:
        return venue.order_by_client_id(client_order_id)
    except OrderNotFound:
        return None
