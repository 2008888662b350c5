"""The strict reading of what people write: the switch must never be on by accident."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.documents import RiskSettings, TradingSettings, dump_json, parse_json
from shared.errors import DocumentError
from shared.store import judge

MANGLED = {
    "not_json": b"enabled",
    "empty": b"",
    "null": b"null",
    "a_list": b'[{"enabled": true}]',
    "a_string": b'"true"',
    "string_for_true": b'{"enabled": "true"}',
    "one_for_true": b'{"enabled": 1}',
    "null_for_true": b'{"enabled": null}',
    "nan": b'{"enabled": true, "buy_threshold_pct": NaN}',
    "infinity": b'{"enabled": true, "buy_threshold_pct": Infinity}',
    "1e400": b'{"enabled": true, "buy_threshold_pct": 1e400}',
    "negative": b'{"enabled": true, "buy_threshold_pct": -0.05}',
    "zero_threshold": b'{"enabled": true, "buy_threshold_pct": 0}',
    "above_one": b'{"enabled": true, "sell_threshold_pct": 1.01}',
    "fractional_shares": b'{"enabled": true, "max_position_per_trade": 1.5}',
    "bool_for_number": b'{"enabled": true, "max_position_per_trade": true}',
    "unknown_strategy": b'{"enabled": true, "strategy": "YOLO"}',
    "duplicate_keys": b'{"enabled": false, "enabled": true}',
    "nested_duplicate": b'{"enabled": true, "x": {"a": 1, "a": 2}}',
    "deep": b'{"enabled": true, "x": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "huge_string": b'{"enabled": true, "x": "' + b"a" * 200_000 + b'"}',
    "huge_integer": b'{"enabled": true, "max_position_per_trade": ' + b"9" * 5000 + b"}",
    "not_utf8": b'{"enabled": true, "x": "\xff"}',
    "half_character": b'{"enabled": true, "x": "\\ud800"}',
    "hex_number": b'{"enabled": true, "buy_threshold_pct": 0x10}',
    "trailing_text": b'{"enabled": true} x',
}


@pytest.mark.parametrize("raw", MANGLED.values(), ids=MANGLED.keys())
def test_trading_settings_when_mangled_is_an_error_and_keeps_the_last_good_values(raw: bytes) -> None:
    good = TradingSettings(enabled=True, strategy="BALANCED")
    reading = judge(raw, TradingSettings, good)
    assert reading.error is not None
    assert reading.value is good
    assert reading.raw == raw


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e400", "[1, [NaN]]", '{"stop": 1, "buy_threshold_pct": NaN}'])
def test_number_when_it_is_not_finite_is_refused_with_its_field_and_as_it_was_written(number: str) -> None:
    raw = f'{{"enabled": true, "buy_threshold_pct": {number}}}'.encode()
    error = judge(raw, TradingSettings, TradingSettings()).error
    assert error is not None
    assert error.field == "buy_threshold_pct"
    assert any(f"(got '{text}')" in str(error) for text in ("NaN", "-Infinity", "1e400"))


def test_trading_settings_when_partial_inherits_all_but_the_switch() -> None:
    good = TradingSettings.parse(
        b'{"enabled": true, "buy_threshold_pct": 0.01, "strategy": "AGGRESSIVE"}', TradingSettings()
    )
    partial = TradingSettings.parse(b'{"max_position_per_trade": 7}', good)
    assert not partial.enabled
    assert (partial.buy_threshold_pct, partial.strategy, partial.max_position_per_trade) == (
        good.buy_threshold_pct,
        "AGGRESSIVE",
        7,
    )


@pytest.mark.parametrize("raw", [None, b"{}", b'{"daily_notional_cap": 1}'])
def test_risk_settings_when_the_stop_flag_is_absent_keeps_it_in_force(raw: bytes | None) -> None:
    good = RiskSettings(emergency_stop_active=True, reduce_only=True)
    reading = judge(raw, RiskSettings, good)
    assert reading.error is None
    assert reading.value.emergency_stop_active
    assert reading.value.reduce_only


def test_risk_settings_when_missing_has_the_default_limits_not_the_last_ones() -> None:
    reading = judge(None, RiskSettings, RiskSettings.parse(b'{"max_trades_per_run": 900}', RiskSettings()))
    assert reading.value == RiskSettings()


def test_unknown_fields_when_parsed_are_kept_in_what_is_written() -> None:
    parsed = TradingSettings.parse(b'{"enabled": true, "note": {"by": "me"}}', TradingSettings())
    assert json.loads(dump_json(parsed.plain()))["note"] == {"by": "me"}


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_parse_json_when_given_any_bytes_answers_or_raises_document_error(raw: bytes) -> None:
    try:
        value = parse_json(raw)
    except DocumentError:
        return
    assert value == json.loads(raw)
