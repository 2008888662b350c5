"""Positions, trades, orders, statistics: read from keys, as the workers keep them."""

from __future__ import annotations

import re

from flask import Blueprint, Response, request

from web.api.answers import tagged_json, tagged_rows
from web.auth.guard import requires
from web.context import context
from web.errors import ApiError
from web.records import Records, hashes, stream_rows

records = Blueprint("records", __name__)

MAX_LIMIT = 1000


def number(name: str, default: int, most: int) -> int:
    text = request.args.get(name, str(default))
    least = 1 if name == "limit" else 0
    if not re.fullmatch(r"[0-9]{1,10}", text) or not least <= int(text) <= most:
        why = f"{name} must be a whole number from {least} to {most}, not {text[:40]!r}"
        raise ApiError(400, "bad_parameter", why, name)
    return int(text)


@records.get("/stats")
@requires("read")
def stats() -> Response:
    """Wins, losses, profit: the stats document."""
    found = Records(context().store, [context().store.keys.stats])
    return tagged_json({k: v for k, v in found.mapping("stats").items() if k != "exact"} | _problems(found))


@records.get("/pnl")
@requires("read")
def pnl() -> Response:
    """Profit by day or ticker (`by`)."""
    by = request.args.get("by", "day")
    if by not in {"day", "ticker"}:
        raise ApiError(400, "bad_parameter", f"by must be day or ticker, not {by[:40]!r}", "by")
    found = Records(context().store, [context().store.keys.stats])
    rows = found.mapping("stats").get(f"by_{by}")
    table = [{by: name, **row} for name, row in rows.items() if isinstance(row, dict)] if isinstance(rows, dict) else []
    return tagged_rows("pnl", table, by=by, **_problems(found))


@records.get("/equity")
@requires("read")
def equity() -> Response:
    """The equity curve: the last `limit` points, oldest first."""
    rows = stream_rows(context().store, context().store.keys.equity, number("limit", 500, 50_000))
    return tagged_rows("equity", [{"time": r.get("time"), "equity": r.get("equity")} for r in rows])


@records.get("/positions")
@requires("read")
def positions() -> Response:
    """What is held (`status=open`), or closed round trips, newest first, by cursor (`status=closed`)."""
    wanted = request.args.get("status", "open")
    keys = context().store.keys
    if wanted == "open":
        found = Records(context().store, [keys.portfolio_positions])
        rows = found.rows("portfolio_positions")
        return tagged_rows("positions", rows, total=len(rows), **_problems(found))
    if wanted != "closed":
        raise ApiError(400, "bad_parameter", f"status must be open or closed, not {wanted[:40]!r}", "status")
    return _page("positions", keys.positions_closed, keys.position(""))


@records.get("/trades")
@requires("read")
def trades() -> Response:
    """The newest orders of trades_log, newest first, at most `limit`."""
    found = Records(context().store, [context().store.keys.trades_log])
    rows = found.rows("trades_log")
    newest = rows[::-1][: number("limit", 50, MAX_LIMIT)]
    return tagged_rows("trades", newest, total=len(rows), **_problems(found))


@records.get("/orders")
@requires("read")
def orders() -> Response:
    """Orders that are not final."""
    if request.args.get("status", "open") != "open":
        raise ApiError(400, "bad_parameter", "status must be open; final ones are under /api/orders/history", "status")
    keys = context().store.keys
    rows, _ = hashes(context().store, keys.orders_open, keys.order(""), 0, MAX_LIMIT)
    return tagged_rows("orders", rows, total=len(rows))


@records.get("/orders/history")
@requires("read")
def order_history() -> Response:
    """Final orders, newest first, by cursor."""
    keys = context().store.keys
    return _page("orders", keys.orders_history, keys.order(""))


@records.get("/audit")
@requires("read")
def audit() -> Response:
    """Who changed what, newest first."""
    rows = stream_rows(context().store, context().store.keys.audit, number("limit", 50, MAX_LIMIT))
    return tagged_rows("audit", rows[::-1])


def _page(name: str, index: str, prefix: str) -> Response:
    cursor, limit = number("cursor", 0, 10**9), number("limit", 50, MAX_LIMIT)
    rows, more = hashes(context().store, index, prefix, cursor, limit)
    return tagged_rows(name, rows, next_cursor=str(cursor + limit) if more else None)


def _problems(found: Records) -> dict[str, object]:
    return {"problems": found.problems} if found.problems else {}
