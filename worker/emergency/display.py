"""What the emergency worker shows in Redis, on change and when Redis is back: status, latch, report, audit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shared.audit import ExternalChanges
from shared.clock import Clock
from shared.documents import Reading, RiskSettings, TradingSettings
from shared.errors import StoreError
from worker.emergency.keys import EmergencyKeys
from worker.emergency.memory import MemoryFile

STATUS_SECONDS = 10.0
"""The status is written on change, and this often all the same: somebody may have mangled it."""


class Display:
    """``later`` may be called from any thread; the worker's own loop does the showing."""

    def __init__(self, keys: EmergencyKeys, memory: MemoryFile, clock: Clock) -> None:
        self._keys, self._memory, self._clock = keys, memory, clock
        self._audit = ExternalChanges(keys.store, clock)
        self._unshown: list[Callable[[], None]] = []
        self._shown: tuple[Any, ...] | None = None
        self._next_status = 0.0

    def write_default_settings(self) -> None:
        """See ``shared.control``. Raises StoreError."""
        self._keys.write_default_settings()

    def later(self, show: Callable[[], None]) -> None:
        """Something that Redis must be told once it answers."""
        self._unshown.append(show)
        self._shown = None

    def leave(self) -> None:
        """Nobody arms any more: a reader must not see trading active for as long as nobody comes back. The memory keeps
        that it was. Raises StoreError."""
        held = self._memory.memory
        if held.active:
            self._keys.status({"active": False, "state": "HALTED", "stop_reason": None}, held.highest_epoch)

    def tell(
        self,
        settings: Reading[TradingSettings],
        risk: Reading[RiskSettings],
        reason: str | None,
        *,
        reducing: bool = False,
    ) -> None:
        """What Redis refuses is tried again at the next turn; ``reducing`` is a trader that denies entries by itself.

        Raises StoreError.
        """
        pending, self._unshown = self._unshown, []
        for number, show in enumerate(pending):
            try:
                show()
            except StoreError:
                self._unshown = pending[number:] + self._unshown
                raise
        held = self._memory.memory
        state = "HALTED" if not held.active else "REDUCING" if reducing or risk.value.reduce_only else "ACTIVE"
        reason = None if held.active else reason or held.reason or None
        shown, now = (held.active, state, reason, held.highest_epoch), self._clock.monotonic()
        if shown != self._shown or now >= self._next_status:
            self._keys.status({"active": held.active, "state": state, "stop_reason": reason}, held.highest_epoch)
            self._shown, self._next_status = shown, now + STATUS_SECONDS
        keys = self._keys.store.keys
        self._audit.look({keys.trading_settings: settings.raw, keys.risk_settings: risk.raw})
