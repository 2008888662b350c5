"""The latch: a stop that only a frontend lifts. It stands on disk; Redis shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import structlog

from shared.clock import Clock, rfc3339
from shared.documents import Reading, RiskSettings, TradingSettings
from worker.emergency.keys import EmergencyKeys
from worker.emergency.look import Lookout
from worker.emergency.memory import MemoryFile
from worker.emergency.state import MAX_DETAIL
from worker.emergency.switch import Cause, explicitly_lifted
from worker.failpoints import failpoint


class Latch:
    """``later`` takes what is to be shown once Redis answers."""

    def __init__(
        self,
        memory: MemoryFile,
        keys: EmergencyKeys,
        lookout: Lookout,
        clock: Clock,
        logger: structlog.stdlib.BoundLogger,
        later: Callable[[Callable[[], None]], None],
    ) -> None:
        self._memory, self._keys, self._lookout = memory, keys, lookout
        self._clock, self._logger, self._later = clock, logger, later

    @property
    def held(self) -> Mapping[str, Any] | None:
        return self._memory.memory.latch

    def set(self, cause: Cause) -> None:
        """On disk at once, in Redis as soon as it takes it."""
        latch = {
            "reason": cause.reason,
            "source": cause.source,
            "detail": cause.detail[:MAX_DETAIL],
            "at": rfc3339(self._clock.now()),
            "versions": None,
        }
        failpoint("latch.before")
        self._memory.change(latch=latch)
        failpoint("latch.after")
        self._later(self.show)

    def show(self) -> None:
        """Show the latch in Redis, and remember which documents stood when it was set. Raises StoreError."""
        latch = self.held
        if latch is None:
            return
        self._keys.set_stop_flag()
        if latch.get("versions") is None:
            good = self._lookout.good
            settings, risk = self._keys.store.read_settings(good[0]), self._keys.store.read_risk(good[1])
            latch = {**latch, "versions": {"settings": settings.version, "risk": risk.version}}
            self._memory.change(latch=latch)
        failpoint("latch.flagged")
        self._keys.show_latch(latch)

    def lift(self, settings: Reading[TradingSettings], risk: Reading[RiskSettings]) -> bool:
        """Whether trading may go on: no latch stands, or both documents lift it in so many words."""
        latch = self.held
        if latch is None:
            return True
        versions = latch.get("versions")
        changed = versions != {"settings": settings.version, "risk": risk.version}
        if versions is None or not changed or not explicitly_lifted(settings, risk):
            return False
        failpoint("latch.lift")
        self._memory.change(latch=None)
        self._later(lambda: self._keys.show_latch(None))
        self._logger.warning("latch_lifted", reason=latch.get("reason"))
        return True
