"""What is going on: one summary, and the trader in a few figures."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flask import Blueprint, Response

from shared.clock import parse_rfc3339
from shared.keys import Keys
from web.api.answers import tagged, tagged_json
from web.auth.guard import read_already, reads, requires
from web.context import context
from web.records import Records

status = Blueprint("status", __name__)

PARTS = ("trading_status", "system_status", "stop_report", "stop_latch")


def _summary(keys: Keys) -> list[str]:
    return [getattr(keys, name) for name in PARTS] + [keys.epoch_ack("default")]


@status.get("/status")
@requires("read")
@reads(_summary)
def get_status() -> Response:
    """trading_status, system_status, stop_report, the latch and the trader's acknowledgement in one."""
    store = context().store
    found = Records(store, _summary(store.keys), read_already())
    return tagged(found.passed_through({**{n: n for n in PARTS}, "acknowledgement": "epoch_ack:default"}))


@status.get("/bot/status")
@requires("read")
def bot_status() -> Response:
    """The trader: running, pid, uptime, memory, last activity and the time to its next run."""
    return tagged_json(trader(Records(context().store, [_status_key(), _system_key()])))


def _status_key() -> str:
    return context().store.keys.trading_status


def _system_key() -> str:
    return context().store.keys.system_status


def trader(found: Records) -> dict[str, Any]:
    """Figures of the trading worker, from its row in system_status."""
    now = context().clock.now()
    rows = found.mapping("system_status").get("workers")
    workers = [w for w in rows if isinstance(w, dict)] if isinstance(rows, list) else []
    row = next((w for w in workers if w.get("name") == "trading"), {})
    running = row.get("state") == "live"
    uptime = _seconds_between(row.get("started_at"), now) if running else None
    next_run = found.mapping("trading_status").get("next_run")
    left = _seconds_between(now, next_run)
    return {
        "is_running": running,
        "pid": row.get("pid") if running else None,
        "uptime": uptime,
        "uptime_formatted": duration(uptime),
        "last_activity": row.get("last_activity"),
        "memory_mb": row.get("memory_mb") if running else None,
        "timer": {"next_run": next_run, "seconds_left": None if left is None else max(left, 0)},
    }


def _seconds_between(start: object, end: object) -> int | None:
    try:
        first = start if isinstance(start, datetime) else parse_rfc3339(str(start))
        last = end if isinstance(end, datetime) else parse_rfc3339(str(end))
    except ValueError:
        return None
    return int((last - first).total_seconds())


def duration(seconds: int | None) -> str:
    """``2h 35m``, ``12m 5s``; a dash where it is not known."""
    if seconds is None:
        return "–"
    days, rest = divmod(max(seconds, 0), 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    if days:
        return f"{days}d {hours}h"
    return f"{hours}h {minutes}m" if hours else f"{minutes}m {rest}s"
