"""Bots: their documents, what is in force of them, and their orders."""

from __future__ import annotations

from typing import Any, cast

from flask import Blueprint, Response

from shared.bots import CYCLE_BOT, MAX_BOT_ID, BotControl, BotSettings, default_bot, judge_bot, read_strays
from shared.documents import Reading, dump_json
from shared.errors import DocumentError
from web.api.answers import tagged, tagged_json
from web.api.control import actor, body, document, if_match
from web.api.records import MAX_LIMIT, number
from web.auth.guard import requires
from web.context import context
from web.errors import ApiError
from web.records import Records, hashes

bots = Blueprint("bots", __name__)


def _control() -> BotControl:
    return BotControl(context().store, context().clock)


def _known(bot_id: int) -> BotControl:
    found = _control()
    if bot_id not in found.ids():
        raise ApiError(404, "no_such_bot", f"there is no bot {bot_id}; GET /api/bots lists them", "bot_id")
    return found


def _answer(reading: Reading[BotSettings], status: int = 200) -> Response:
    response = tagged(dump_json(document(reading)), reading.version)
    if response.status_code == 200:
        response.status_code = status
    return response


@bots.get("/bots")
@requires("read")
def list_bots() -> Response:
    """Every bot: its document, why it cannot be read, if so, and what the trader says of it.

    ``strays`` names what was written for a bot that is none, where there is any.
    """
    control, keys = _control(), context().store.keys
    ids = control.ids()
    found = Records(context().store, [keys.bot_status(i) for i in ids])
    rows = [{**document(control.read(i)), "status": found.value[f"bot:{i}:status"]} for i in ids]
    strays = read_strays(context().store)
    more = ({"problems": found.problems} if found.problems else {}) | ({"strays": strays} if strays else {})
    return tagged_json({"bots": rows, "total": len(rows)} | more)


@bots.post("/bots")
@requires("control")
def new_bot() -> Response:
    """A new bot: what is left out has its default, without `bot_id` the next free number; off unless it says so."""
    control, fields = _control(), body()
    taken = control.ids()
    bot_id = fields.get("bot_id", max(taken) + 1)
    if isinstance(bot_id, bool) or not isinstance(bot_id, int) or not 1 <= bot_id <= MAX_BOT_ID:
        raise DocumentError("bot_id", f"must be a whole number from 1 to {MAX_BOT_ID}", bot_id)
    if bot_id in taken:
        raise ApiError(409, "bot_exists", f"bot {bot_id} exists; PUT /api/bots/{bot_id} replaces it", "bot_id")
    reading = control.change(bot_id, {**fields, "bot_id": bot_id}, actor(), whole=True)
    response = _answer(reading, 201)
    response.headers["Location"] = f"/api/bots/{bot_id}"
    return response


@bots.get("/bots/<int:bot_id>")
@requires("read")
def get_bot(bot_id: int) -> Response:
    """One bot: its document, why it cannot be read, if so, and what the trader says of it.

    The ETag is the document's, for If-Match; the status changes under it, so that this is never a 304.
    """
    reading = _known(bot_id).read(bot_id)
    found = Records(context().store, [context().store.keys.bot_status(bot_id)])
    response = Response(
        dump_json({**document(reading), "status": found.value[f"bot:{bot_id}:status"]}), mimetype="application/json"
    )
    response.set_etag(reading.version)
    response.headers["Cache-Control"] = "no-cache"
    return response


@bots.put("/bots/<int:bot_id>")
@requires("control")
def put_bot(bot_id: int) -> Response:
    """Replace a bot's document; If-Match guards against a lost update (412)."""
    return _answer(_known(bot_id).change(bot_id, body(), actor(), version=if_match(), whole=True))


@bots.delete("/bots/<int:bot_id>")
@requires("control")
def delete_bot(bot_id: int) -> Response:
    """Remove a bot; its open positions are managed until they are closed. If-Match as for PUT. Not bot 1."""
    if bot_id == CYCLE_BOT:
        raise ApiError(409, "cycle_bot", f"bot {CYCLE_BOT} always exists; the master switch turns it off", "bot_id")
    _known(bot_id).delete(bot_id, actor(), version=if_match())
    return tagged_json({"deleted": bot_id})


@bots.get("/bots/<int:bot_id>/config")
@requires("read")
def get_config(bot_id: int) -> Response:
    """A bot's document: the values in force, the version, and why it cannot be read, if so."""
    return _answer(_known(bot_id).read(bot_id))


@bots.route("/bots/<int:bot_id>/config", methods=["PUT", "PATCH"])
@requires("control")
def put_config(bot_id: int) -> Response:
    """Merge into a bot's document what is given, the rest stays; If-Match guards against a lost update (412)."""
    return _answer(_known(bot_id).change(bot_id, body(), actor(), version=if_match()))


@bots.post("/bots/<int:bot_id>/config/validate")
@requires("read")
def validate_config(bot_id: int) -> Response:
    """Judge a document as the trader would, and write nothing."""
    start = default_bot(bot_id)
    given = {"bot_id": bot_id, "kind": start.kind} | body()
    reading = judge_bot(bot_id, dump_json(given), start)
    if isinstance(reading.error, DocumentError):
        return tagged_json({"valid": False, "error": {"param": reading.error.field, "message": str(reading.error)}})
    return tagged_json({"valid": True, "error": None, "config": reading.value.plain()})


@bots.get("/bots/<int:bot_id>/orders")
@requires("read")
def bot_orders(bot_id: int) -> Response:
    """A bot's orders that are not final."""
    _known(bot_id)
    keys = context().store.keys
    rows, _ = hashes(context().store, keys.orders_open, keys.order(""), 0, MAX_LIMIT)
    mine = _of(rows, bot_id)
    return tagged_json({"orders": mine, "total": len(mine)})


@bots.get("/bots/<int:bot_id>/orders/history")
@requires("read")
def bot_history(bot_id: int) -> Response:
    """A bot's final orders, newest first, by cursor; `limit` is how many of all bots are looked through."""
    _known(bot_id)
    keys, cursor, limit = context().store.keys, number("cursor", 0, 10**9), number("limit", 50, MAX_LIMIT)
    rows, more = hashes(context().store, keys.orders_history, keys.order(""), cursor, limit)
    return tagged_json({"orders": _of(rows, bot_id), "next_cursor": str(cursor + limit) if more else None})


def _of(rows: list[dict[str, str]], bot_id: int) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", [row for row in rows if row.get("bot_id") == str(bot_id)])
