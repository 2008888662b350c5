"""Whatever stands in Redis, a page or an answer is never a fault of ours, and nothing in it ever runs."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from shared.access import Access
from shared.keys import KEYS
from shared.store import Store
from tests.integration.web.conftest import Browser, TokenFor
from tests.integration.web.test_api import GETS
from tests.integration.web.test_settings import WRONG_TYPES, put_type
from tests.unit.test_documents import MANGLED

PAGES = ("/", "/live", "/start")
DOCUMENTS = (
    "trading_settings",
    "risk_settings",
    "trading_status",
    "system_status",
    "stop_report",
    "stop_latch",
    "stats",
    "portfolio_positions",
    "trades_log",
    "epoch_ack:default",
)
INDEXES = ("equity", "audit", "orders:open", "orders:history", "positions:closed")

ROW_FIELDS = [
    *("time", "ticker", "side", "qty", "price", "total_value", "reason", "status", "avg_entry_price", "market_value"),
    *("unrealized_pl", "name", "state", "memory_mb", "started_at", "last_activity"),
]
TOP_FIELDS = [
    *("active", "state", "stop_reason", "mode", "last_error", "trades_today", "total_volume", "next_run", "applied"),
    *("last_heartbeat", "worker_running", "components", "workers", "accounts", "orders_canceled", "orders_found"),
    *("orders_unconfirmed", "positions_open", "finished_at", "requested_at", "reason", "at", "today_pnl", "total_pnl"),
    *("win_rate", "wins", "loss_trades", "by_day", "by_ticker", "enabled", "strategy"),
]
STRANGE: dict[str, Any] = {
    "null": None,
    "true": True,
    "text": "x",
    "empty_text": "",
    "number": -1.5,
    "vast": 10**4000,
    "list": [1, "x", None, {"name": []}],
    "object": {"a": {"b": None}, "x": "y"},
    "early": "0001-01-01T00:00:00+23:59",
    "late": "9999-12-31T23:59:59-23:59",
    "future": "2999-01-01T00:00:00Z",
    "script": "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>",
    "controls": "\x00\x07\x1b[31m\u202e\ud7ff\ufffe",
}


def assert_served(app: Flask, browser: Browser, headers: dict[str, str]) -> str:
    """Every page and every read answers 200 or 304; returns the pages' text."""
    client = app.test_client()
    for path in GETS:
        answer = client.get(path, headers=headers)
        assert answer.status_code == 200, (path, answer.text)
        json.loads(answer.data)
    texts = []
    for path in PAGES:
        page = browser.get(path)
        assert page.status_code == 200, (path, page.text)
        texts.append(page.text)
    return "".join(texts)


@pytest.mark.parametrize("raw", MANGLED.values(), ids=MANGLED.keys())
def test_pages_and_reads_when_every_document_is_mangled_are_served(
    app: Flask, store: Store, operator: Browser, token: TokenFor, raw: bytes
) -> None:
    for key in DOCUMENTS:
        store.client.set(key, raw)
    shown = assert_served(app, operator, token("read"))
    assert "cannot be read" in shown
    assert "STOPPED" in shown
    assert all(store.client.get(key) == raw for key in DOCUMENTS)


@pytest.mark.parametrize("kind", ["string", *WRONG_TYPES])
def test_pages_and_reads_when_every_key_has_another_type_are_served(
    app: Flask, store: Store, operator: Browser, token: TokenFor, kind: str
) -> None:
    headers = token("read")
    for key in (*DOCUMENTS, *INDEXES):
        put_type(store, key, kind)
    assert_served(app, operator, headers)


@pytest.mark.parametrize("kind", ["string", "list"])
def test_pages_and_reads_when_the_hashes_of_orders_are_mangled_are_served(
    app: Flask, store: Store, operator: Browser, token: TokenFor, kind: str
) -> None:
    for index in ("orders:history", "positions:closed"):
        store.client.zadd(index, {"good": 1, "bad": 2, b"\xff": 3, "gone": 4})
    store.client.sadd("orders:open", "good", "bad", b"\xff")
    for prefix in ("order:", "position:"):
        store.client.hset(f"{prefix}good", mapping={b"ticker": b"\xff<b>"})
        put_type(store, f"{prefix}bad", kind)
    headers = token("read")
    assert_served(app, operator, headers)
    assert len(app.test_client().get("/api/orders/history", headers=headers).json["orders"]) == 1


@pytest.mark.parametrize("value", STRANGE.values(), ids=STRANGE.keys())
def test_pages_and_reads_when_every_field_holds_something_strange_are_served(
    app: Flask, store: Store, operator: Browser, token: TokenFor, value: Any
) -> None:
    row = dict.fromkeys(ROW_FIELDS, value)
    rows = [row, value, {}]
    for key in DOCUMENTS[2:]:
        whole = dict.fromkeys(TOP_FIELDS, value)
        store.client.set(key, json.dumps(whole))
    assert_served(app, operator, token("read"))
    store.client.set("portfolio_positions", json.dumps(rows))
    store.client.set("trades_log", json.dumps(rows))
    store.client.set("system_status", json.dumps({"workers": [{**row, "name": "trading", "state": "live"}, *rows]}))
    store.client.set(
        "stop_report", json.dumps({"state": "NOT_PROVEN", "accounts": {"a": value, "b": {"unread": value}}})
    )
    store.client.set("stats", json.dumps({"by_day": {"x": value, "y": row}, "today_pnl": 1}))
    for number in range(3):
        store.client.xadd("equity", {"time": f"2026-01-0{number + 1}T00:00:00Z", "equity": str(value)[:4000]})
        store.client.xadd("equity", {"time": str(value)[:4000], "equity": str(number)})
    store.client.xadd("audit", {b"\xff": b"\xff", "who": str(value)[:4000]})
    shown = assert_served(app, operator, token("read"))
    assert "<script>alert" not in shown
    assert "<img" not in shown
    assert not re.search("[\\x00\\x07\\x1b\\u202e]", shown)


def test_page_when_workers_report_from_the_future_does_not_call_the_link_connected(
    store: Store, operator: Browser
) -> None:
    store.put_json("system_status", {"worker_running": True, "last_heartbeat": "2999-01-01T00:00:00Z"})
    assert 'data-link="STALE"' in operator.get("/").text


@pytest.mark.parametrize("kind", ["string", "list"])
def test_access_keys_when_mangled_let_nobody_in(
    app: Flask, client: FlaskClient, store: Store, access: Access, operator: Browser, token: TokenFor, kind: str
) -> None:
    mine = token()
    for key in list(store.client.scan_iter(match="web:*")):
        put_type(store, key.decode(), kind)
    assert client.get("/api/status", headers=mine).status_code == 503
    assert operator.get("/").status_code == 503
    for key in list(store.client.scan_iter(match="web:*")):
        store.client.delete(key)
        store.client.hset(key, mapping={b"\xff": b"\xff", b"role": b"\xff", b"user": b"\xff", b"scopes": b"\xff read"})
    assert client.get("/api/status", headers=mine).status_code == 200
    assert operator.get("/").status_code == 303
    assert len(access.users()) == 1


def test_documents_under_test_when_compared_with_the_contract_are_all_declared() -> None:
    declared = {key.name for key in KEYS} | {"epoch_ack:default"}
    assert set(DOCUMENTS) | set(INDEXES) <= declared
