"""Cancelling whatever works at the venue that a stop concerns, and noting what came of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial

from shared.clock import Clock
from shared.errors import VenueError
from worker.core import ids
from worker.core.order_states import FINAL
from worker.core.types import Effect, VenueOrder, VenuePosition
from worker.emergency.book import BookReader
from worker.emergency.state import StopState
from worker.emergency.tally import Tally, find_ours
from worker.failpoints import failpoint
from worker.venues.base import CancelOutcome, CancelResult, PartlyRead, Venue


class Pace:
    """The pause between two rounds: it grows while there is nothing to do but wait."""

    def __init__(self, shortest: float, longest: float) -> None:
        self._shortest, self._longest = shortest, longest
        self.seconds = shortest

    def reset(self) -> None:
        self.seconds = self._shortest

    def slow_down(self) -> None:
        self.seconds = min(self.seconds * 2, self._longest)


class Begun:
    """Notes, once, how long after the stop was noticed its first cancel leaves. ``noticed`` is monotonic."""

    def __init__(self, state: StopState, clock: Clock, noticed: float) -> None:
        self._state, self._clock, self._noticed = state, clock, noticed

    def note(self) -> None:
        """The first cancel is about to leave."""
        if self._state.first_cancel_ms is None:
            self._state.first_cancel_ms = (self._clock.monotonic() - self._noticed) * 1000


class Sweep:
    """One stop's cancels at one account's venue; what they find stands in ``state``."""

    def __init__(
        self,
        account: str,
        state: StopState,
        venue: Venue,
        book: BookReader,
        pool: ThreadPoolExecutor,
        publish: Callable[[StopState], None],
        pace: Pace,
        begun: Begun,
        tally: Tally,
    ) -> None:
        self._account, self._state, self._venue, self._book = account, state, venue, book
        self._pool, self._publish, self._pace = pool, publish, pace
        self._begun, self._tally = begun, tally
        self._unlisted: set[str] = set()
        self._stops: list[VenueOrder] = []

    def cancel_all(self) -> None:
        """The venue's own cancel-all, where the policy lets it go and the venue has one."""
        if self._state.policy == "cancel_entries" or not self._venue.capabilities.cancel_all:
            return
        self._begun.note()
        try:
            failpoint("cancel.all")
            results = self._venue.cancel_all()
            failpoint("cancel.all_answered")
            self._take(results)
        except VenueError as error:
            self._tally.remember_book()
            self._state.note(f"cancel_all: {error}")

    def begin_listed(self) -> Future[int | None]:
        """``cancel_listed`` in another thread."""
        return self._pool.submit(self.cancel_listed)

    def cancel_listed(self) -> int | None:
        """One list call and a cancel for each order found; the number found, None where the venue was not read."""
        try:
            orders = self._venue.open_orders()
        except VenueError as error:
            self._state.unread = str(error)
            self._state.note(f"open_orders: {error}")
            if isinstance(error, PartlyRead):
                self._cancel(error.found)
            return None
        self._state.unread = ""
        return self._cancel(orders)

    def cancel_unlisted(self) -> bool:
        """Whether an order that the book holds open works although no list told it, since the venue lists it late, or
        cannot be asked for; the proof begins anew then. What was listed is not asked for again."""
        listed = self._state.found - self._unlisted
        names = [name for name, at in self._book.working(self._account).items() if at not in listed]
        try:
            told = [
                o
                for o in self._pool.map(partial(find_ours, self._venue), names)
                if o is not None and o.state not in FINAL
            ]
        except VenueError as error:
            self._state.unread = str(error)
            self._state.note(f"an order of the book: {error}")
            return True
        self._unlisted |= {o.venue_order_id for o in told}
        return self._cancel(told) > 0

    def _cancel(self, orders: Sequence[VenueOrder]) -> int:
        state = self._state
        targets = [o.venue_order_id for o in orders if self._concerns(o)]
        self._stops = [o for o in orders if o.stop_price is not None and o.venue_order_id not in targets]
        state.unconfirmed, state.working = len(targets), frozenset(targets)
        if targets:
            if state.state == "NOT_PROVEN":
                state.state = "STOPPING"
            self._begun.note()
            state.found.update(targets)
            failpoint("cancel.each")
            asked = [self._pool.submit(self._venue.cancel, name) for name in targets]
            self._publish(state)  # beside the cancels: a Redis that hangs must not delay them
            wait(asked)
            failpoint("cancel.each_answered")
            self._take([a.result() for a in asked])
            self._pace.reset()
        return len(targets)

    def _take(self, results: list[CancelResult]) -> None:
        for result in results:
            self._state.found.add(result.venue_order_id)
            if result.outcome is CancelOutcome.REQUESTED:
                self._state.canceled.add(result.venue_order_id)
            elif result.outcome is CancelOutcome.UNCONFIRMED:
                self._state.note(f"cancel {result.venue_order_id}: {result.message}")

    def _concerns(self, order: VenueOrder) -> bool:
        """Whether this stop cancels the order; foreign ones from after the stop are the owner's own hand."""
        if (order.client_order_id or "").startswith(ids.FLATTEN_PREFIX):
            return False
        ours = ids.is_ours(order.client_order_id)
        if self._state.policy == "cancel_entries":
            if ours and self._is_entry(order):
                return True
            self._state.left_alone.add(order.venue_order_id)
            return False
        if ours or order.created_at is None or order.created_at <= self._state.requested_at:
            return True
        self._state.foreign_after_stop.add(order.venue_order_id)
        return False

    def _is_entry(self, order: VenueOrder) -> bool:
        """The book knows best; without its answer the id tells."""
        known = self._book.effect_of(order.client_order_id or order.venue_order_id)
        return (known or ids.effect_of(order.client_order_id)) == Effect.ENTRY

    def is_stopped(self, position: VenuePosition) -> bool:
        """Whether stops that were left at the venue cover all of it."""
        stops = [o.qty - o.filled_qty for o in self._stops if o.ticker == position.ticker]
        return sum(stops) >= position.signed_qty > 0
