"""One stop: fence, cancel at the venue, prove that it is empty, report. Runs in a thread of its own and never gives up.

The fence leaves first, and the first cancel waits for no answer to it, so that a Redis that hangs does not delay the
venue nor the other way round; the proof waits for both.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from typing import TypeVar

from shared.clock import Clock
from shared.errors import OrderNotFound, VenueError, VenueUnavailable
from worker.core import ids
from worker.core.orders import FINAL
from worker.core.types import Effect, OrderState, VenueOrder, VenuePosition
from worker.emergency.fencing import Fencing
from worker.emergency.standby import Standby
from worker.emergency.state import StopState
from worker.emergency.trader import TraderProcess
from worker.failpoints import failpoint
from worker.venues.base import CancelOutcome, CancelResult, PartlyRead, Venue

ACKNOWLEDGE_SECONDS = 1.0
IN_FLIGHT_SECONDS = 3.25
AFTER_KILL_SECONDS = 1.0
BETWEEN_EMPTY_SECONDS = 0.1
NOT_PROVEN_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 5.0
POLL_SECONDS = 0.02
HASTE_SECONDS = 0.5
"""How long a cancel-all may go unanswered before orders are cancelled one by one beside it."""
TALLY_SECONDS = 4.0
TALLY_REACH = timedelta(days=1)
FLATTEN_PREFIX = ids.FLATTEN_PREFIX
T = TypeVar("T")


class StopRun:
    """Carries one stop out at one account's venue.

    ``former`` are earlier runs of the account that were abandoned: nothing is flattened while one has a call out.
    """

    def __init__(
        self,
        state: StopState,
        venue: Venue,
        trader: TraderProcess,
        standby: Standby,
        pool: ThreadPoolExecutor,
        clock: Clock,
        fencing: Fencing,
        publish: Callable[[StopState], None],
        effect_in_book: Callable[[str], str | None],
        working_in_book: Callable[[], Mapping[str, str]],
        flatten: Callable[[StopState, threading.Event], None],
        noticed: float,
        former: Sequence[StopRun] = (),
    ) -> None:
        self.state, self._venue, self._trader = state, venue, trader
        self._standby, self._pool = standby, pool
        self._clock, self._fencing, self._publish = clock, fencing, publish
        self._effect_in_book, self._flatten, self._noticed = effect_in_book, flatten, noticed
        self._working_in_book = working_in_book
        self._unlisted: set[str] = set()
        self._in_book: Future[Mapping[str, str]] | None = None
        self._hastening = threading.Lock()
        self._beside: Future[int | None] | None = None
        self._former = former
        self._abandoned = threading.Event()
        self._pause = POLL_SECONDS
        self._gone_at: float | None = None
        self._trader_ran = False
        self._epoch: int | None = None
        self._stops: list[VenueOrder] = []
        self._thread: threading.Thread | None = None
        self.cancel_was_asked = threading.Event()
        """Set once the first cancel is answered, failed or not needed."""

    def start(self) -> None:
        self._thread = self._standby.run(self._run)

    @property
    def finished(self) -> bool:
        return self.state.state == "STOPPED"

    def abandon(self) -> None:
        """The process ends, trading was resumed, or another stop takes over: no more calls than the one that is out."""
        self._abandoned.set()

    @property
    def alive(self) -> bool:
        """Whether its thread still runs."""
        return self._thread is not None and self._thread.is_alive()

    def wait_ended(self, seconds: float | None = None) -> None:
        """Until its thread has ended, or the time is over."""
        if self._thread is not None:
            self._thread.join(timeout=seconds)

    # -- the run --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        failpoint("cancel.begin")
        self._fencing.begin()
        self._trader_ran = self._trader.runs()
        try:
            self._netted(self._first_cancel)
        finally:
            with self._hastening:
                self.cancel_was_asked.set()
            if self._beside is not None:
                wait([self._beside])
        fencing = self._fencing.ended()
        if not fencing.done():
            self._netted(self._cancel_what_is_left)
        self._epoch = fencing.result()
        failpoint("cancel.fenced")
        self.state.fenced = self._epoch is not None
        self._publish(self.state)
        failpoint("cancel.reported")
        while not self._abandoned.is_set():
            if self._netted(self._prove):
                self._done()
                return
            self._give_up_hope()
            self._publish(self.state)
            self._abandoned.wait(self._pause)

    def _netted(self, step: Callable[[], T]) -> T | None:
        """What no adapter should raise is told and tried again like a venue that does not answer: a stop never ends
        without its proof."""
        try:
            return step()
        except Exception as error:  # the last net under the one thread that must go on
            self.state.unread = repr(error)
            self.state.note(f"unexpected: {error!r}")
            return None

    def _first_cancel(self) -> None:
        if self.state.is_reopened:
            return  # the venue's cancel-all is called once a stop; the owner may work by hand by now
        if self.state.policy == "cancel_entries" or not self._venue.capabilities.cancel_all:
            return
        self._begins()
        try:
            failpoint("cancel.all")
            results = self._venue.cancel_all()
            failpoint("cancel.all_answered")
            self._take(results)
        except VenueError as error:
            self._in_book = self._pool.submit(self._working_in_book)
            self.state.note(f"cancel_all: {error}")

    def _begins(self) -> None:
        """The first cancel is about to leave."""
        if self.state.first_cancel_ms is None:
            self.state.first_cancel_ms = (self._clock.monotonic() - self._noticed) * 1000

    def hasten(self) -> None:
        """Called now and then: a cancel-all that is mute keeps no order waiting."""
        with self._hastening:
            late = self._clock.monotonic() - self._noticed >= HASTE_SECONDS
            if late and self._beside is None and not self.cancel_was_asked.is_set():
                self._beside = self._pool.submit(self._cancel_what_is_left)

    def _take(self, results: list[CancelResult]) -> None:
        for result in results:
            self.state.found.add(result.venue_order_id)
            if result.outcome is CancelOutcome.REQUESTED:
                self.state.canceled.add(result.venue_order_id)
            elif result.outcome is CancelOutcome.UNCONFIRMED:
                self.state.note(f"cancel {result.venue_order_id}: {result.message}")

    def _prove(self) -> bool:
        """Cancel and list until two empty lists stand after the in-flight window. False: not yet."""
        first = self._cancel_what_is_left()
        failpoint("cancel.window")
        is_over = self._window_is_over()  # a mute trader is ended whatever the venue says
        if first is None or first or not is_over:
            return False
        failpoint("cancel.proving")
        empty = 0
        while empty < 2 and not self._abandoned.is_set():
            left = self._cancel_what_is_left()
            if left is None or left:
                return False
            empty += 1
            if empty < 2:
                self._abandoned.wait(BETWEEN_EMPTY_SECONDS)
        if empty < 2 or self._works_unlisted():
            return False
        self._tally()
        return True

    # -- what became of them --------------------------------------------------------------------------------------

    def _tally(self) -> None:
        """Ask what became of orders whose cancel was not answered, and which a cancel-all ended that was not.

        It is for the figures only: a venue that does not tell costs a while and no proof.
        """
        if self._in_book is None and not self.state.found - self.state.canceled:
            return
        asked = self._pool.submit(self._look_back)
        try:
            told = asked.result(TALLY_SECONDS)
        except (VenueError, TimeoutError) as error:
            self.state.note(f"what became of the orders is not known: {error!r}")
            return
        in_book = set() if self._in_book is None else set(self._in_book.result().values())
        for order in told:
            name, at = order.venue_order_id, order.updated_at
            is_later = at is not None and at >= self._requested_as_told_in(at)
            if self._in_book is not None and order.state is OrderState.CANCELED and (name in in_book or is_later):
                self.state.found.add(name)
            if name in self.state.found and order.state is OrderState.CANCELED:
                self.state.canceled.add(name)

    def _requested_as_told_in(self, at: datetime) -> datetime:
        """Some venues tell whole seconds."""
        requested = self.state.requested_at
        return requested if at.microsecond else requested.replace(microsecond=0)

    def _look_back(self) -> list[VenueOrder]:
        """Orders of the last day, and older ones of ours that the book held open. Raises VenueError."""
        told = self._venue.orders_since(self.state.requested_at - TALLY_REACH)
        known = {o.venue_order_id for o in told}
        in_book = {} if self._in_book is None else self._in_book.result()
        older = (self._look_up(name) for name, at in in_book.items() if at not in known)
        return told + [o for o in older if o is not None]

    def _works_unlisted(self) -> bool:
        """Whether an order that the book holds open works although no list told it, since the venue lists it late, or
        cannot be asked for; the proof begins anew then. What was listed is not asked for again."""
        listed = self.state.found - self._unlisted
        names = [name for name, at in self._working_in_book().items() if at not in listed]
        try:
            told = [o for o in self._pool.map(self._look_up, names) if o is not None and o.state not in FINAL]
        except VenueError as error:
            self.state.unread = str(error)
            self.state.note(f"an order of the book: {error}")
            return True
        self._unlisted |= {o.venue_order_id for o in told}
        return self._cancel(told) > 0

    def _look_up(self, client_order_id: str) -> VenueOrder | None:
        if not ids.is_ours(client_order_id):
            return None
        try:
            return self._venue.order_by_client_id(client_order_id)
        except OrderNotFound:
            return None

    def _cancel_what_is_left(self) -> int | None:
        """One list call and a cancel for each order found; the number found, None where the venue was not read."""
        try:
            orders = self._venue.open_orders()
        except VenueError as error:
            self.state.unread = str(error)
            self.state.note(f"open_orders: {error}")
            if isinstance(error, PartlyRead):
                self._cancel(error.found)
            return None
        self.state.unread = ""
        return self._cancel(orders)

    def _cancel(self, orders: Sequence[VenueOrder]) -> int:
        targets = [o.venue_order_id for o in orders if self._concerns(o)]
        self._stops = [o for o in orders if o.stop_price is not None and o.venue_order_id not in targets]
        self.state.unconfirmed, self.state.working = len(targets), frozenset(targets)
        if targets:
            if self.state.state == "NOT_PROVEN":
                self.state.state = "STOPPING"
            self._begins()
            self.state.found.update(targets)
            failpoint("cancel.each")
            asked = [self._pool.submit(self._venue.cancel, name) for name in targets]
            self._publish(self.state)  # beside the cancels: a Redis that hangs must not delay them
            wait(asked)
            failpoint("cancel.each_answered")
            self._take([a.result() for a in asked])
            self._pause = POLL_SECONDS
        return len(targets)

    def _concerns(self, order: VenueOrder) -> bool:
        """Whether this stop cancels the order; foreign ones from after the stop are the owner's own hand."""
        if (order.client_order_id or "").startswith(FLATTEN_PREFIX):
            return False
        ours = ids.is_ours(order.client_order_id)
        if self.state.policy == "cancel_entries":
            effect = self._effect_in_book(order.client_order_id or order.venue_order_id) or ids.effect_of(
                order.client_order_id
            )
            if not ours or effect != Effect.ENTRY:
                self.state.left_alone.add(order.venue_order_id)
                return False
            return True
        if ours or order.created_at is None or order.created_at <= self.state.requested_at:
            return True
        self.state.foreign_after_stop.add(order.venue_order_id)
        return False

    def _is_stopped(self, position: VenuePosition) -> bool:
        """Whether stops that were left at the venue cover all of it."""
        stops = [o.qty - o.filled_qty for o in self._stops if o.ticker == position.ticker]
        return sum(stops) >= position.signed_qty > 0

    # -- what may still arrive ------------------------------------------------------------------------------------

    def _window_is_over(self) -> bool:
        """Whether no order from before the fence can still appear at the venue."""
        since = self._clock.monotonic() - self._noticed
        if self._epoch is None:
            self.state.trader = "not asked, Redis is away"
            return since >= IN_FLIGHT_SECONDS
        if self._gone_at is None and not self._trader.runs():
            # One that ended during this stop, killed for another account's part of it say, sent until just now.
            self._gone_at = self._clock.monotonic() if self._trader_ran else self._noticed
            self.state.trader = self.state.trader or "none runs"
        if self._gone_at is not None:
            return self._clock.monotonic() - self._gone_at >= AFTER_KILL_SECONDS and self._resolved()
        ack = self._trader.acknowledgement()
        if ack is not None and ack.epoch >= self._epoch:
            self.state.trader = "acknowledged"
            return not ack.in_flight or (since >= IN_FLIGHT_SECONDS and self._resolved())
        if since >= ACKNOWLEDGE_SECONDS:
            self.state.trader, is_over = self._trader.kill()
            if not is_over:  # one of another user's, say: what it has sent before the fence may still be on its way
                return since >= IN_FLIGHT_SECONDS and self._resolved()
            self._gone_at = self._clock.monotonic()
        return False

    def _resolved(self) -> bool:
        """Ask the venue for every id that the trader listed as in flight."""
        ack = self._trader.acknowledgement()
        unknown = set()
        for name in ack.in_flight if ack is not None else ():
            try:
                if self._venue.order_by_client_id(name).state not in FINAL:
                    unknown.add(name)
            except (OrderNotFound, VenueUnavailable):
                unknown.add(name)
        self.state.unknown = frozenset(unknown)
        return not unknown

    def _give_up_hope(self) -> None:
        since = self._clock.monotonic() - self._noticed
        if since >= NOT_PROVEN_SECONDS and not self.state.unconfirmed:
            self.state.state = "NOT_PROVEN"
        if self.state.unread or since > IN_FLIGHT_SECONDS:
            self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)

    def _done(self) -> None:
        failpoint("cancel.proven")
        try:
            positions = self._venue.positions()
            self.state.positions_open = len(positions)
            self.state.positions_unprotected = sorted(p.ticker for p in positions if not self._is_stopped(p))
        except VenueError as error:
            self.state.note(f"positions: {error}")
        self.state.unconfirmed, self.state.unknown = 0, frozenset()
        self.state.state, self.state.finished_at = "STOPPED", self._clock.now()
        if self.state.policy == "flatten":
            self.state.flatten = "CLOSING"
        self._publish(self.state)
        failpoint("cancel.finished")
        if self.state.policy == "flatten":
            for run in self._former:
                run.wait_ended()
            self._flatten(self.state, self._abandoned)
            self._publish(self.state)
