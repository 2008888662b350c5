"""The overview: state, stop, start, settings, risk, positions, trades and health on one page, scripts or not."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, flash, make_response, redirect, render_template, request
from werkzeug.wrappers import Response

from shared.control import VersionConflict
from shared.documents import Reading
from shared.errors import DocumentError
from web.api.control import actor, start_terms
from web.auth.guard import principal, requires
from web.context import context
from web.pages import view
from web.pages.forms import RISK_FIELDS, SETTINGS_FIELDS, Field, changes_from, values_of

overview = Blueprint("overview", __name__)

_FILTERS = {
    "money": view.money,
    "signed": view.signed,
    "tone": view.tone,
    "plain": view.plain,
    "percent": view.percent,
    "clock_time": lambda value: view.clock_time(value, context().clock.now()),
}


@overview.record_once
def _set_up_templates(state: Any) -> None:
    state.app.jinja_env.filters.update(_FILTERS)
    state.app.jinja_env.finalize = view.visible


def _page(**changed: Any) -> str:
    parts = context()
    who = principal()
    settings, risk = parts.control.settings(), parts.control.risk()
    shown: dict[str, Any] = {
        "view": view.read_view(parts.store, parts.clock.now(), parts.config.mode),
        "settings": settings,
        "risk": risk,
        "settings_fields": SETTINGS_FIELDS,
        "risk_fields": RISK_FIELDS,
        "settings_values": values_of(settings.value, SETTINGS_FIELDS),
        "risk_values": values_of(risk.value, RISK_FIELDS),
        "settings_problem": None,
        "risk_problem": None,
        "user": who,
        "may_control": who is not None and "control" in who.scopes,
        "may_stop": who is not None and "stop" in who.scopes,
    }
    return render_template("overview.html", **(shown | changed))


@overview.get("/")
@requires("read")
def index() -> str:
    """The page."""
    return _page()


@overview.get("/live")
@requires("read")
def live() -> Response:
    """The parts of the page that change by themselves, for the page's own script."""
    parts = context()
    shown = view.read_view(parts.store, parts.clock.now(), parts.config.mode)
    response = make_response(render_template("live.html", view=shown))
    response.headers["Cache-Control"] = "no-cache"
    return response


@overview.get("/start")
@requires("control")
def start() -> str:
    """Before trading starts: mode, strategy and limits, and one button that means yes."""
    return render_template("start.html", terms=start_terms(), user=principal())


@overview.post("/settings")
@requires("control")
def settings() -> Response | tuple[str, int]:
    """The form of trading_settings; the switch itself has its own buttons."""
    return _save("settings", SETTINGS_FIELDS, context().control.settings(), context().control.change_settings)


@overview.post("/risk")
@requires("control")
def risk() -> Response | tuple[str, int]:
    """The form of risk_settings."""
    return _save("risk", RISK_FIELDS, context().control.risk(), context().control.change_risk)


def _save(name: str, fields: tuple[Field, ...], now: Reading[Any], change: Any) -> Response | tuple[str, int]:
    """Save, or show the form again with what was typed and what is wrong with it."""
    typed = {field.name: request.form.get(field.name, "").strip() for field in fields}
    try:
        change(changes_from(fields, request.form), actor(), version=request.form.get("version") or None)
    except DocumentError as error:
        problem = {"field": error.field, "message": str(error)}
    except VersionConflict:
        problem = {
            "field": "",
            "message": "Somebody changed these in the meantime. What you typed is kept below; saving again writes it.",
        }
        typed["version"] = now.version
    else:
        flash("Saved. The trader applies it at its next decision.", "success")
        return redirect(f"/#{name}", code=303)
    return _page(**{f"{name}_problem": problem, f"{name}_values": typed}), 409 if not problem["field"] else 400
