"""A venue in memory that keeps a ledger with times and can be told to misbehave; and a worker around it."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import structlog
from msgspec.structs import replace

from shared.clock import SystemClock
from shared.config import Config
from shared.errors import OrderNotFound, VenueUnavailable
from shared.store import Store, connect
from worker.compose.emergency import build_worker
from worker.core.types import MarketClock, OrderState, Side, VenueOrder, VenuePosition
from worker.emergency.memory import MemoryFile
from worker.runtime import Heartbeat, StopSignals
from worker.venues.base import CancelOutcome, CancelResult, Capabilities, PartlyRead, Venue
from worker.watch import KeyWatcher


class RecordingVenue:
    """Working orders by id. ``down`` raises on reads; ``partly`` tells one order and raises; ``deaf`` accepts cancels
    and does nothing; ``silent`` does what is asked and answers nothing; ``unread`` fails at lists only, ``broken`` with
    an error of its own; ``hung`` holds the cancel-all back. ``hidden`` are venue ids that no list tells."""

    name = "recording"
    mode = "simulated"
    capabilities = Capabilities()

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.working: dict[str, VenueOrder] = {}
        self.over: list[VenueOrder] = []
        self.ledger: list[tuple[float, str, str]] = []
        self.down = self.unread = self.silent = self.broken = False
        self.hung: threading.Event | None = None
        self.partly = False
        self.deaf = False
        self.hidden: frozenset[str] = frozenset()

    def place(self, client_order_id: str | None, side: Side = Side.BUY, since: float = 0) -> str:
        """``since``: seconds from now at which it was made."""
        with self.lock:
            name = f"v{len(self.working) + len(self.ledger)}"
            now = datetime.now(UTC) + timedelta(seconds=since)
            order = VenueOrder(
                name, client_order_id, "AAPL", side, Decimal(1), OrderState.ACCEPTED, created_at=now, updated_at=now
            )
            self.working[name] = order
            self.ledger.append((time.monotonic(), "place", name))
        return name

    def cancel(self, venue_order_id: str) -> CancelResult:
        with self.lock:
            self.ledger.append((time.monotonic(), "cancel", venue_order_id))
            if not self.deaf and venue_order_id in self.working:
                self._end(venue_order_id)
        if self.silent:
            return CancelResult(venue_order_id, CancelOutcome.UNCONFIRMED, "no answer")
        return CancelResult(venue_order_id, CancelOutcome.REQUESTED)

    def cancel_all(self) -> list[CancelResult]:
        with self.lock:
            self.ledger.append((time.monotonic(), "cancel_all", ""))
            if self.down:
                raise VenueUnavailable("down")
            names = [name for name in self.working if name not in self.hidden]
            for name in names if not self.deaf and self.hung is None else ():
                self._end(name)
        if self.hung is not None:
            self.hung.wait(30)
        if self.silent or self.hung is not None:
            raise VenueUnavailable("no answer")
        return [CancelResult(name, CancelOutcome.REQUESTED) for name in names]

    def _end(self, name: str, at: datetime | None = None) -> None:
        order = self.working.pop(name)
        self.over.append(replace(order, state=OrderState.CANCELED, updated_at=at or datetime.now(UTC)))

    def end_all(self) -> None:
        """As if somebody had cancelled all when it was made."""
        with self.lock:
            for order in list(self.working.values()):
                self._end(order.venue_order_id, order.created_at)

    def open_orders(self) -> list[VenueOrder]:
        with self.lock:
            if self.down or self.unread:
                raise VenueUnavailable("down")
            if self.broken:
                raise RuntimeError("what no adapter should raise")
            if self.partly and self.working:
                raise PartlyRead("a row that makes no sense", list(self.working.values())[:1])
            return [o for o in self.working.values() if o.venue_order_id not in self.hidden]

    def orders_since(self, _since: datetime) -> list[VenueOrder]:
        return [*self.open_orders(), *self.over]

    def order_by_client_id(self, client_order_id: str) -> VenueOrder:
        for order in (*self.open_orders(), *(self.working[n] for n in self.hidden & self.working.keys())):
            if order.client_order_id == client_order_id:
                return order
        raise OrderNotFound(client_order_id)

    def positions(self) -> list[VenuePosition]:
        return [VenuePosition("AAPL", Decimal(1), "long", Decimal(1), Decimal(1), Decimal(0))]

    def clock(self) -> MarketClock:
        return MarketClock(datetime.now(UTC), is_open=True)

    def calls(self, kind: str) -> int:
        with self.lock:
            return sum(1 for _, what, _ in self.ledger if what == kind)


class Running:
    """A worker in a thread of this process."""

    def __init__(self, home: Path, url: str, venue: RecordingVenue | None = None, **config: Any) -> None:
        self.venue, self.home = venue or RecordingVenue(), home
        settings = Config(_env_file=None, sixbot_home=home, **config)
        clock, self._signals = SystemClock(), StopSignals()
        store = self._store = Store(connect(url, timeout_seconds=0.5))
        self._memory = MemoryFile(settings.run_dir / "emergency-default.json")
        guarded = [("default", cast("Venue", self.venue), self._memory)]
        heartbeat, logger = Heartbeat("emergency", store, clock), structlog.stdlib.get_logger("test")
        self.worker = build_worker(settings, guarded, store, heartbeat, self._signals, clock, logger)
        keys = store.keys
        self._watcher = KeyWatcher(url, [keys.trading_settings, keys.risk_settings], self.worker.wake)
        self._thread = threading.Thread(target=self.worker.run, daemon=True)

    def __enter__(self) -> Running:
        self._watcher.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._signals.stopping.set()
        self.worker.wake()
        self._thread.join(30)
        assert not self._thread.is_alive()
        self._watcher.close()
        self._memory.close()
        self._store.client.close()
