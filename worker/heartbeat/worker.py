"""The heartbeat worker: ``system_status`` every 30 seconds and at once on a change. It trips nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, cast

import structlog

from shared.clock import Clock, parse_rfc3339, rfc3339
from shared.documents import parse_json
from shared.errors import DocumentError, StoreError
from shared.store import Store, translated_errors
from worker.heartbeat.checks import Checker, Health
from worker.runtime import Heartbeat, StopSignals

PUBLISH_SECONDS = 30.0
TICK_SECONDS = 1.0
CHECK_INTERVAL_SECONDS = 15.0
FORGET_MISSING_SECONDS = 600.0

COMPONENTS = ("postgres", "finnhub", "alpaca", "grok", "yfinance", "venue")


class HeartbeatWorker:
    """Reads every worker's heartbeat and every check's last answer; writes one document."""

    def __init__(
        self,
        store: Store,
        checker: Checker,
        heartbeat: Heartbeat,
        signals: StopSignals,
        clock: Clock,
        logger: structlog.stdlib.BoundLogger,
        last_drill: Callable[[], str | None],
    ) -> None:
        self._last_drill = last_drill
        self._store, self._checker, self._heartbeat = store, checker, heartbeat
        self._signals, self._clock, self._logger = signals, clock, logger
        self._known: dict[str, tuple[float, Mapping[str, Any]]] = {}
        self._cpu: dict[str, tuple[float, float]] = {}
        self._published_at = float("-inf")
        self._signature: object = None
        self._changed = threading.Event()

    def run(self) -> None:
        while not self._signals.stopping.is_set():
            self._heartbeat.beat()
            self._checker.start_due()
            try:
                self._turn()
            except StoreError as error:
                self._published_at = float("-inf")
                self._logger.info("redis_away", error=str(error))
            self._signals.stopping.wait(TICK_SECONDS)
        self._heartbeat.farewell()

    def _turn(self) -> None:
        redis = self._ping()
        workers = self._workers()
        components = {name: self._checker.health(name) for name in dict.fromkeys((*COMPONENTS, *self._checker.names))}
        signature = (
            {w["name"]: (w["state"], w["pid"], w.get("accounts")) for w in workers},
            {name: health.state for name, health in components.items()},
            drill := self._last_drill(),
        )
        now = self._clock.monotonic()
        if signature == self._signature and now - self._published_at < PUBLISH_SECONDS:
            return
        self._store.put_json(self._store.keys.system_status, self._document(redis, workers, components, drill))
        self._signature, self._published_at = signature, now

    def _ping(self) -> Health:
        began = self._clock.monotonic()
        with translated_errors():
            self._store.client.ping()
        return Health("ok", round((self._clock.monotonic() - began) * 1000, 2), rfc3339(self._clock.now()))

    # -- workers --------------------------------------------------------------------------------------------------

    def _workers(self) -> list[dict[str, Any]]:
        """Live workers, and those that went missing without a farewell."""
        now = self._clock.monotonic()
        live = self._live()
        for key, beat in live.items():
            self._known[key] = (now, beat)
        rows = []
        for key, (seen, beat) in sorted(self._known.items()):
            if key not in live and (beat.get("stopping") or now - seen > FORGET_MISSING_SECONDS):
                del self._known[key]
                continue
            state = "missing" if key not in live else "stopping" if beat.get("stopping") else "live"
            rows.append(self._row(beat, state))
        return rows

    def _live(self) -> dict[str, Mapping[str, Any]]:
        pattern = self._store.keys.heartbeat("*", "*")
        with translated_errors():
            keys = [cast("bytes", k) for k in self._store.client.scan_iter(match=pattern, count=500)]
            values = cast("list[bytes | None]", self._store.client.mget(keys)) if keys else []
        found: dict[str, Mapping[str, Any]] = {}
        for key, raw in zip(keys, values, strict=True):
            try:
                beat = parse_json(raw) if raw is not None else None
            except DocumentError:
                beat = None
            if isinstance(beat, dict):
                found[key.decode(errors="replace")] = beat
        return found

    @staticmethod
    def _row(beat: Mapping[str, Any], state: str) -> dict[str, Any]:
        fields = ("pid", "host", "version", "started_at", "last_beat", "memory_mb", "last_activity")
        row = {"name": beat.get("worker"), "state": state, **{name: beat.get(name) for name in fields}}
        accounts = beat.get("accounts")
        return row | ({"accounts": sorted(accounts)} if isinstance(accounts, dict) else {})

    # -- the document ---------------------------------------------------------------------------------------------

    def _document(
        self, redis: Health, workers: list[dict[str, Any]], components: Mapping[str, Health], drill: str | None
    ) -> dict[str, Any]:
        live = [w for w in workers if w["state"] == "live"]
        return {
            "redis_connected": redis.ok,
            "postgres_connected": components["postgres"].ok,
            "finnhub_api_active": components["finnhub"].ok,
            "alpaca_api_active": components["alpaca"].ok,
            "grok_api_active": components["grok"].ok,
            "yfinance_api_active": components["yfinance"].ok,
            "worker_running": any(str(w["name"]).startswith("trading") for w in live),
            "last_heartbeat": self._heartbeat.document()["last_beat"],
            "uptime_seconds": self._uptime(live),
            "memory_usage_mb": round(sum(_number(w["memory_mb"]) for w in live)),
            "cpu_usage_percent": self._cpu_percent(),
            "components": {
                "redis": redis.document(),
                **{n: h.document() for n, h in components.items()},
                "last_drill": {"state": "never" if drill is None else "ok", "at": drill},
            },
            "workers": workers,
        }

    def _uptime(self, live: list[dict[str, Any]]) -> int:
        """Seconds since the oldest live worker started."""
        starts: list[datetime] = []
        for row in live:
            try:
                starts.append(parse_rfc3339(str(row["started_at"])))
            except ValueError:
                continue
        return max(int((self._clock.now() - min(starts)).total_seconds()), 0) if starts else 0

    def _cpu_percent(self) -> float:
        """Of one core, summed over the live workers, since each one's last figure."""
        total = 0.0
        for key, (seen, beat) in self._known.items():
            used = _number(beat.get("cpu_seconds"))
            before = self._cpu.get(key)
            if before is not None and seen > before[0] and used >= before[1]:
                total += (used - before[1]) / (seen - before[0]) * 100
            if before is None or seen > before[0]:
                self._cpu[key] = (seen, used)
        return round(total, 1)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
