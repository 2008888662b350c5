"""Signs of life: one per account, gathered into the one heartbeat of the process.

The process beats only where every account's loop has shown life since its last beat, so that one that hangs makes the
whole process silent within the key's life, whatever the others do.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from shared.accounts import DEFAULT_ACCOUNT
from shared.clock import Clock, rfc3339
from worker.runtime import Heartbeat


class AccountPulse:
    """What one account's thread tells of itself. ``serving`` is false while another process trades the account."""

    def __init__(self, account: str, clock: Clock, urgent: threading.Event | None = None) -> None:
        self.account, self._clock = account, clock
        self._urgent = urgent or threading.Event()
        self.extra: dict[str, object] = {}
        self.serving = False
        self.seen_at = float("-inf")
        self.last_activity: str | None = None

    def beat(self, *, force: bool = False) -> None:
        """The loop turns. ``force``: there is something to tell at once."""
        self.seen_at = self._clock.monotonic()
        if force:
            self._urgent.set()

    def active(self) -> None:
        """Note that the account did something that matters."""
        self.last_activity = rfc3339(self._clock.now())

    def document(self) -> Mapping[str, object]:
        return {"last_activity": self.last_activity, **dict(self.extra)}


class ProcessPulse:
    """The process's heartbeat, written from its main thread. What account ``default`` tells stands at its top too."""

    def __init__(self, heartbeat: Heartbeat, accounts: Sequence[str], clock: Clock) -> None:
        self._heartbeat, self._clock = heartbeat, clock
        self.urgent = threading.Event()
        self.accounts = {name: AccountPulse(name, clock, self.urgent) for name in accounts}
        self._written_at = float("-inf")
        self._next = float("-inf")

    def tend(self) -> None:
        """Beat where it is due and all live, at once where an account has something to tell."""
        now = self._clock.monotonic()
        urgent = self.urgent.is_set()
        alive = all(pulse.seen_at > self._written_at for pulse in self.accounts.values())
        if not urgent and not (alive and now >= self._next):
            return
        self.urgent.clear()
        self._gather()
        self._written_at, self._next = now, now + self._heartbeat.interval
        self._heartbeat.beat(force=True)

    def farewell(self) -> None:
        """The process drains: an announced end is no silence."""
        self._gather()
        self._heartbeat.farewell()

    def _gather(self) -> None:
        serving = [pulse for pulse in self.accounts.values() if pulse.serving]
        default = self.accounts.get(DEFAULT_ACCOUNT)
        self._heartbeat.extra = {
            **(dict(default.extra) if default is not None and default.serving else {}),
            "accounts": {pulse.account: pulse.document() for pulse in serving},
        }
        active = [pulse.last_activity for pulse in serving if pulse.last_activity is not None]
        self._heartbeat.last_activity = max(active, default=None)
