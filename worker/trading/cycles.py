"""When the cycle runs, and what is told of it."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from shared.clock import Clock
from shared.errors import LeaseLost, SixbotError, StoreUnreachable
from worker.core.types import MarketClock
from worker.trading.cycle import Cycle, CycleReport
from worker.trading.oversight import Oversight
from worker.trading.ports import Book
from worker.trading.pulse import AccountPulse
from worker.trading.readiness import Look
from worker.trading.status import TraderStatus

LOOK_AGAIN_SECONDS = 1.0


class Cycles:
    """Runs a cycle every ``seconds`` while trading is allowed, and one as soon as it becomes so."""

    def __init__(
        self,
        cycle: Cycle,
        seconds: float,
        oversight: Oversight,
        status: TraderStatus,
        book: Book,
        pulse: AccountPulse,
        clock: Clock,
        logger: structlog.stdlib.BoundLogger,
        *,
        publishes_predictions: bool,
    ) -> None:
        self._cycle, self._seconds, self._oversight, self._status = cycle, seconds, oversight, status
        self._book, self._pulse, self._clock, self._logger = book, pulse, clock, logger
        self._publishes_predictions = publishes_predictions
        self._next = 0.0
        self._was_ready = False
        self.next_at: datetime | None = None
        """When the next one is due, as far as that is known."""

    def start_over(self) -> None:
        """After a recovery the first cycle is due at once."""
        self._was_ready = False

    def turn(self, look: Look, *, paused: bool) -> bool:
        """Run a cycle where one is due; returns whether. Raises StoreUnreachable, LeaseLost."""
        if look.ready and not self._was_ready:
            self._next = 0.0
        self._was_ready = look.ready
        if not look.ready or paused or self._clock.monotonic() < self._next:
            return False
        self._schedule(self._seconds)
        self._pulse.active()
        if self._run(look):
            self._oversight.soon()
            while self._next <= self._clock.monotonic():  # one that took longer skips those that it missed
                self._schedule(self._next - self._clock.monotonic() + self._seconds)
        return True

    def _run(self, look: Look) -> bool:
        """A fault in a cycle pauses trading until the next one, which starts clean."""
        try:
            snapshot = self._oversight.reconcile()
            report = self._cycle.run(look.switches, look.epoch, snapshot)
        except (StoreUnreachable, LeaseLost):
            raise
        except Exception as error:  # a predictor may raise anything; the venue and the bots go on
            self._logger.exception("cycle_failed")
            why = error if isinstance(error, SixbotError) else repr(error)
            self._status.fault("cycle", f"cycle failed: {why}")
            self._oversight.heed(error)
            return False
        self._tell(report)
        if report.market is not None:
            self._wait_for_open(report.market)
        self._book.add_equity(self._clock.now(), str(snapshot.account.equity))
        return True

    def _schedule(self, seconds: float) -> None:
        self._next = self._clock.monotonic() + seconds
        self.next_at = self._clock.now() + timedelta(seconds=seconds)

    def _wait_for_open(self, market: MarketClock) -> None:
        """The clock is asked again meanwhile: one wrong answer must not cost a day."""
        if market.is_open or market.next_open is None:
            return
        wait = (market.next_open - self._clock.now()).total_seconds()
        self._schedule(max(wait, LOOK_AGAIN_SECONDS))
        self._next = min(self._next, self._clock.monotonic() + max(self._seconds, LOOK_AGAIN_SECONDS))

    def _tell(self, report: CycleReport) -> None:
        self._status.after_cycle(report)
        if self._publishes_predictions and report.predictions:
            self._status.predictions(report.predictions)
        self._logger.info(
            "cycle",
            submitted=len(report.submitted),
            denied=[f"{t}: {d}" for t, d in report.denials],
            errors=report.errors,
            aborted=report.aborted or None,
        )
