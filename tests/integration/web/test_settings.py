"""Settings, risk, stop and start through the API: nothing lost, nothing guessed, and the stop always stops."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from shared.documents import version_of
from shared.store import Store
from tests.integration.web.conftest import HTML, Browser, TokenFor
from tests.integration.web.test_api import assert_error
from tests.support import RedisServer
from tests.unit.test_documents import MANGLED

WRONG_TYPES = ("list", "set", "hash", "zset", "stream")
MINE = b'{"enabled": true, "buy_threshold_pct": 0.07, "note": {"by": "me"}}'


def put_type(store: Store, key: str, kind: str) -> None:
    """A value of another Redis type where a document should stand."""
    store.client.delete(key)
    {
        "list": lambda: store.client.rpush(key, "x"),
        "set": lambda: store.client.sadd(key, "x"),
        "hash": lambda: store.client.hset(key, "x", "y"),
        "zset": lambda: store.client.zadd(key, {"x": 1}),
        "stream": lambda: store.client.xadd(key, {"x": "y"}),
        "string": lambda: store.client.set(key, "\x00<x>"),
    }[kind]()


def stored(store: Store, key: str = "trading_settings") -> dict[str, Any]:
    found = json.loads(store.read_raw(key) or b"null")
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_settings_when_changed_keep_the_fields_of_others_and_say_who(
    client: FlaskClient, store: Store, token: TokenFor, method: str
) -> None:
    store.client.set("trading_settings", MINE)
    answer = client.open("/api/settings", method=method, json={"strategy": "BALANCED"}, headers=token())
    assert answer.status_code == 200
    found = stored(store)
    assert found["note"] == {"by": "me"}
    assert (found["strategy"], found["buy_threshold_pct"], found["updated_by"]) == ("BALANCED", 0.07, "api")
    assert found["enabled"] is (method == "PATCH")  # a whole document without the switch means OFF
    assert answer.headers["ETag"] == f'"{version_of(store.read_raw("trading_settings"))}"'
    entry = store.client.xrevrange("audit", count=1)[0][1]
    assert (entry[b"who"], entry[b"key"]) == (b"token:test", b"trading_settings")


def test_risk_when_put_without_the_stop_flag_keeps_the_flag_in_force(
    client: FlaskClient, store: Store, token: TokenFor
) -> None:
    store.put_json("risk_settings", {"emergency_stop_active": True, "max_trades_per_run": 9})
    assert client.put("/api/risk", json={"max_trades_per_run": 2}, headers=token()).status_code == 200
    assert stored(store, "risk_settings")["emergency_stop_active"] is True
    assert stored(store, "risk_settings")["max_trades_per_run"] == 2


@pytest.mark.parametrize("path", ["/api/settings", "/api/risk"])
def test_document_when_if_match_names_an_old_version_is_412_and_nothing_is_written(
    client: FlaskClient, store: Store, token: TokenFor, path: str
) -> None:
    both = token()
    old = client.get(path, headers=both).headers["ETag"]
    change: dict[str, Any] = {"note": 1}
    first = client.patch(path, json=change, headers=both | {"If-Match": old})
    assert first.status_code == 200
    key = "trading_settings" if path == "/api/settings" else "risk_settings"
    before = store.read_raw(key)
    assert_error(client.put(path, json=change, headers=both | {"If-Match": old}), 412, "version_conflict")
    assert store.read_raw(key) == before
    assert client.patch(path, json=change, headers=both | {"If-Match": first.headers["ETag"]}).status_code == 200
    assert client.patch(path, json=change, headers=both | {"If-Match": "*"}).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/api/settings", b'{"enabled": "true"}', "enabled"),
        ("/api/settings", b'{"enabled": 1}', "enabled"),
        ("/api/settings", b'{"enabled": false, "enabled": true}', "enabled"),
        ("/api/settings", b'{"buy_threshold_pct": NaN}', "buy_threshold_pct"),
        ("/api/settings", b'{"buy_threshold_pct": 1e400}', "buy_threshold_pct"),
        ("/api/settings", b'{"buy_threshold_pct": 0}', "buy_threshold_pct"),
        ("/api/settings", b'{"max_position_per_trade": 1.5}', "max_position_per_trade"),
        ("/api/settings", b'{"strategy": "YOLO"}', "strategy"),
        ("/api/settings", b'{"note": "\\ud800"}', "document"),
        ("/api/settings", b'{"\\ud800": 1, "\\ud800": 2}', "?"),
        ("/api/settings", b"", "document"),
        ("/api/settings", b"[]", "document"),
        ("/api/settings", b"[" * 50_000, "document"),
        ("/api/settings", b'{"note": "' + b"a" * 70_000 + b'"}', "document"),
        ("/api/risk", b'{"daily_notional_cap": -1}', "daily_notional_cap"),
        ("/api/risk", b'{"emergency_stop_active": "false"}', "emergency_stop_active"),
        ("/api/risk", b'{"on_stop": "nothing"}', "on_stop"),
        ("/api/risk", b'{"max_trades_per_run": ' + b"9" * 4000 + b"}", "max_trades_per_run"),
    ],
)
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_value_when_it_is_bad_is_400_with_its_field_and_nothing_is_written(
    client: FlaskClient, store: Store, token: TokenFor, method: str, path: str, body: bytes, param: str
) -> None:
    store.client.set("trading_settings", MINE)
    assert_error(client.open(path, method=method, data=body, headers=token()), 400, "invalid_document", param)
    assert store.read_raw("trading_settings") == MINE
    assert store.read_raw("risk_settings") is None


def test_settings_when_unreadable_are_shown_off_with_the_reason_and_left_alone(
    client: FlaskClient, store: Store, token: TokenFor
) -> None:
    store.client.set("trading_settings", b'{"enabled": "true"}')
    shown = client.get("/api/settings", headers=token("read")).json
    assert shown["enabled"] is False
    assert "enabled" in shown["error"]
    assert store.read_raw("trading_settings") == b'{"enabled": "true"}'


@pytest.mark.parametrize("kind", WRONG_TYPES)
def test_settings_when_the_key_has_another_type_are_400_on_change_and_left_alone(
    client: FlaskClient, store: Store, token: TokenFor, kind: str
) -> None:
    put_type(store, "trading_settings", kind)
    assert client.get("/api/settings", headers=token()).json["enabled"] is False
    answer = client.patch("/api/settings", json={"enabled": True}, headers=token())
    assert_error(answer, 400, "invalid_document", "document")
    assert store.client.type("trading_settings").decode() == kind


def noted(store: Store) -> int:
    """How many entries of ``audit`` are about the switch."""
    rows: Any = store.client.xrange("audit")
    return sum(fields[b"key"] == b"trading_settings" for _, fields in rows)


@pytest.mark.parametrize("raw", [None, MINE, *MANGLED.values()], ids=["missing", "good", *MANGLED])
def test_stop_when_the_document_is_in_any_state_leaves_a_readable_one_that_is_off(
    client: FlaskClient, store: Store, token: TokenFor, raw: bytes | None
) -> None:
    if raw is not None:
        store.client.set("trading_settings", raw)
    answer = client.post("/api/stop", headers=token("stop"))
    assert (answer.status_code, answer.json["stopped"]) == (202, True)
    assert stored(store)["enabled"] is False
    assert client.get("/api/settings", headers=token()).json["error"] is None
    assert noted(store) == 1


@pytest.mark.parametrize("kind", WRONG_TYPES)
def test_stop_when_the_key_has_another_type_replaces_it(
    client: FlaskClient, store: Store, token: TokenFor, kind: str
) -> None:
    put_type(store, "trading_settings", kind)
    assert client.post("/api/stop", headers=token("stop")).status_code == 202
    assert stored(store)["enabled"] is False
    assert noted(store) == 1


def test_change_when_the_audit_is_mangled_is_refused_whole_but_the_stop_still_stops(
    client: FlaskClient, store: Store, token: TokenFor
) -> None:
    store.client.set("trading_settings", MINE)
    put_type(store, "audit", "string")
    assert_error(client.patch("/api/settings", json={"strategy": "BALANCED"}, headers=token()), 503, "redis_refused")
    assert store.read_raw("trading_settings") == MINE
    assert client.post("/api/stop", headers=token("stop")).status_code == 202
    assert (stored(store)["enabled"], stored(store)["note"], stored(store)["buy_threshold_pct"]) == (
        False,
        {"by": "me"},
        0.07,
    )


def test_stop_when_redis_is_full_removes_the_document_which_means_off(
    client: FlaskClient, store: Store, token: TokenFor, redis_server: RedisServer
) -> None:
    mine = token("stop", "read", "control")
    store.client.set("trading_settings", MINE)
    try:
        store.client.config_set("maxmemory", "1")
        assert_error(client.patch("/api/settings", json={"enabled": True}, headers=mine), 503, "redis_refused")
        assert client.post("/api/stop", headers=mine).status_code == 202
    finally:
        store.client.config_set("maxmemory", "256mb")
    assert store.read_raw("trading_settings") is None
    assert client.get("/api/settings", headers=mine).json["enabled"] is False


def test_stop_when_sent_as_a_plain_form_goes_back_to_the_page(operator: Browser, store: Store) -> None:
    store.client.set("trading_settings", MINE)
    answer = operator.post("/api/stop")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert stored(store)["enabled"] is False
    assert stored(store)["updated_by"] == "web"
    assert "Stop requested" in operator.get("/").text


def test_stop_when_the_session_has_ended_leads_to_sign_in_and_back_to_the_overview(
    operator: Browser, store: Store
) -> None:
    form = {"csrf_token": operator.token("/")}
    store.client.delete(*store.client.keys("web:session:*"))
    answer = operator.client.post("/api/stop", data=form, headers=HTML)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/signin?next=/")


@pytest.mark.parametrize("body", [None, {}, {"confirm": False}, {"confirm": "true"}, {"confirm": 1}])
def test_start_when_not_confirmed_states_the_terms_and_starts_nothing(
    client: FlaskClient, store: Store, token: TokenFor, body: dict[str, Any] | None
) -> None:
    answer = client.post("/api/start", json=body, headers=token()) if body is not None else None
    answer = answer or client.post("/api/start", headers=token())
    assert answer.status_code == 409
    assert answer.json["error"]["code"] == "confirmation_needed"
    assert answer.json["mode"] == "simulated"
    assert answer.json["strategy"] == "CONSERVATIVE"
    assert answer.json["limits"]["daily_notional_cap"] == 50000
    assert store.read_raw("trading_settings") is None


def test_start_when_confirmed_clears_the_flag_and_turns_the_switch_on(
    client: FlaskClient, store: Store, token: TokenFor
) -> None:
    store.put_json("risk_settings", {"emergency_stop_active": True, "max_trades_per_run": 2, "note": 1})
    assert client.post("/api/start", json={"confirm": True}, headers=token("control")).status_code == 202
    assert stored(store)["enabled"] is True
    risk = stored(store, "risk_settings")
    assert risk == {"emergency_stop_active": False, "max_trades_per_run": 2, "note": 1}


@pytest.mark.parametrize("kind", WRONG_TYPES)
def test_start_when_the_limits_cannot_be_read_is_refused(
    client: FlaskClient, store: Store, token: TokenFor, kind: str
) -> None:
    put_type(store, "risk_settings", kind)
    assert_error(
        client.post("/api/start", json={"confirm": True}, headers=token()), 400, "invalid_document", "document"
    )
    assert store.read_raw("trading_settings") is None
