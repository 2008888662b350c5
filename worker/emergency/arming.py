"""Arming: every second anew, as long as everything allows it, and what must be on disk before the first time."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from shared.clock import Clock, rfc3339
from shared.documents import Reading, RiskSettings, TradingSettings
from worker.emergency.account import AccountStop
from worker.emergency.breaker import Breaker
from worker.emergency.fencing import Fencer
from worker.emergency.latch import Latch
from worker.emergency.memory import MemoryFile
from worker.failpoints import failpoint

ARM_SECONDS = 1.0


class Arming:
    """``memory`` is the first account's, which holds what stands for all of them."""

    def __init__(
        self,
        accounts: Sequence[AccountStop],
        memory: MemoryFile,
        fencer: Fencer,
        latch: Latch,
        breaker: Breaker,
        clock: Clock,
        logger: structlog.stdlib.BoundLogger,
    ) -> None:
        self._accounts, self._memory, self._fencer, self._latch = tuple(accounts), memory, fencer, latch
        self._breaker, self._clock, self._logger = breaker, clock, logger
        self._next = 0.0

    def allow(self, settings: Reading[TradingSettings], risk: Reading[RiskSettings]) -> bool:
        """Both documents are ON: lift what may be lifted, finish the stop that runs, arm.

        Returns whether trading begins anew with this. Raises StoreError.
        """
        if not self._latch.lift(settings, risk) or not self._breaker.let_go():
            return False
        if not self._trusted():
            self._memory.change(resumed_at=rfc3339(self._clock.now()))
            if not self._trusted():
                return False
        return self._arm(risk.value)

    def _trusted(self) -> bool:
        """Whether every account's memory is on disk."""
        return all(account.memory.trusted for account in self._accounts)

    def _arm(self, risk: RiskSettings) -> bool:
        now = self._clock.monotonic()
        fresh = self._breaker.cause is not None or not self._memory.memory.active
        if not fresh and now < self._next:
            return False
        epoch = self._fencer.epoch_to_arm(anew=fresh)
        if epoch is None:
            return False
        self._remember(epoch, risk, fresh=fresh)
        if not self._trusted():
            return False
        self._fencer.line.keep()
        failpoint("arm.before")
        self._fencer.line.arm(epoch)
        failpoint("arm.after")
        self._next = now + ARM_SECONDS
        if fresh:
            self._breaker.closed()
            self._logger.info("armed", epoch=epoch)
        return fresh

    def _remember(self, epoch: int, risk: RiskSettings, *, fresh: bool) -> None:
        if fresh:
            for account in self._accounts:
                account.memory.change(proven=True, stop=None, flatten=None)
            self._memory.change(active=True, reason="", resumed_at=rfc3339(self._clock.now()))
        self._memory.change(
            highest_epoch=max(epoch, self._memory.memory.highest_epoch),
            on_stop=risk.on_stop,
            on_stop_automatic=risk.on_stop_automatic,
            emergency_stop_active=risk.emergency_stop_active,
            reduce_only=risk.reduce_only,
        )
