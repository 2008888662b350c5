"""What the trader tells: its fields of ``trading_status``, ``portfolio_positions``, ``predictions``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shared.clock import Clock, TradingCalendar, rfc3339
from shared.documents import json_number
from shared.status import merge_status
from shared.store import Store
from worker.core.types import Prediction, VenuePosition
from worker.core.wire import dump_position
from worker.failpoints import failpoint
from worker.trading.cycle import CycleReport
from worker.trading.ports import Book

_SHOWN = 20
AGAIN_SECONDS = 10.0
"""How often all is written again although nothing changed: somebody may have mangled it."""


class TraderStatus:
    """Publishes on change, and every ten seconds all the same."""

    def __init__(
        self, store: Store, account: str, mode: str, book: Book, clock: Clock, calendar: TradingCalendar
    ) -> None:
        self._store, self._account, self._mode = store, account, mode
        self._book, self._clock, self._calendar = book, clock, calendar
        self._published: dict[str, Any] = {}
        self._next_publish = self._next_positions = 0.0
        self._positions: list[dict[str, str]] | None = None
        self.last_run: datetime | None = None
        self.next_run: datetime | None = None
        self._faults: dict[str, str] = {}
        self.market_open: bool | None = None
        self.last_cycle: dict[str, Any] | None = None

    def fault(self, source: str, why: str | None) -> None:
        """Note what is wrong, by where it comes from; None when it is over."""
        if why is None:
            self._faults.pop(source, None)
        else:
            self._faults[source] = why

    @property
    def last_error(self) -> str | None:
        """Everything that is wrong now, what a person wrote first."""
        ordered = sorted(self._faults, key=lambda source: source != "document")
        return "; ".join(self._faults[source] for source in ordered) or None

    def publish(self, applied: Mapping[str, Any], epoch: int) -> None:
        """Write what changed since the last time. Raises StoreError."""
        today = self._book.day(self._calendar.day_of(self._clock.now()).name)
        fields: dict[str, Any] = {
            "last_run": _time(self.last_run),
            "last_error": self.last_error,
            "trades_today": today.filled_orders,
            "total_volume": json_number(today.filled_notional),
            "next_run": _time(self.next_run),
            "worker_pid": os.getpid(),
            "mode": self._mode,
            "market_open": self.market_open,
            "last_cycle": self.last_cycle,
        }
        versions = applied["versions"]
        known = self._published
        now = self._clock.monotonic()
        if {**fields, "versions": versions, "epoch": epoch} == known and now < self._next_publish:
            return
        failpoint("log.status")
        if merge_status(self._store, self._account, {**fields, "applied": dict(applied)}, epoch):
            self._published, self._next_publish = {**fields, "versions": versions, "epoch": epoch}, now + AGAIN_SECONDS

    def forget(self) -> None:
        """After Redis was away or a mangled document: publish everything again."""
        self._published, self._positions = {}, None

    def positions(self, positions: tuple[VenuePosition, ...]) -> None:
        """``portfolio_positions``: everything held at the venue. Raises StoreError."""
        rows = [dump_position(p) for p in sorted(positions, key=lambda p: p.ticker)]
        now = self._clock.monotonic()
        if rows != self._positions or now >= self._next_positions:
            failpoint("log.positions")
            self._store.put_json(self._store.keys.portfolio_positions, rows)
            self._positions, self._next_positions = rows, now + AGAIN_SECONDS

    def predictions(self, predictions: Mapping[str, Prediction]) -> None:
        """``predictions``, for everybody to see what the model said. Raises StoreError."""
        self._store.put_json(
            self._store.keys.predictions,
            {
                ticker: {
                    "change_pct": float(p.change_pct),
                    "confidence": p.confidence,
                    "source": p.source,
                    "time": rfc3339(p.time),
                }
                for ticker, p in predictions.items()
            },
        )

    def after_cycle(self, report: CycleReport) -> None:
        """Take a finished cycle into what is told next."""
        self.last_run = self._clock.now()
        if report.market is not None:
            self.market_open = report.market.is_open
        largest = max((abs(p.change_pct) for p in report.predictions.values()), default=None)
        self.last_cycle = {
            "submitted": [o.client_order_id for o in report.submitted],
            "denied": [f"{ticker}: {denial}" for ticker, denial in report.denials[:_SHOWN]],
            "notes": dict(list(report.notes.items())[:_SHOWN]),
            "largest_prediction": None if largest is None else float(largest),
            "aborted": report.aborted or None,
        }
        told = report.errors[:5]
        if report.aborted.startswith(("no prediction", "NOT_ARMED", "LEASE_LOST")):
            told = [report.aborted, *told]
        self.fault("cycle", "; ".join(told) or None)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
