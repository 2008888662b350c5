"""One account's part of every stop, with a venue session, threads and a memory of its own.

Nothing here waits for another account: a venue that is dead, mute or slow delays its own account only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import structlog

from shared.clock import Clock, parse_rfc3339
from shared.errors import VenueError
from worker.emergency.book import BookReader
from worker.emergency.fencing import Fencing
from worker.emergency.flatten import PENDING, Flattener
from worker.emergency.memory import MemoryFile
from worker.emergency.report import StopReport
from worker.emergency.sentry import Sentry
from worker.emergency.standby import Standby
from worker.emergency.state import StopState
from worker.emergency.stop import StopRun
from worker.emergency.sweep import Begun, Pace, Sweep
from worker.emergency.tally import Tally
from worker.emergency.trader import TraderProcess
from worker.emergency.window import InFlightWindow
from worker.venues.base import Venue

CANCEL_THREADS = 50
POLL_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 5.0
WARM_SECONDS = 5.0


class AccountStop:
    """Guards one account. ``new_fence`` makes the fence of a stop that is reopened."""

    def __init__(
        self,
        name: str,
        venue: Venue,
        memory: MemoryFile,
        trader: TraderProcess,
        book: BookReader,
        report: StopReport,
        new_fence: Callable[[], Fencing],
        clock: Clock,
        logger: structlog.stdlib.BoundLogger,
    ) -> None:
        self.name, self.venue, self.memory = name, venue, memory
        self._trader, self._book, self._report, self._new_fence = trader, book, report, new_fence
        self._clock, self._logger = clock, logger
        self._sentry = Sentry(venue)
        self._pool = ThreadPoolExecutor(CANCEL_THREADS + 2, thread_name_prefix=f"emergency-{name}")
        self._standby = Standby(f"stop-{name}")
        self._changing = threading.Lock()
        self._former: tuple[StopRun, ...] = ()
        self._next_warm = self._next_sentry = 0.0
        self._watched: StopState | None = None
        self.run: StopRun | None = None
        self.reachable: bool | None = None

    def begin(self) -> None:
        """Have a thread wait for the first stop, and note on disk whose memory this is."""
        self.memory.change(account=self.name, venue=self.venue.name)
        self._standby.ready()

    # -- a stop ---------------------------------------------------------------------------------------------------

    def carry_out(self, state: StopState, fencing: Fencing, noticed: float, after: StopState | None = None) -> bool:
        """Start, or go on with, a stop; waits for nothing. False where another one than ``after`` stands by now."""
        with self._changing:
            if after is not None and self._standing is not after:
                return False
            self._watched = None
            if self.run is not None:
                self.run.abandon()
                self._former = tuple(r for r in (*self._former, self.run) if r.alive)
            self._report.put(self.name, self.venue.name, state)
            self.run = self._new_run(state, fencing, noticed)
            self.run.start()
            return True

    def _new_run(self, state: StopState, fencing: Fencing, noticed: float) -> StopRun:
        pace, begun = Pace(POLL_SECONDS, LONGEST_PAUSE_SECONDS), Begun(state, self._clock, noticed)
        tally = Tally(self.name, state, self.venue, self._book, self._pool)
        return StopRun(
            state,
            self.venue,
            Sweep(self.name, state, self.venue, self._book, self._pool, self._publish, pace, begun, tally),
            tally,
            InFlightWindow(state, self.venue, self._trader, self._clock, noticed),
            fencing,
            self._standby,
            pace,
            self._publish,
            Flattener(self.venue, self.memory, self._publish).run,
            self._clock,
            noticed,
            self._former,
        )

    def _publish(self, state: StopState) -> None:
        self._report.publish(self.name, self.venue.name, state)

    def wait_cancel_asked(self, deadline: float) -> None:
        """Until the first cancel of the run is answered, or the deadline (monotonic)."""
        if self.run is not None:
            self.run.cancel_was_asked.wait(max(deadline - self._clock.monotonic(), 0))

    @property
    def _standing(self) -> StopState | None:
        """The last stop, carried out here or by an earlier process; None once trading was resumed."""
        return self._watched if self.run is None else self.run.state

    @property
    def stopping(self) -> bool:
        """Whether a stop is still being carried out."""
        return self.run is not None and self.run.state.state == "STOPPING"

    @property
    def not_proven(self) -> bool:
        return self.run is not None and self.run.state.state == "NOT_PROVEN"

    def fenced_late(self) -> None:
        """The epoch was raised once Redis was back."""
        if self.run is not None:
            self.run.state.fenced = True
            self._publish(self.run.state)

    def abandon(self) -> None:
        """No more calls: trading is resumed, or the process ends. Waits for none that is out."""
        if self.run is not None:
            self.run.abandon()

    @property
    def busy(self) -> bool:
        """Whether a call of a run that was abandoned is still out."""
        return any(run.alive for run in (*self._former, *((self.run,) if self.run is not None else ())))

    def drop(self) -> None:
        """Trading is resumed: the watch after the stop ends, and a flatten that waits or works."""
        with self._changing:
            run, self.run, self._watched = self.run, None, None
        if run is not None and run.state.flatten in PENDING:
            run.state.flatten = "DROPPED"
            self._publish(run.state)

    def close(self, deadline: float) -> None:
        """Give up; a call that is out is waited for until the deadline (monotonic)."""
        for run in (*self._former, *((self.run,) if self.run is not None else ())):
            run.wait_ended(max(deadline - self._clock.monotonic(), 0))
        self._standby.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    # -- between stops --------------------------------------------------------------------------------------------

    def tend(self) -> None:
        """Remember a proof, stand sentry after it, keep a thread waiting and the venue session warm."""
        self._standby.ready()
        run, now = self.run, self._clock.monotonic()
        if run is not None:
            run.hasten()
        if run is not None and run.finished and not self.memory.memory.proven:
            self.memory.change(proven=True)
        state = self._standing
        if state is not None and state.state == "STOPPED" and now >= self._next_sentry:
            self._next_sentry = now + Sentry.PERIOD_SECONDS
            self._pool.submit(self._stand_sentry, state)
        if now >= self._next_warm:  # so that a stop never pays for a handshake
            self._next_warm = now + WARM_SECONDS
            self._pool.submit(self._warm)

    def _stand_sentry(self, state: StopState) -> None:
        """One of ours appearing reopens the stop."""
        if not self._sentry.sees_ours(state.policy) or self._standing is not state:
            return
        self._logger.warning("stop_reopened", stop_id=state.stop_id, account=self.name)
        self.memory.change(proven=False)
        self.carry_out(state.reopened(), self._new_fence(), self._clock.monotonic(), after=state)

    def _warm(self) -> None:
        try:
            self.venue.clock()
            self.reachable = True
        except VenueError:
            self.reachable = False

    # -- after a restart ------------------------------------------------------------------------------------------

    def recall(self) -> StopState | None:
        """The stop that an earlier process carried out, with what the report's row of it says, to be gone on with or
        watched over."""
        held = self.memory.memory
        proven_at = self._clock.now() if held.proven else None
        self._watched = state = StopState.recalled(held.stop, self._report.read_row(self.name), proven_at)
        if state is not None and held.proven:
            self._report.put(self.name, self.venue.name, state)
        return state

    def go_on(self, fencing: Fencing, noticed: float) -> bool:
        """Go on with the stop that was recalled; False where there is none."""
        return self._watched is not None and self.carry_out(self._watched, fencing, noticed)

    @property
    def flatten_waits(self) -> bool:
        """Whether an earlier process was closing positions, and this one does not yet."""
        flatten = self.memory.memory.flatten
        return self.run is None and flatten is not None and flatten.get("state") in PENDING

    def flatten_begun(self, otherwise: datetime) -> tuple[str, datetime]:
        """The stop's id, and when it was asked for."""
        flatten: Mapping[str, Any] = self.memory.memory.flatten or {}
        try:
            requested = parse_rfc3339(str(flatten.get("requested_at")))
        except ValueError:
            requested = otherwise
        return str(flatten.get("stop_id")), requested
