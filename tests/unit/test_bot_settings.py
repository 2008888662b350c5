"""One bot's document: what is refused, with the field and the value named, and what a change writes."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from shared.bots import BotControl, BotSettings, default_bot, judge_bot
from shared.clock import SystemClock
from shared.control import Actor, VersionConflict
from shared.documents import version_of
from shared.errors import DocumentError, SixbotError
from shared.store import Store

ME = Actor("tester", "test")
DOCUMENT = {
    "bot_id": 7,
    "name": "BTC scalper",
    "kind": "stream",
    "enabled": True,
    "symbol": "BTCUSDC",
    "account": "binance-test",
    "model_id": 3,
    "confidence_threshold": 0.40,
    "capital_per_trade": 200,
    "holding_time": 2000,
    "profit_target_pct": 0.00015,
    "stop_loss_pct": 0.009,
    "maker_order_timeout": 60,
    "max_positions": 2,
}


def judged(**changes: Any) -> tuple[BotSettings, str]:
    reading = judge_bot(7, json.dumps({**DOCUMENT, **changes}).encode(), default_bot(7))
    return reading.value, str(reading.error or "")


def test_bot_when_the_document_is_good_is_read_exactly() -> None:
    value, error = judged(note="mine")
    assert not error
    assert (value.enabled, value.symbol, value.account, value.model_id) == (True, "BTCUSDC", "binance-test", 3)
    assert value.profit_target_pct == Decimal("0.00015")
    assert value.plain()["note"] == "mine"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("enabled", "true"),
        ("enabled", 1),
        ("close_positions", "yes"),
        ("kind", "cycle"),
        ("kind", "other"),
        ("bot_id", 8),
        ("bot_id", "7"),
        ("symbol", "btcusdc"),
        ("symbol", ""),
        ("account", "a b"),
        ("model_id", 0),
        ("model_id", True),
        ("confidence_threshold", 0),
        ("confidence_threshold", 1.01),
        ("capital_per_trade", 0),
        ("capital_per_trade", "200"),
        ("holding_time", -1),
        ("profit_target_pct", 0),
        ("stop_loss_pct", 1),
        ("stop_loss_pct", -0.1),
        ("maker_order_timeout", 0),
        ("max_positions", 0),
        ("max_positions", 1.5),
        ("name", 5),
    ],
)
def test_bot_when_a_field_is_wrong_is_refused_with_field_and_value(field: str, value: object) -> None:
    kept, error = judged(**{field: value})
    assert error.startswith(f"{field}: ")
    assert repr(value) in error
    assert kept == default_bot(7)


def test_bot_when_it_says_nothing_of_enabled_is_off_and_keeps_its_numbers() -> None:
    """A partial document is legal; a switch is on only where it says so."""
    good = judged()[0]
    reading = judge_bot(7, b'{"max_positions": 5}', good)
    assert (reading.error, reading.value.enabled, reading.value.max_positions) == (None, False, 5)
    assert reading.value.capital_per_trade == good.capital_per_trade


def test_change_when_patched_keeps_foreign_fields_and_leaves_an_audit_entry(store: Store) -> None:
    control = BotControl(store, SystemClock())
    store.client.set("bot:7", json.dumps({**DOCUMENT, "note": "mine"}))
    result = control.change(7, {"holding_time": 60}, ME)
    written = json.loads(store.client.get("bot:7"))  # type: ignore[arg-type]
    assert (written["holding_time"], written["note"], written["enabled"]) == (60, "mine", True)
    assert result.version == version_of(store.client.get("bot:7"))  # type: ignore[arg-type]
    assert control.ids() == [1, 7]
    (_, entry) = store.client.xrevrange("audit", count=1)[0]  # type: ignore[index]
    assert (entry[b"key"], entry[b"who"]) == (b"bot:7", b"tester")
    with pytest.raises(VersionConflict):
        control.change(7, {"enabled": False}, ME, version="0" * 64)


def test_change_when_a_value_is_out_of_bounds_writes_nothing(store: Store) -> None:
    control = BotControl(store, SystemClock())
    with pytest.raises(DocumentError, match=r"^max_positions: .*\(got 0\)"):
        control.change(9, {"max_positions": 0}, ME)
    assert store.client.get("bot:9") is None
    assert control.ids() == [1]


def test_delete_when_it_is_the_cycle_bot_is_refused_and_any_other_goes(store: Store) -> None:
    control = BotControl(store, SystemClock())
    control.change(9, {"symbol": "AAPL"}, ME)
    control.delete(9, ME)
    assert (control.ids(), store.client.get("bot:9")) == ([1], None)
    with pytest.raises(SixbotError, match="always exists"):
        control.delete(1, ME)
    with pytest.raises(SixbotError, match="no bot 9"):
        control.delete(9, ME)
