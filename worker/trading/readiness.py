"""Whether an account's trader may open orders now, and what it tells of that in ``trading_status``."""

from __future__ import annotations

from datetime import datetime

import msgspec
import structlog

from shared.clock import Clock
from shared.errors import SixbotError, StoreRefused
from worker.trading.fence import Fence
from worker.trading.ports import Switches
from worker.trading.status import TraderStatus
from worker.trading.switches import SwitchReader

UNARMED_SECONDS = 5.0
UNARMED = "not armed: the emergency worker is silent or a stop is latched (stop_latch), so nothing is sent"
ENDS_A_SESSION = ("redis", "lease", "venue", "loop")
"""Faults after which a trader starts over, by where they come from."""


class Look(msgspec.Struct, frozen=True, gc=False):
    """What one look found. ``epoch`` is the one that intents carry, 0 where there is none; ``ready``: strictly ON, and
    armed for that epoch."""

    switches: Switches
    epoch: int
    ready: bool


class Readiness:
    """Reads the switches and the arming; publishes the account's status with the epoch it was true for."""

    def __init__(
        self,
        switches: SwitchReader,
        fence: Fence,
        status: TraderStatus,
        clock: Clock,
        logger: structlog.stdlib.BoundLogger,
    ) -> None:
        self._switches, self._fence, self._status, self._clock, self._logger = switches, fence, status, clock, logger
        self._unarmed_since: float | None = None

    def write_default(self) -> None:
        """A missing ``trading_settings`` at start is the one case that writes a default: OFF. Raises StoreError."""
        self._switches.write_default()

    def look(self) -> Look:
        """Raises StoreError."""
        switches, epoch = self._switches.read(), self._fence.epoch()
        ready = switches.on and epoch is not None and self._fence.armed_epoch() == epoch
        return Look(switches, epoch or 0, ready)

    def read_again(self, look: Look) -> Look:
        """The documents anew, after something that took long. Raises StoreError."""
        return Look(self._switches.read(), look.epoch, look.ready)

    def watch_arming(self, look: Look) -> None:
        """Both documents say ON and nobody arms: say so, since nothing else would."""
        now = self._clock.monotonic()
        if not look.switches.on or look.ready:
            self._unarmed_since = None
        elif self._unarmed_since is None:
            self._unarmed_since = now
        silent = self._unarmed_since is not None and now - self._unarmed_since >= UNARMED_SECONDS
        self._status.fault("arming", UNARMED if silent else None)

    def tell(self, look: Look, next_run: datetime | None) -> None:
        """Publish the status where it changed. Raises StoreUnreachable."""
        self._status.next_run = next_run if look.switches.on else None
        self._status.fault("document", look.switches.error)
        self._publish(look)

    def tell_anew(self) -> None:
        """Publish what changed since, within something that takes long. Raises StoreUnreachable."""
        self._publish(self.look())

    def tell_fault(self, source: str, why: str) -> None:
        """Publish what ended a session, as far as Redis takes it; everything is published again after that."""
        self._status.fault(source, why)
        self._status.forget()
        try:
            self._publish(self.look())  # a status without the epoch in force would be refused as an old one
        except SixbotError:
            self._logger.info("status_not_published")

    def recovered(self) -> None:
        """What ended a session is over."""
        for source in ENDS_A_SESSION:
            self._status.fault(source, None)

    def _publish(self, look: Look) -> None:
        try:
            self._status.publish(self._switches.applied(look.switches), look.epoch)
        except StoreRefused as error:
            self._logger.warning("status_not_published", error=str(error))
