"""The two settings forms: a table of fields, and what was typed as the JSON values that the documents want."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.documents import parse_json
from shared.errors import DocumentError


@dataclass(frozen=True, slots=True)
class Field:
    """One input. ``kind`` is number, choice or switch; ``unit`` is shown behind it."""

    name: str
    label: str
    kind: str = "number"
    unit: str = ""
    choices: tuple[str, ...] = ()
    help: str = ""


_POLICIES = ("cancel_all", "cancel_entries", "flatten")

SETTINGS_FIELDS = (
    Field("strategy", "Strategy", "choice", choices=("CONSERVATIVE", "BALANCED", "AGGRESSIVE")),
    Field("buy_threshold_pct", "Buy above", unit="fraction", help="0.05 is 5 %; the strategy scales it"),
    Field("sell_threshold_pct", "Sell below minus", unit="fraction", help="0.05 is 5 %; the strategy scales it"),
    Field("max_position_per_trade", "Shares per trade", unit="shares"),
)
RISK_FIELDS = (
    Field("daily_notional_cap", "Daily volume cap", unit="USD", help="0 means no cap"),
    Field("max_position_per_ticker", "Orders per ticker and day"),
    Field("cooldown_minutes", "Cooldown per ticker", unit="minutes"),
    Field("max_trades_per_run", "Orders per run"),
    Field("max_order_notional", "Largest order", unit="USD", help="0 means no limit"),
    Field("max_open_positions", "Open positions"),
    Field("max_daily_loss_usd", "Daily loss that stops", unit="USD", help="0 means no limit"),
    Field("price_collar_pct", "Price collar", unit="fraction"),
    Field("stale_data_seconds", "Data is stale after", unit="seconds"),
    Field("on_stop", "A person's stop does", "choice", choices=_POLICIES),
    Field("on_stop_automatic", "An automatic stop does", "choice", choices=_POLICIES),
    Field("reduce_only", "Reduce only", "switch", help="No new exposure; exits go on"),
)


def values_of(document: Any, fields: tuple[Field, ...]) -> dict[str, str]:
    """What the inputs show at first."""
    plain = document.plain()
    return {f.name: json.dumps(plain[f.name]).strip('"') for f in fields}


def changes_from(fields: tuple[Field, ...], form: Mapping[str, str]) -> dict[str, Any]:
    """JSON values from a submitted form. Raises DocumentError naming the field."""
    return {field.name: _value(field, form.get(field.name, "").strip()) for field in fields}


def _value(field: Field, typed: str) -> Any:
    if field.kind == "switch":
        return typed == "true"
    if field.kind == "choice":
        return typed
    try:
        value = parse_json(typed.encode())
    except DocumentError:
        value = None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DocumentError(field.name, "must be a number", typed)
    return value
