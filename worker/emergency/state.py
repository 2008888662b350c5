"""What is known of one account's part of a stop: its run changes it, the report is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from shared.clock import parse_rfc3339, rfc3339
from worker.emergency.switch import Cause

_LISTED = 100
MAX_DETAIL = 1000
"""What of a cause goes to disk: a memory that does not fit there would forbid trading."""


@dataclass(slots=True)
class StopState:
    """What is known of a stop so far; the report is made of it."""

    stop_id: str
    cause: Cause
    policy: str
    requested_at: datetime
    state: str = "STOPPING"
    first_cancel_ms: float | None = None
    found: set[str] = field(default_factory=set)
    canceled: set[str] = field(default_factory=set)
    working: frozenset[str] = frozenset()
    unconfirmed: int = 0
    unread: str = ""
    unknown: frozenset[str] = frozenset()
    foreign_after_stop: set[str] = field(default_factory=set)
    left_alone: set[str] = field(default_factory=set)
    positions_open: int | None = None
    positions_unprotected: list[str] = field(default_factory=list)
    trader: str = ""
    fenced: bool = False
    flatten: str = ""
    errors: list[str] = field(default_factory=list)
    finished_at: datetime | None = None
    is_reopened: bool = False

    def for_account(self) -> StopState:
        """The same stop, with figures of its own."""
        return StopState(self.stop_id, self.cause, self.policy, self.requested_at, is_reopened=self.is_reopened)

    def reopened(self) -> StopState:
        """The same stop, because an order of ours appeared after it was proven."""
        return replace(self, state="STOPPING", finished_at=None, is_reopened=True)

    def identity(self) -> dict[str, Any]:
        """What makes it the same stop after a restart."""
        cause = asdict(self.cause) | {"detail": self.cause.detail[:MAX_DETAIL]}
        at = rfc3339(self.requested_at)
        return {"stop_id": self.stop_id, "policy": self.policy, "requested_at": at, "cause": cause}

    @classmethod
    def recalled(
        cls, identity: Mapping[str, Any] | None, reported: object, proven_at: datetime | None
    ) -> StopState | None:
        """The stop that ``identity`` was told of, to be gone on with, or proven; None where that cannot be read. Its
        figures are taken from the account's row of ``stop_report``, where that is of the same stop."""
        try:
            found = dict(identity or {})
            at = parse_rfc3339(str(found["requested_at"]))
            state = cls(str(found["stop_id"]), Cause(**found["cause"]), str(found["policy"]), at, is_reopened=True)
        except (KeyError, TypeError, ValueError):
            return None
        if isinstance(reported, dict) and reported.get("stop_id") == state.stop_id:
            canceled, first = reported.get("canceled"), reported.get("first_cancel_ms")
            state.canceled = set(map(str, canceled if isinstance(canceled, list) else ()))
            state.found = set(state.canceled)
            state.first_cancel_ms = first if isinstance(first, int | float) else None
            held = reported.get("positions_open")
            state.positions_open = held if isinstance(held, int) else None
        if proven_at is not None:
            state.state, state.finished_at = "STOPPED", proven_at
        return state

    def note(self, error: str) -> None:
        """Keep an error for the report, bounded and without repeats."""
        if error not in self.errors and len(self.errors) < 20:
            self.errors.append(error)

    def row(self, venue: str) -> dict[str, Any]:
        """An account's row of ``stop_report``. What the venue still lists is not cancelled, whatever it answered."""
        canceled = self.canceled - self.working
        return {
            "venue": venue,
            "state": self.state,
            "stop_id": self.stop_id,
            "reason": self.cause.reason,
            "source": self.cause.source,
            "detail": self.cause.detail,
            "policy": self.policy,
            "requested_at": rfc3339(self.requested_at),
            "finished_at": None if self.finished_at is None else rfc3339(self.finished_at),
            "first_cancel_ms": None if self.first_cancel_ms is None else round(self.first_cancel_ms, 3),
            "orders_found": len(self.found),
            "orders_canceled": len(canceled),
            "orders_unconfirmed": self.unconfirmed,
            "positions_open": self.positions_open,
            "canceled": sorted(canceled)[:_LISTED],
            "unread": self.unread or None,
            "unknown": sorted(self.unknown)[:_LISTED],
            "foreign_after_stop": sorted(self.foreign_after_stop)[:_LISTED],
            "left_alone": sorted(self.left_alone)[:_LISTED],
            "positions_unprotected": self.positions_unprotected,
            "trader": self.trader,
            "fenced": self.fenced,
            "flatten": self.flatten or None,
            "errors": list(self.errors),
        }
