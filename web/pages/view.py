"""The overview's figures, made from the keys: every missing one is a dash, nothing is ever a guess."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from markupsafe import Markup

from shared.clock import parse_rfc3339
from shared.store import Store
from web.api.status import trader
from web.records import Records, stream_rows

DASH = "–"
SILENT_SECONDS = 75
SHOWN_TRADES = 20
CURVE_POINTS = 300
CURVE_WIDTH, CURVE_HEIGHT = 640, 160
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Curve:
    """The equity curve as an SVG path and the table behind it."""

    path: str
    low: str
    high: str
    rows: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class View:
    """All that the page shows."""

    mode: str
    trading: str
    reason: str
    link: str
    link_detail: str
    status: Mapping[str, Any]
    report: Mapping[str, Any]
    report_text: str
    latch: Mapping[str, Any]
    stats: Mapping[str, Any]
    decided: str
    positions: list[dict[str, Any]]
    trades: list[dict[str, Any]]
    health: Sequence[tuple[str, str, str]]
    workers: list[dict[str, Any]]
    timer: Mapping[str, Any]
    curve: Curve | None
    problems: Mapping[str, str]
    loaded_at: str


def read_view(store: Store, now: datetime, configured_mode: str) -> View:
    """Read everything in one round trip and a stream. Raises StoreError."""
    keys = store.keys
    found = Records(
        store,
        [
            keys.trading_status,
            keys.system_status,
            keys.stop_report,
            keys.stop_latch,
            keys.stats,
            keys.portfolio_positions,
            keys.trades_log,
            keys.trading_settings,
        ],
    )
    status, system = found.mapping("trading_status"), found.mapping("system_status")
    report, stats = found.mapping("stop_report"), found.mapping("stats")
    link, detail = _link(system, now)
    workers = system.get("workers")
    return View(
        mode=str(status.get("mode") or configured_mode).upper(),
        trading=_trading(status, report, found.mapping("trading_settings")),
        reason=str(status.get("stop_reason") or ""),
        link=link,
        link_detail=detail,
        status=status,
        report=report,
        report_text=report_text(report),
        latch=found.mapping("stop_latch"),
        stats=stats,
        decided=_sum(stats.get("wins"), stats.get("loss_trades")),
        positions=found.rows("portfolio_positions"),
        trades=found.rows("trades_log")[::-1][:SHOWN_TRADES],
        health=_health(system),
        workers=[w for w in workers if isinstance(w, dict)] if isinstance(workers, list) else [],
        timer=trader(found)["timer"],
        curve=_curve(stream_rows(store, keys.equity, CURVE_POINTS)),
        problems=found.problems,
        loaded_at=now.strftime("%H:%M:%S"),
    )


def _trading(status: Mapping[str, Any], report: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """ACTIVE, STOP REQUESTED or STOPPED: what the emergency worker says, never what the link looks like.

    A switch that is off while it still says active is a stop that nobody has carried out yet.
    """
    if status.get("active") is True and settings.get("enabled") is not True:
        return "STOP REQUESTED"
    if status.get("active") is True:
        return "REDUCING" if status.get("state") == "REDUCING" else "ACTIVE"
    return "STOP REQUESTED" if report.get("state") == "STOPPING" else "STOPPED"


def _link(system: Mapping[str, Any], now: datetime) -> tuple[str, str]:
    """CONNECTED while the workers report in time; STALE where they do not."""
    try:
        age = (now - parse_rfc3339(str(system.get("last_heartbeat")))).total_seconds()
    except ValueError:
        return "STALE", "no heartbeat yet"
    if age < -SILENT_SECONDS:
        return "STALE", "the last heartbeat is in the future: a clock is wrong"
    if age > SILENT_SECONDS:
        return "STALE", f"last heartbeat {age:.0f} s ago"
    if system.get("worker_running") is not True:
        return "STALE", "the trading worker is silent"
    return "CONNECTED", f"heartbeat {max(age, 0):.0f} s ago"


def report_text(report: Mapping[str, Any]) -> str:
    """``cancelled 7 of 7, proven empty 14:02:11``."""
    if not report:
        return ""
    done = f"cancelled {report.get('orders_canceled', DASH)} of {report.get('orders_found', DASH)}"
    state = report.get("state")
    if state == "STOPPED":
        return f"{done}, proven empty {str(report.get('finished_at'))[11:19]}"
    if state == "NOT_PROVEN":
        return f"{done}, NOT PROVEN: {_why_not(report)}"
    return f"{done}, {report.get('orders_unconfirmed', DASH)} unconfirmed"


def _why_not(report: Mapping[str, Any]) -> str:
    accounts = report.get("accounts")
    for row in accounts.values() if isinstance(accounts, dict) else ():
        if isinstance(row, dict) and row.get("unread"):
            return "the venue cannot be read"
    return "an order's fate is not known"


def _health(system: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    components = system.get("components")
    rows = []
    for name, row in components.items() if isinstance(components, dict) else ():
        if isinstance(row, dict):
            latency = row.get("latency_ms")
            detail = row.get("problem") or (f"{latency} ms" if latency is not None else "")
            rows.append((str(name), str(row.get("state")), str(detail)))
    return rows


def _curve(rows: list[dict[str, str]]) -> Curve | None:
    """None below two points."""
    points = []
    for row in rows:
        try:
            value = float(row.get("equity", "nan"))
            at = parse_rfc3339(row.get("time", ""))
        except ValueError:
            continue
        if math.isfinite(value):
            points.append((at, value))
    if len(points) < 2:
        return None
    low, high = min(v for _, v in points), max(v for _, v in points)
    first, last = points[0][0].timestamp(), points[-1][0].timestamp()
    span, reach = max(last - first, 1.0), (high - low) or 1.0
    steps = [
        f"{(at.timestamp() - first) / span * CURVE_WIDTH:.1f},{(1 - (v - low) / reach) * (CURVE_HEIGHT - 16) + 8:.1f}"
        for at, v in points
    ]
    table = [(at.strftime("%Y-%m-%d %H:%M:%S"), money(v)) for at, v in points[-20:][::-1]]
    return Curve("M" + " L".join(steps), money(low), money(high), table)


def number(value: object) -> float | None:
    """A finite number from a number or a decimal string."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def money(value: object) -> str:
    """``1,234.56``; a dash where there is no number."""
    found = number(value)
    return DASH if found is None else f"{found:,.2f}".replace("-", "−")


def signed(value: object) -> str:
    """``+12.40``."""
    found = number(value)
    return DASH if found is None else f"{found:+,.2f}".replace("-", "−")


def tone(value: object) -> str:
    """The class of a gain, of a loss, of neither."""
    found = number(value) or 0
    return "gain" if found > 0 else "loss" if found < 0 else ""


def _sum(*values: object) -> str:
    found = [number(value) for value in values]
    return DASH if None in found else f"{sum(filter(None, found)):.0f}"


def plain(value: object) -> str:
    """Text, or a dash for nothing."""
    return (str(value) if value is not None else "") or DASH


def visible(value: Any) -> Any:
    """For every value that a template prints: what would hide or turn around its neighbours shows as a mark."""
    return _INVISIBLE.sub("\ufffd", value) if isinstance(value, str) and not isinstance(value, Markup) else value


def percent(value: object) -> str:
    found = number(value)
    return DASH if found is None else f"{found:.0f} %"


def clock_time(value: object, now: datetime) -> str:
    """``14:02:11`` of an RFC 3339 time, with its day before it where that is another than today's."""
    try:
        moment = parse_rfc3339(str(value))
    except ValueError:
        return DASH
    return moment.strftime("%H:%M:%S" if moment.date() == now.date() else "%Y-%m-%d %H:%M:%S")
