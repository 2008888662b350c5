"""What a trader does between taking an account's lease and its first order."""

from __future__ import annotations

import structlog

from worker.failpoints import failpoint
from worker.runtime import StopSignals
from worker.trading.bots.fleet import Fleet
from worker.trading.inbox import Intake
from worker.trading.mend import Mender
from worker.trading.oversight import Oversight

LOOK_TWICE_SECONDS = 1.0


class Startup:
    """Makes the book what the venue says, and asks for a stop where that cannot be explained."""

    def __init__(
        self,
        mender: Mender,
        oversight: Oversight,
        bots: Fleet,
        intake: Intake,
        signals: StopSignals,
        logger: structlog.stdlib.BoundLogger,
    ) -> None:
        self._mender, self._oversight, self._bots, self._intake = mender, oversight, bots, intake
        self._signals, self._logger = signals, logger

    def recover(self) -> None:
        """Figures, book and bots, in this order. Raises VenueError, StoreError, LeaseLost."""
        self._logger.info("recovering")
        self._mender.run()
        self._oversight.start_over()
        if self._oversight.suspects:
            self._intake.wait_out(LOOK_TWICE_SECONDS, self._signals.stopping)
            self._oversight.judge_start()
        self._bots.recover()
        failpoint("recover.done")
        snapshot = self._oversight.snapshot
        self._logger.info("recovered", open_orders=len(snapshot.orders) if snapshot is not None else 0)
