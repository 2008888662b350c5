"""One stop: fence, cancel at the venue, prove that it is empty, report. Runs in a thread of its own and never gives up.

The fence leaves first, and the first cancel waits for no answer to it, so that a Redis that hangs does not delay the
venue nor the other way round; the proof waits for both.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import TypeVar

from shared.clock import Clock
from shared.errors import VenueError
from worker.emergency.fencing import Fencing
from worker.emergency.standby import Standby
from worker.emergency.state import StopState
from worker.emergency.sweep import Pace, Sweep
from worker.emergency.tally import Tally
from worker.emergency.window import IN_FLIGHT_SECONDS, InFlightWindow
from worker.failpoints import failpoint
from worker.venues.base import Venue

BETWEEN_EMPTY_SECONDS = 0.1
NOT_PROVEN_SECONDS = 60.0
HASTE_SECONDS = 0.5
"""How long a cancel-all may go unanswered before orders are cancelled one by one beside it."""
T = TypeVar("T")


class StopRun:
    """Carries one stop out at one account's venue.

    ``former`` are earlier runs of the account that were abandoned: nothing is flattened while one has a call out.
    """

    def __init__(
        self,
        state: StopState,
        venue: Venue,
        sweep: Sweep,
        tally: Tally,
        window: InFlightWindow,
        fencing: Fencing,
        standby: Standby,
        pace: Pace,
        publish: Callable[[StopState], None],
        flatten: Callable[[StopState, threading.Event], None],
        clock: Clock,
        noticed: float,
        former: Sequence[StopRun] = (),
    ) -> None:
        self.state, self._venue, self._sweep, self._tally, self._window = state, venue, sweep, tally, window
        self._fencing, self._standby, self._pace = fencing, standby, pace
        self._publish, self._flatten = publish, flatten
        self._clock, self._noticed, self._former = clock, noticed, former
        self._hastening = threading.Lock()
        self._beside: Future[int | None] | None = None
        self._abandoned = threading.Event()
        self._epoch: int | None = None
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
        self._window.begin()
        try:
            self._netted(self._first_cancel)
        finally:
            with self._hastening:
                self.cancel_was_asked.set()
            if self._beside is not None:
                wait([self._beside])
        self._await_fence()
        while not self._abandoned.is_set():
            if self._netted(self._prove):
                self._done()
                return
            self._give_up_hope()
            self._publish(self.state)
            self._abandoned.wait(self._pace.seconds)

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
        if (
            not self.state.is_reopened
        ):  # the venue's cancel-all is called once a stop; the owner may work by hand by now
            self._sweep.cancel_all()

    def hasten(self) -> None:
        """Called now and then: a cancel-all that is mute keeps no order waiting."""
        with self._hastening:
            late = self._clock.monotonic() - self._noticed >= HASTE_SECONDS
            if late and self._beside is None and not self.cancel_was_asked.is_set():
                self._beside = self._sweep.begin_listed()

    def _await_fence(self) -> None:
        fencing = self._fencing.ended()
        if not fencing.done():
            self._netted(self._sweep.cancel_listed)
        self._epoch = fencing.result()
        failpoint("cancel.fenced")
        self.state.fenced = self._epoch is not None
        self._publish(self.state)
        failpoint("cancel.reported")

    def _prove(self) -> bool:
        """Cancel and list until two empty lists stand after the in-flight window. False: not yet."""
        left = self._sweep.cancel_listed()
        failpoint("cancel.window")
        is_over = self._window.is_over(self._epoch)  # a mute trader is ended whatever the venue says
        if left != 0 or not is_over:
            return False
        failpoint("cancel.proving")
        if not self._is_empty() or not self._is_empty(after=BETWEEN_EMPTY_SECONDS) or self._sweep.cancel_unlisted():
            return False
        self._tally.settle()
        return True

    def _is_empty(self, after: float = 0) -> bool:
        """Whether a list that is read now is empty; False as well where the run was abandoned."""
        if after:
            self._abandoned.wait(after)
        return not self._abandoned.is_set() and self._sweep.cancel_listed() == 0

    def _give_up_hope(self) -> None:
        since = self._clock.monotonic() - self._noticed
        if since >= NOT_PROVEN_SECONDS and not self.state.unconfirmed:
            self.state.state = "NOT_PROVEN"
        if self.state.unread or since > IN_FLIGHT_SECONDS:
            self._pace.slow_down()

    # -- the end --------------------------------------------------------------------------------------------------

    def _done(self) -> None:
        failpoint("cancel.proven")
        self._count_positions()
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

    def _count_positions(self) -> None:
        try:
            positions = self._venue.positions()
        except VenueError as error:
            self.state.note(f"positions: {error}")
            return
        self.state.positions_open = len(positions)
        self.state.positions_unprotected = sorted(p.ticker for p in positions if not self._sweep.is_stopped(p))
