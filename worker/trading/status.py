"""What the trader tells: its fields of ``trading_status``, its rows of ``portfolio_positions``, ``predictions``."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, cast

import redis

from shared.accounts import DEFAULT_ACCOUNT
from shared.clock import Clock, TradingCalendar, rfc3339
from shared.documents import dump_json, json_number, parse_json
from shared.errors import DocumentError
from shared.status import merge_status
from shared.store import MAX_RECORD_BYTES, Store
from worker.core.types import Prediction, VenuePosition
from worker.core.wire import dump_position
from worker.failpoints import failpoint
from worker.trading.cycle_run import CycleReport
from worker.trading.ports import Book

_SHOWN = 20
AGAIN_SECONDS = 10.0
"""How often all is written again although nothing changed: somebody may have mangled it."""


class TraderStatus:
    """Publishes on change, and every ten seconds all the same. ``accounts`` are the names of this installation."""

    def __init__(
        self,
        store: Store,
        account: str,
        accounts: Collection[str],
        mode: str,
        book: Book,
        clock: Clock,
        calendar: TradingCalendar,
    ) -> None:
        self._store, self._account, self._mode = store, account, mode
        self._accounts = frozenset(accounts)
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
        fields = self._fields()
        versions = applied["versions"]
        known = self._published
        now = self._clock.monotonic()
        if {**fields, "versions": versions, "epoch": epoch} == known and now < self._next_publish:
            return
        failpoint("log.status")
        if merge_status(self._store, self._account, {**fields, "applied": dict(applied)}, epoch):
            self._published, self._next_publish = {**fields, "versions": versions, "epoch": epoch}, now + AGAIN_SECONDS

    def _fields(self) -> dict[str, Any]:
        """The counts of the day are the installation's, and the cycle is account ``default``'s."""
        fields: dict[str, Any] = {
            "last_error": self.last_error,
            "worker_pid": os.getpid(),
            "mode": self._mode,
            "market_open": self.market_open,
        }
        if self._account != DEFAULT_ACCOUNT:
            return fields
        today = self._book.day(self._calendar.day_of(self._clock.now()).name)
        return fields | {
            "last_run": _time(self.last_run),
            "trades_today": today.filled_orders,
            "total_volume": json_number(today.filled_notional),
            "next_run": _time(self.next_run),
            "last_cycle": self.last_cycle,
        }

    def forget(self) -> None:
        """After Redis was away or a mangled document: publish everything again."""
        self._published, self._positions = {}, None

    def positions(self, positions: tuple[VenuePosition, ...]) -> None:
        """This account's rows of ``portfolio_positions``: everything held at the venue. Raises StoreError."""
        held = sorted(positions, key=lambda p: p.ticker)
        rows = [{**dump_position(p), "account": self._account} for p in held]
        now = self._clock.monotonic()
        if rows != self._positions or now >= self._next_positions:
            failpoint("log.positions")
            self._put_positions(rows)
            self._positions, self._next_positions = rows, now + AGAIN_SECONDS

    def _put_positions(self, rows: list[dict[str, str]]) -> None:
        """Replace what is this account's; the rows of an account that nobody trades any more go with it."""
        key = self._store.keys.portfolio_positions

        def step(pipe: redis.client.Pipeline) -> None:
            found = [row for row in _rows(pipe, key) if _account(row) != self._account]
            live = {name for name in map(_account, found) if name in self._accounts or self._is_traded(pipe, name)}
            kept = [row for row in found if _account(row) in live]
            document = sorted([*rows, *kept], key=lambda row: (_account(row) != DEFAULT_ACCOUNT, _account(row)))
            pipe.multi()
            pipe.set(key, dump_json(document))

        self._store.transact([key], step)

    def _is_traded(self, pipe: redis.client.Pipeline, account: str) -> bool:
        return bool(pipe.exists(self._store.keys.lease(account)))

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


def _rows(pipe: redis.client.Pipeline, key: str) -> list[dict[str, Any]]:
    """What stands there, or nothing where it is mangled."""
    try:
        raw = cast("bytes | None", pipe.get(key))
        found = parse_json(raw, MAX_RECORD_BYTES) if raw is not None else []
    except (DocumentError, redis.ResponseError):
        return []
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def _account(row: Mapping[str, Any]) -> str:
    return str(row.get("account", DEFAULT_ACCOUNT))


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
