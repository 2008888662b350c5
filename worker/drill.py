"""The stop, tried for real on an account without real money: working orders, a stop by a chosen channel, what the venue
shows of it, everything back as it was, a dated report.

The orders are small buys far below the market, placed by the account's own venue adapter. Nothing is resumed that
somebody else has stopped meanwhile, and nothing after a stop that was not proven.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from shared.audit import audit_entry
from shared.clock import Clock, rfc3339
from shared.config import Config
from shared.control import Actor, Control
from shared.documents import dump_json, parse_json
from shared.errors import SixbotError, VenueError
from shared.store import Store
from worker.core import ids
from worker.core.types import Effect, OrderRequest, OrderType, Side, TimeInForce
from worker.venues.base import Venue

CHANNELS = ("settings", "file", "signal", "web-key")
LATCHING = frozenset({"file", "signal"})
ORDERS = 5
BELOW_MARKET = Decimal("0.8")
OFF = b'{"enabled": false}'
WAIT_SECONDS = 30.0
POLL_SECONDS = 0.01
LAST_PASSED = "last-passed.json"


class DrillRefused(SixbotError):
    """The drill must not, or cannot, be held now; nothing was done."""


@dataclass(slots=True)
class Figures:
    """Milliseconds from the stop, as readings of the venue's open orders showed it, and how it ended."""

    first_cancel_seen_ms: float | None = None
    empty_seen_ms: float | None = None
    report: Mapping[str, Any] | None = None
    restored: str = ""


class Drill:
    """One drill. ``pause`` sleeps; ``entropy`` makes the orders' ids."""

    def __init__(
        self,
        config: Config,
        store: Store,
        venue: Venue,
        clock: Clock,
        entropy: Callable[[], str],
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._config, self._store, self._venue, self._clock = config, store, venue, clock
        self._entropy, self._pause = entropy, pause

    def hold(self, channel: str) -> dict[str, Any]:
        """Hold it and return the report, which is on disk then. Raises DrillRefused, StoreError, VenueError."""
        self._refuse_unless_fit(channel)
        keys = self._store.keys
        before = {key: self._store.read_raw(key) for key in (keys.trading_settings, keys.risk_settings)}
        last_stop = self._stop_id()
        began_at, names = self._clock.now(), [ids.mint(Effect.ENTRY, 1, self._entropy()) for _ in range(ORDERS)]
        figures = Figures()
        try:
            self._place(names)
            began = self._clock.monotonic()
            written = self._stop(channel, before)
            self._watch(figures, set(names), began, last_stop)
        finally:
            self._sweep(set(names))
        passed = figures.report is not None and figures.empty_seen_ms is not None
        figures.restored = (
            self._restore(channel, before, written) if passed else "left stopped: the stop was not proven in time"
        )
        return self._file(channel, began_at, figures, passed=passed)

    # -- before ---------------------------------------------------------------------------------------------------

    def _refuse_unless_fit(self, channel: str) -> None:
        if channel not in CHANNELS:
            raise DrillRefused(f"no channel is called {channel!r}: choose from {', '.join(CHANNELS)}")
        if self._config.mode == "live" or self._venue.mode == "live":
            raise DrillRefused("the account is LIVE: a drill places orders, so it is held on simulated or paper only")
        status = self._store.get_json(self._store.keys.trading_status)
        armed = self._store.read_raw(self._store.keys.trading_armed)
        if not isinstance(status, dict) or status.get("active") is not True or armed is None:
            raise DrillRefused("trading is not active, so there is nothing to stop: `sixbot start` first")
        if self._config.stop_path.exists():
            raise DrillRefused(f"{self._config.stop_path} exists: somebody has stopped trading")

    def _stop_id(self) -> object:
        report = self._store.get_json(self._store.keys.stop_report)
        return report.get("stop_id") if isinstance(report, dict) else None

    def _place(self, names: list[str]) -> None:
        tickers = self._config.active_tickers
        for number, name in enumerate(names):
            ticker = tickers[number % len(tickers)]
            instrument, last = self._venue.instrument(ticker), self._venue.last_price(ticker)
            price = last.price * BELOW_MARKET // instrument.tick_size * instrument.tick_size
            least = -(-instrument.min_notional // (price * instrument.lot_size)) * instrument.lot_size
            qty = max(instrument.lot_size, least)
            request = OrderRequest(name, ticker, Side.BUY, qty, OrderType.LIMIT, TimeInForce.DAY, limit_price=price)
            self._venue.submit(request, lambda: None)

    # -- the stop -------------------------------------------------------------------------------------------------

    def _stop(self, channel: str, before: Mapping[str, bytes | None]) -> bytes | None:
        """Stop; returns what stands in ``trading_settings`` now by our own hand."""
        key = self._store.keys.trading_settings
        if channel == "file":
            self._config.stop_path.touch()
        elif channel == "signal":
            pid = int((self._config.run_dir / "emergency-default.pid").read_text())
            os.kill(pid, signal.SIGUSR1)
        elif channel == "settings":
            if not self._write(key, before[key], OFF):
                raise DrillRefused("trading_settings was changed by someone else in the meantime")
            return OFF
        else:
            Control(self._store, self._clock).stop(Actor("stop-drill", "web"))
            return self._store.read_raw(key)
        return before[key]

    def _watch(self, figures: Figures, names: set[str], began: float, last_stop: object) -> None:
        """Until the venue shows none of ours and the report is proven."""
        while (since := self._clock.monotonic() - began) < WAIT_SECONDS:
            if figures.empty_seen_ms is None:
                left = {o.client_order_id for o in self._venue.open_orders()} & names
                seen = round((self._clock.monotonic() - began) * 1000, 1)
                if left != names and figures.first_cancel_seen_ms is None:
                    figures.first_cancel_seen_ms = seen
                figures.empty_seen_ms = None if left else seen
            report = self._store.get_json(self._store.keys.stop_report)
            if isinstance(report, dict) and report.get("stop_id") != last_stop and report.get("state") == "STOPPED":
                figures.report = report
                if figures.empty_seen_ms is not None:
                    return
            self._pause(POLL_SECONDS if since < 1 else 10 * POLL_SECONDS)

    def _sweep(self, names: set[str]) -> None:
        """None of our orders stays, whatever happened."""
        try:
            for order in self._venue.open_orders():
                if order.client_order_id in names:
                    self._venue.cancel(order.venue_order_id)
        except VenueError:
            return  # the stop itself goes on cancelling for ever

    # -- after ----------------------------------------------------------------------------------------------------

    def _restore(self, channel: str, before: Mapping[str, bytes | None], written: bytes | None) -> str:
        """Back as it was, by compare-and-set: what somebody else has changed meanwhile stays, and so does the stop."""
        keys = self._store.keys
        risk, settings = before[keys.risk_settings], before[keys.trading_settings]
        if channel == "file":
            self._config.stop_path.unlink(missing_ok=True)
        if channel in LATCHING:
            held = parse_json(risk) if risk is not None else {}
            latched = dump_json({**held, "emergency_stop_active": True})
            lifted = dump_json({**held, "emergency_stop_active": False})
            shown = self._wait(lambda: self._store.get_json(keys.stop_latch) is not None)
            if not shown or not self._write(keys.risk_settings, latched, lifted):
                return "left stopped: risk_settings is not what the drill's stop made of it"
        elif settings is None or not self._write(keys.trading_settings, written, settings):
            return "left stopped: trading_settings was changed by someone else"
        if not self._wait(self._active):
            return "documents restored, trading does not resume: see `sixbot status`"
        if channel in LATCHING and risk is not None:
            self._write(keys.risk_settings, lifted, risk)
        return "trading resumed, documents as before"

    def _write(self, key: str, expected: bytes | None, new: bytes) -> bool:
        entry = audit_entry(self._clock, "stop-drill", "cli", key, expected, new)
        return self._store.write_document(key, expected, new, entry)

    def _active(self) -> bool:
        status = self._store.get_json(self._store.keys.trading_status)
        return isinstance(status, dict) and status.get("active") is True

    def _wait(self, condition: Callable[[], bool]) -> bool:
        end = self._clock.monotonic() + WAIT_SECONDS
        while not condition():
            if self._clock.monotonic() > end:
                return False
            self._pause(10 * POLL_SECONDS)
        return True

    def _file(self, channel: str, at: Any, figures: Figures, *, passed: bool) -> dict[str, Any]:
        document = {
            "at": rfc3339(at),
            "passed": passed,
            "channel": channel,
            "mode": self._venue.mode,
            "venue": self._venue.name,
            "orders": ORDERS,
            "first_cancel_seen_ms": figures.first_cancel_seen_ms,
            "empty_seen_ms": figures.empty_seen_ms,
            "restored": figures.restored,
            "stop_report": figures.report,
        }
        directory = drills_of(self._config)
        directory.mkdir(parents=True, exist_ok=True)
        text = json.dumps(document, indent=2) + "\n"
        path = directory / f"{at:%Y-%m-%dT%H-%M-%SZ}-{channel}.json"
        path.write_text(text)
        if passed:
            (directory / LAST_PASSED).write_text(text)
        return {**document, "file": str(path)}


def drills_of(config: Config) -> Path:
    """Where the reports are: ``SIXBOT_HOME/drills``."""
    return config.sixbot_home / "drills"


def last_passed(config: Config) -> str | None:
    """When the last drill was passed; None where none was."""
    try:
        found = json.loads((drills_of(config) / LAST_PASSED).read_text())
        return str(found["at"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
