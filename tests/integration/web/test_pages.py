"""The pages: forms without scripts, what they show, and the headers on every answer."""

from __future__ import annotations

import json
import re

import pytest
from flask import Flask
from flask.testing import FlaskClient

from shared.clock import SystemClock, rfc3339
from shared.documents import RiskSettings, TradingSettings
from shared.store import Store
from tests.integration.web.conftest import HTML, Browser, TokenFor
from web.pages.forms import RISK_FIELDS, SETTINGS_FIELDS, values_of

GOOD = values_of(TradingSettings(), SETTINGS_FIELDS)
GOOD_RISK = {n: v for n, v in values_of(RiskSettings(), RISK_FIELDS).items() if n != "reduce_only"}
HEADERS = {
    "Content-Security-Policy": r"^default-src 'none'; script-src 'self'; (?!.*unsafe).*frame-ancestors 'none'$",
    "X-Content-Type-Options": r"^nosniff$",
    "Referrer-Policy": r"^same-origin$",
    "Cross-Origin-Opener-Policy": r"^same-origin$",
    "X-Frame-Options": r"^DENY$",
}


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/live", "/start", "/signin", "/signin/x", "/nope", "/api/nope", "/livez", "/readyz", "/api/status"),
        *("/api/openapi.json", "/static/live.mjs", "/static/nope", "/bootstrap/static/css/bootstrap.min.css"),
    ],
)
def test_answer_whatever_is_asked_carries_the_security_headers(
    app: Flask, client: FlaskClient, operator: Browser, token: TokenFor, path: str
) -> None:
    for answer in (
        client.get(path, buffered=True),
        client.get(path, headers=HTML, buffered=True),
        operator.get(path),
        client.delete(path),
        client.post(path, data=b"a" * 200_000, headers=HTML),
        client.get(path, headers=token("read"), buffered=True),
        client.get(path, headers={"Authorization": "Bearer x"}, buffered=True),
    ):
        for name, pattern in HEADERS.items():
            assert re.search(pattern, answer.headers[name]), (path, name, answer.status)
        assert answer.status_code < 500
        assert answer.headers.getlist("Cache-Control")


@pytest.mark.parametrize("path", ["/", "/live", "/start"])
def test_page_when_nobody_is_signed_in_leads_to_sign_in_and_back(browser: Browser, path: str) -> None:
    answer = browser.get(path)
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/signin?next={path}")


def test_probes_when_nobody_is_signed_in_answer(client: FlaskClient) -> None:
    assert client.get("/livez").json == {"status": "ok"}
    assert client.get("/readyz").json == {"status": "ok", "redis": "ok"}
    assert client.get("/healthz").status_code == 200


def test_overview_when_nothing_has_run_yet_shows_what_is_missing(operator: Browser) -> None:
    page = operator.get("/").text
    assert "SIMULATED" in page
    assert 'data-trading="STOPPED"' in page
    assert 'data-link="STALE"' in page
    assert "No heartbeat yet" in page
    assert "Nothing is held." in page
    assert "No order yet" in page


def test_overview_when_the_switch_is_off_and_nobody_acted_shows_a_requested_stop(
    operator: Browser, store: Store
) -> None:
    store.put_json("trading_status", {"active": True, "state": "ACTIVE"})
    store.put_json("trading_settings", {"enabled": False})
    assert 'data-trading="STOP REQUESTED"' in operator.get("/").text


def test_overview_when_keys_are_written_shows_them(operator: Browser, store: Store) -> None:
    store.put_json("trading_settings", {"enabled": True})
    store.put_json("trading_status", {"active": True, "state": "ACTIVE", "trades_today": 3, "total_volume": 15000.5})
    store.put_json("portfolio_positions", [{"ticker": "AAPL", "qty": "100", "unrealized_pl": "-275.00"}])
    store.put_json("trades_log", [{"ticker": f"T{n}", "side": "buy", "qty": 1, "status": "filled"} for n in range(30)])
    store.put_json("stop_report", {"state": "STOPPED", "orders_found": 7, "orders_canceled": 7, "finished_at": "…"})
    store.put_json("stats", {"wins": 29, "loss_trades": 21, "win_rate": 58.0, "today_pnl": 12.4})
    page = operator.get("/").text
    assert 'data-trading="ACTIVE"' in page
    assert "15,000.50" in page
    assert "−275.00" in page
    assert "cancelled 7 of 7" in page
    assert "(29/50)" in page
    assert 'class="gain">+12.40' in page
    assert "T29" in page
    assert "T9<" not in page


def test_overview_when_the_last_stop_was_on_another_day_names_the_day(operator: Browser, store: Store) -> None:
    """Yesterday's stop must not look like one of this minute."""
    long_ago = "2026-03-02T15:04:05Z"
    store.put_json("stop_report", {"state": "STOPPED", "requested_at": long_ago, "finished_at": long_ago})
    assert "2026-03-02 15:04:05 UTC" in operator.get("/").text
    now = rfc3339(SystemClock().now())
    store.put_json("stop_report", {"state": "STOPPED", "requested_at": now, "finished_at": now})
    assert now[:10] + " " not in operator.get("/").text


def test_viewer_when_looking_sees_no_control_that_works(viewer: Browser) -> None:
    page = viewer.get("/").text
    assert 'href="/start"' not in page
    assert ">Save<" not in page
    assert "/api/stop" not in page
    assert viewer.get("/start").status_code == 403
    assert viewer.post("/settings", **GOOD).status_code == 403


def test_settings_form_when_saved_writes_the_document_and_leaves_the_switch(operator: Browser, store: Store) -> None:
    store.client.set("trading_settings", b'{"enabled": true, "note": 1}')
    answer = operator.post("/settings", **GOOD | {"strategy": "AGGRESSIVE", "buy_threshold_pct": "0.02"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/#settings")
    found = json.loads(store.read_raw("trading_settings") or b"")
    assert (found["enabled"], found["note"]) == (True, 1)
    assert (found["strategy"], found["buy_threshold_pct"], found["updated_by"]) == ("AGGRESSIVE", 0.02, "web")


def test_risk_form_when_saved_never_lifts_the_stop_flag(operator: Browser, store: Store) -> None:
    store.put_json("risk_settings", {"emergency_stop_active": True, "reduce_only": True})
    assert operator.post("/risk", **GOOD_RISK | {"max_trades_per_run": "9"}).status_code == 303
    found = json.loads(store.read_raw("risk_settings") or b"")
    assert (found["emergency_stop_active"], found["reduce_only"], found["max_trades_per_run"]) == (True, False, 9)


@pytest.mark.parametrize(
    "typed",
    ["", "abc", "0", "-1", "2", "NaN", "Infinity", "1e400", "true", "0,05", "[" * 9000, "1" * 5000, '"><script>'],
)
def test_form_when_a_value_is_refused_shows_it_beside_its_field(operator: Browser, store: Store, typed: str) -> None:
    store.client.set("trading_settings", b'{"enabled": true}')
    answer = operator.post("/settings", **GOOD | {"buy_threshold_pct": typed, "strategy": "BALANCED"})
    assert answer.status_code == 400
    assert 'id="settings-buy_threshold_pct-wrong"' in answer.text
    assert "<option selected>BALANCED</option>" in answer.text
    assert "<script>" not in answer.text.replace("<script ", "")
    assert store.read_raw("trading_settings") == b'{"enabled": true}'


def test_form_when_the_choice_is_none_of_them_is_refused_beside_its_field(operator: Browser) -> None:
    answer = operator.post("/risk", **GOOD_RISK | {"on_stop": "nothing"})
    assert answer.status_code == 400
    assert 'id="risk-on_stop-wrong"' in answer.text


def test_form_when_somebody_else_was_faster_keeps_what_was_typed_and_saves_on_the_next_try(
    operator: Browser, store: Store
) -> None:
    version = re.search(r'name="version" value="(\w+)"', operator.get("/").text)
    assert version
    store.client.set("trading_settings", b'{"enabled": true}')
    typed = GOOD | {"buy_threshold_pct": "0.02"}
    answer = operator.post("/settings", **typed, version=version[1])
    assert answer.status_code == 409
    assert "in the meantime" in answer.text
    assert 'value="0.02"' in answer.text
    again = re.search(r'name="version" value="(\w+)"', answer.text)
    assert again
    assert operator.post("/settings", **typed, version=again[1]).status_code == 303


def test_start_page_when_opened_states_the_terms_and_starts_only_on_its_button(operator: Browser, store: Store) -> None:
    store.put_json("risk_settings", {"emergency_stop_active": True})
    page = operator.get("/start").text
    for part in ("SIMULATED", "CONSERVATIVE", "50000", "starting lifts it"):
        assert part in page
    assert store.read_raw("trading_settings") is None
    assert operator.post("/api/start", "/start", confirm="true").status_code == 303
    assert json.loads(store.read_raw("trading_settings") or b"")["enabled"] is True
    assert json.loads(store.read_raw("risk_settings") or b"")["emergency_stop_active"] is False


def test_error_page_when_something_is_not_there_is_a_page_for_people_and_json_for_programs(
    browser: Browser, client: FlaskClient
) -> None:
    assert browser.get("/nope").mimetype == "text/html"
    assert client.get("/nope").json["error"]["code"] == "not_found"
