"""What a trader asks of the emergency worker, in its heartbeat: a stop, or to show that only exits are let through."""

from __future__ import annotations

from shared.clock import Clock, rfc3339
from worker.trading.pulse import AccountPulse

MISMATCH = "reconcile_mismatch"
LOSS = "risk_limit"


class HaltRequest:
    """At most one request at a time: the first reason stands until it is over."""

    def __init__(self, pulse: AccountPulse, clock: Clock) -> None:
        self._pulse, self._clock = pulse, clock

    def ask(self, reason: str, detail: str) -> None:
        """Ask for a stop, at once."""
        if self._pulse.extra.get("halt") is None:
            self._pulse.extra["halt"] = {"reason": reason, "detail": detail, "at": rfc3339(self._clock.now())}
            self._pulse.beat(force=True)

    def withdraw(self, reason: str) -> None:
        """What was asked for this reason is over."""
        asked = self._pulse.extra.get("halt")
        if isinstance(asked, dict) and asked.get("reason") == reason:
            del self._pulse.extra["halt"]

    def reducing(self, drift: str) -> None:
        """Show that a drift denies entries; empty when it is over."""
        extra = self._pulse.extra
        if bool(drift) == ("reducing" in extra):
            return
        if drift:
            extra["reducing"] = drift
        else:
            del extra["reducing"]
        self._pulse.beat(force=True)
