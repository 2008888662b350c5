"""The switches: settings, risk, stop, start."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, flash, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from shared.control import Actor
from shared.documents import Reading, TradingSettings, dump_json, parse_json
from shared.errors import DocumentError
from web.api.answers import tagged
from web.auth.guard import principal, requires
from web.context import context
from web.errors import ApiError, is_form, wants_json

control = Blueprint("control", __name__)


def actor() -> Actor:
    """Who changes something, through this web."""
    who = principal()
    name = who.name if who is not None else "nobody"
    return Actor(name, "api" if name.startswith("token:") else "web")


def document(reading: Reading[Any]) -> dict[str, Any]:
    """A document as the API shows it: the values in force, its version, and why it cannot be read, if so."""
    values = reading.value.plain()
    if reading.error is not None and isinstance(reading.value, TradingSettings):
        values["enabled"] = False
    return {**values, "version": reading.version, "error": None if reading.error is None else str(reading.error)}


def _answer(reading: Reading[Any]) -> Response:
    return tagged(dump_json(document(reading)), reading.version)


def body() -> dict[str, Any]:
    value = parse_json(request.get_data())
    if not isinstance(value, dict):
        raise DocumentError("document", "must be a JSON object", value)
    return {name: item for name, item in value.items() if name not in {"version", "error"}}


def if_match() -> str | None:
    header = request.headers.get("If-Match")
    return None if header in (None, "*") else str(header).removeprefix("W/").strip('"')


@control.get("/settings")
@requires("read")
def get_settings() -> Response:
    """trading_settings: the values in force, the version, and why the document cannot be read, if so."""
    return _answer(context().control.settings())


@control.route("/settings", methods=["PUT", "PATCH"])
@requires("control")
def put_settings() -> Response:
    """Replace (PUT) or merge (PATCH) trading_settings; If-Match guards against a lost update (412)."""
    whole = request.method == "PUT"
    return _answer(context().control.change_settings(body(), actor(), version=if_match(), whole=whole))


@control.get("/risk")
@requires("read")
def get_risk() -> Response:
    """risk_settings: the limits in force, the version, and why the document cannot be read, if so."""
    return _answer(context().control.risk())


@control.route("/risk", methods=["PUT", "PATCH"])
@requires("control")
def put_risk() -> Response:
    """Replace (PUT) or merge (PATCH) risk_settings; If-Match guards against a lost update (412)."""
    whole = request.method == "PUT"
    return _answer(context().control.change_risk(body(), actor(), version=if_match(), whole=whole))


@control.post("/stop")
@requires("stop", "control")
def stop() -> AnyResponse:
    """Stop trading: no body, no confirmation. The report of what it did stands in /api/status."""
    context().control.stop(actor())
    if not wants_json():
        flash("Stop requested: new orders are refused from now on.", "warning")
        return redirect("/", code=303)
    return Response(dump_json({"stopped": True, "enabled": False}), mimetype="application/json", status=202)


def start_terms() -> dict[str, Any]:
    """What somebody agrees to who starts trading."""
    return {
        "mode": context().config.mode,
        "strategy": context().control.settings().value.strategy,
        "settings": context().control.settings().value.plain(),
        "limits": context().control.risk().value.plain(),
    }


@control.post("/start")
@requires("control")
def start() -> AnyResponse:
    """Start trading; needs `confirm: true`, and without it states mode, strategy and limits (409)."""
    confirmed = request.form.get("confirm") == "true" if is_form() else _confirmed()
    if not confirmed:
        raise ApiError(
            409, "confirmation_needed", "send `confirm: true` to start with these terms", "confirm", **start_terms()
        )
    context().control.start(actor())
    if not wants_json():
        flash("Start requested.", "success")
        return redirect("/", code=303)
    return Response(dump_json({"started": True, **start_terms()}), mimetype="application/json", status=202)


def _confirmed() -> bool:
    return bool(request.get_data()) and body().get("confirm") is True
