"""``stop_report``: what every account's part of the last stop has come to, as one document."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shared.clock import parse_rfc3339
from shared.errors import StoreError
from worker.emergency.state import StopState

Row = Mapping[str, Any]


class StopReport:
    """Written by whichever thread has news; one that finds another writing leaves the newest to it and goes on.

    ``later`` is called where Redis did not take it.
    """

    def __init__(
        self,
        write: Callable[[Row], None],
        read_row: Callable[[str], object],
        later: Callable[[Callable[[], None]], None],
    ) -> None:
        self._write, self._later = write, later
        self.read_row = read_row
        """An account's row as Redis has it, whatever that is: from before a restart."""
        self._states: dict[str, StopState] = {}
        self._rows: dict[str, Row] = {}
        self._changing, self._writing, self._news = threading.Lock(), threading.Lock(), threading.Event()

    def clear(self) -> None:
        """A new stop begins."""
        with self._changing:
            self._states, self._rows = {}, {}

    def put(self, account: str, venue: str, state: StopState) -> None:
        """An account's part begins."""
        with self._changing:
            self._states[account], self._rows[account] = state, state.row(venue)

    def publish(self, account: str, venue: str, state: StopState) -> None:
        """From the thread that changes ``state``; one that another stop has replaced says nothing any more."""
        row = state.row(venue)
        with self._changing:
            if self._states.get(account) is not state:
                return
            self._rows[account] = row
        self._news.set()
        while self._news.is_set() and self._writing.acquire(blocking=False):
            try:
                self._news.clear()
                self._write_now()
            except StoreError:
                self._later(self._write_now)
                return
            finally:
                self._writing.release()

    def _write_now(self) -> None:
        """Raises StoreError."""
        with self._changing:
            rows = dict(self._rows)
        if rows:
            self._write(document(rows))


def document(rows: Mapping[str, Row]) -> dict[str, Any]:
    """Sums over all accounts at the top, each account's own figures below."""
    parts = list(rows.values())
    return {
        **{name: parts[0][name] for name in ("stop_id", "reason", "source", "detail", "policy", "requested_at")},
        "first_cancel_ms": min((r["first_cancel_ms"] for r in parts if r["first_cancel_ms"] is not None), default=None),
        **{name: sum(r[name] for r in parts) for name in ("orders_found", "orders_canceled", "orders_unconfirmed")},
        "positions_open": _sum_where_all_known([r["positions_open"] for r in parts]),
        "state": together({r["state"] for r in parts}),
        "finished_at": None if None in (ends := [r["finished_at"] for r in parts]) else max(ends, key=parse_rfc3339),
        "accounts": dict(rows),
    }


def together(states: set[str]) -> str:
    """STOPPED only where every account is proven; what could not be proven is told before what still goes on."""
    return next((state for state in ("NOT_PROVEN", "STOPPING") if state in states), "STOPPED")


def _sum_where_all_known(figures: Sequence[int | None]) -> int | None:
    known = [figure for figure in figures if figure is not None]
    return sum(known) if len(known) == len(figures) else None
