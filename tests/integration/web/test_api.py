"""The API's manners: who may do what, one shape for every error, every route described."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared.store import Store
from tests.integration.web.conftest import Browser, TokenFor

GETS = (
    "/api/settings",
    "/api/risk",
    "/api/status",
    "/api/bot/status",
    "/api/stats",
    "/api/pnl",
    "/api/equity",
    "/api/positions",
    "/api/positions?status=closed",
    "/api/trades",
    "/api/orders",
    "/api/orders/history",
    "/api/audit",
)
WRITES: dict[tuple[str, str], dict[str, Any]] = {
    ("PATCH", "/api/settings"): {"buy_threshold_pct": 0.02},
    ("PUT", "/api/settings"): {"enabled": False},
    ("PATCH", "/api/risk"): {"max_trades_per_run": 2},
    ("PUT", "/api/risk"): {"max_trades_per_run": 2},
    ("POST", "/api/start"): {"confirm": True},
}


def assert_error(answer: TestResponse, status: int, code: str = "", param: str | None = None) -> None:
    """The one error shape, and nothing of our insides in it."""
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/json"
    error = answer.json["error"]
    assert set(error) == {"type", "code", "message", "param", "doc_url"}
    assert error["message"]
    assert code in {"", error["code"]}
    assert error["param"] == param
    assert "Traceback" not in answer.text


def test_list_when_asked_for_as_csv_is_a_table_without_formulas(
    client: FlaskClient, token: TokenFor, store: Store
) -> None:
    """A ticker that begins with = would run in the spreadsheet of whoever opens the file."""
    rows = [{"ticker": "=1+1", "price": -2.5, "reason": 'a "b", c'}, {"ticker": "AAPL", "price": 1, "side": None}]
    store.put_json("trades_log", rows)
    answer = client.get("/api/trades?format=csv", headers=token("read"))
    assert (answer.status_code, answer.mimetype) == (200, "text/csv")
    assert "attachment" in answer.headers["Content-Disposition"]
    read = list(csv.reader(io.StringIO(answer.text)))
    assert read == [
        ["ticker", "price", "side", "reason"],
        ["AAPL", "1", "", ""],
        ["'=1+1", "-2.5", "", 'a "b", c'],
    ]
    assert_error(client.get("/api/trades?format=xml", headers=token("read")), 400, "bad_parameter", "format")


@pytest.mark.parametrize("path", GETS)
def test_get_when_the_token_may_read_answers_json_with_an_etag(client: FlaskClient, token: TokenFor, path: str) -> None:
    read = token("read")
    answer = client.get(path, headers=read)
    assert answer.status_code == 200
    assert isinstance(answer.json, dict)
    again = client.get(path, headers=read | {"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_get_when_the_token_may_only_stop_is_403(client: FlaskClient, token: TokenFor) -> None:
    assert_error(client.get("/api/status", headers=token("stop")), 403, "not_allowed")


def test_get_when_the_token_may_control_shows_what_it_changes(client: FlaskClient, token: TokenFor) -> None:
    """If-Match needs a version, and the answer to a PATCH is the document anyway."""
    headers = token("control")
    seen = client.get("/api/risk", headers=headers)
    assert seen.status_code == 200
    headers["If-Match"] = seen.headers["ETag"]
    assert client.patch("/api/risk", json={"cooldown_minutes": 5}, headers=headers).status_code == 200


@pytest.mark.parametrize("scope", ["read", "stop"])
@pytest.mark.parametrize(("method", "path"), WRITES)
def test_write_when_the_token_may_not_control_is_403_and_writes_nothing(
    client: FlaskClient, store: Store, token: TokenFor, method: str, path: str, scope: str
) -> None:
    answer = client.open(path, method=method, json=WRITES[method, path], headers=token(scope))
    assert_error(answer, 403, "not_allowed")
    assert store.read_raw("trading_settings") is None
    assert store.read_raw("risk_settings") is None


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_write_when_the_token_may_control_is_done(client: FlaskClient, token: TokenFor, method: str, path: str) -> None:
    answer = client.open(path, method=method, json=WRITES[method, path], headers=token("control"))
    assert answer.status_code in {200, 202}, answer.text


@pytest.mark.parametrize(("scope", "status"), [("read", 403), ("stop", 202), ("control", 202)])
def test_stop_when_asked_with_each_scope_is_for_stop_and_control(
    client: FlaskClient, token: TokenFor, scope: str, status: int
) -> None:
    assert client.post("/api/stop", headers=token(scope)).status_code == status


def test_every_api_route_when_nobody_asks_is_401(app: Flask) -> None:
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/api/") and rule.rule != "/api/openapi.json":
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                path = re.sub(r"<[^>]+>", "1", rule.rule)
                answer = app.test_client().open(path, method=method)
                assert_error(answer, 401, "not_signed_in")
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("header", ["Bearer nonsense", "Bearer", "Bearer ", "Basic YTpi", "sixbot", "Bearer ÿ\x01"])
def test_status_when_the_authorization_header_is_not_known_is_401(client: FlaskClient, header: str) -> None:
    assert_error(client.get("/api/status", headers={"Authorization": header}), 401, "bad_token")


def test_token_when_it_is_revoked_is_401(client: FlaskClient, store: Store, token: TokenFor) -> None:
    mine = token("read")
    for key in store.client.scan_iter(match="web:token:*"):
        store.client.delete(key)
    assert_error(client.get("/api/status", headers=mine), 401, "bad_token")


def test_unknown_path_when_asked_is_404(client: FlaskClient, token: TokenFor) -> None:
    assert_error(client.get("/api/nope", headers=token()), 404)
    assert_error(client.post("/api/nope", headers=token()), 404)


def test_wrong_method_when_used_is_405_and_says_which_are_allowed(client: FlaskClient, token: TokenFor) -> None:
    answer = client.delete("/api/settings", headers=token())
    assert_error(answer, 405)
    assert {"GET", "PUT", "PATCH"} <= set(re.split(r",\s*", answer.headers["Allow"]))
    assert_error(client.get("/api/stop", headers=token()), 405)


def test_body_when_it_is_too_large_is_413(client: FlaskClient, token: TokenFor) -> None:
    huge = b'{"note": "' + b"a" * 200_000 + b'"}'
    assert_error(client.patch("/api/settings", data=huge, headers=token()), 413)


def test_stop_when_its_body_is_too_large_stops_all_the_same(client: FlaskClient, token: TokenFor) -> None:
    assert client.post("/api/stop", data=b"a" * 200_000, headers=token("stop")).status_code == 202


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/api/trades?limit=0", "limit"),
        ("/api/trades?limit=-1", "limit"),
        ("/api/trades?limit=1001", "limit"),
        ("/api/trades?limit=abc", "limit"),
        ("/api/trades?limit=%C2%B2", "limit"),
        ("/api/trades?limit=", "limit"),
        ("/api/orders/history?cursor=" + "0" * 13 + "9" * 30, "cursor"),
        ("/api/orders/history?cursor=" + "9" * 5000, "cursor"),
        ("/api/orders?status=closed", "status"),
        ("/api/positions?status=%3Cscript%3E", "status"),
        ("/api/pnl?by=moon", "by"),
    ],
)
def test_parameter_when_it_makes_no_sense_is_400_and_named(
    client: FlaskClient, token: TokenFor, path: str, param: str
) -> None:
    assert_error(client.get(path, headers=token()), 400, "bad_parameter", param)


def test_openapi_when_read_lists_every_api_route_and_nothing_else(app: Flask, client: FlaskClient) -> None:
    listed = {
        (path, method) for path, methods in client.get("/api/openapi.json").json["paths"].items() for method in methods
    }
    routed = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert listed == routed


def test_status_when_keys_stand_in_redis_passes_their_very_json_through(
    client: FlaskClient, store: Store, token: TokenFor
) -> None:
    raw = b'{"active": true, "total_volume": 15000.50, "mine": ["10.00", 1e3], "applied": {"x": null}}'
    store.client.set("trading_status", raw)
    store.client.set("epoch_ack:default", b'{"epoch": 7, "in_flight": []}')
    answer = client.get("/api/status", headers=token("read"))
    assert raw in answer.data
    assert answer.json["acknowledgement"] == {"epoch": 7, "in_flight": []}
    assert answer.json["stop_report"] is None


def test_trades_when_more_are_stored_than_asked_for_are_the_newest_first(
    client: FlaskClient, store: Store, token: TokenFor
) -> None:
    store.put_json("trades_log", [{"ticker": f"T{n}"} for n in range(9)])
    answer = client.get("/api/trades?limit=2", headers=token("read"))
    assert answer.json == {"trades": [{"ticker": "T8"}, {"ticker": "T7"}], "total": 9}


def test_positions_when_stored_keep_their_exact_strings(client: FlaskClient, store: Store, token: TokenFor) -> None:
    rows = [{"ticker": "AAPL", "qty": "100", "avg_entry_price": "150.250000000000000001"}]
    store.put_json("portfolio_positions", rows)
    assert client.get("/api/positions", headers=token("read")).json == {"positions": rows, "total": 1}


def test_order_history_when_paged_shows_each_order_once_although_some_are_gone(
    client: FlaskClient, store: Store, token: TokenFor
) -> None:
    for n in range(7):
        store.client.zadd("orders:history", {f"o{n}": n})
        if n not in {2, 5}:
            store.client.hset(f"order:o{n}", mapping={"client_order_id": f"o{n}"})
    seen, cursor = [], "0"
    while cursor is not None:
        page = client.get(f"/api/orders/history?limit=2&cursor={cursor}", headers=token("read")).json
        seen += [row["client_order_id"] for row in page["orders"]]
        cursor = page["next_cursor"]
    assert seen == ["o6", "o4", "o3", "o1", "o0"]


def test_cookie_write_when_the_csrf_token_is_missing_is_refused(operator: Browser, store: Store) -> None:
    answer = operator.client.patch("/api/settings", json={"enabled": True})
    assert_error(answer, 400, "csrf")
    assert_error(operator.client.post("/api/stop"), 400, "csrf")
    assert store.read_raw("trading_settings") is None


def test_cookie_write_when_the_csrf_token_is_sent_in_the_header_is_done(operator: Browser, store: Store) -> None:
    headers = {"X-CSRFToken": operator.token("/")}
    assert operator.client.patch("/api/settings", json={"enabled": True}, headers=headers).status_code == 200
    assert json.loads(store.read_raw("trading_settings") or b"")["enabled"] is True


def test_viewer_when_it_tries_to_stop_or_change_is_403(viewer: Browser) -> None:
    headers = {"X-CSRFToken": viewer.token("/")}
    assert viewer.client.get("/api/status").status_code == 200
    assert_error(viewer.client.post("/api/stop", headers=headers), 403, "not_allowed")
    assert_error(viewer.client.patch("/api/risk", json={}, headers=headers), 403, "not_allowed")
