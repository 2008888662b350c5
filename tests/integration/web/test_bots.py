"""Bots through the API: made, read, changed, judged and removed, with nothing of others lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from shared.documents import version_of
from shared.store import Store
from tests.integration.web.conftest import TokenFor
from tests.integration.web.test_api import assert_error
from tests.unit.test_documents import MANGLED

BOT = {"name": "scalper", "symbol": "BTCUSDT", "capital_per_trade": 100, "note": {"by": "me"}}


def stored(store: Store, bot_id: int) -> dict[str, Any]:
    found = json.loads(store.read_raw(store.keys.bot(bot_id)) or b"null")
    assert isinstance(found, dict)
    return found


def test_bots_when_there_is_none_yet_list_the_cycle_bot(client: FlaskClient, token: TokenFor) -> None:
    answer = client.get("/api/bots", headers=token()).get_json()
    assert answer["total"] == 1
    assert (answer["bots"][0]["bot_id"], answer["bots"][0]["kind"], answer["bots"][0]["status"]) == (1, "cycle", None)


def test_bot_when_made_has_the_next_number_the_defaults_and_is_off(
    client: FlaskClient, store: Store, token: TokenFor
) -> None:
    answer = client.post("/api/bots", json=BOT, headers=token())
    assert (answer.status_code, answer.headers["Location"]) == (201, "/api/bots/2")
    found = stored(store, 2)
    assert (found["enabled"], found["kind"], found["holding_time"], found["note"]) == (
        False,
        "stream",
        2000,
        {"by": "me"},
    )
    assert store.client.smembers("bots") == {b"2"}
    assert answer.headers["ETag"] == f'"{version_of(store.read_raw("bot:2"))}"'
    entry = store.client.xrevrange("audit", count=1)[0][1]
    assert (entry[b"who"], entry[b"from"], entry[b"key"]) == (b"token:test", b"api", b"bot:2")


def test_bot_when_it_exists_is_not_made_again(client: FlaskClient, token: TokenFor) -> None:
    client.post("/api/bots", json={**BOT, "bot_id": 7}, headers=token())
    assert_error(client.post("/api/bots", json={**BOT, "bot_id": 7}, headers=token()), 409, "bot_exists", "bot_id")
    assert_error(client.post("/api/bots", json={"bot_id": 1}, headers=token()), 409, "bot_exists", "bot_id")


def test_bot_when_patched_keeps_the_rest_and_when_put_takes_the_defaults(
    client: FlaskClient, store: Store, token: TokenFor
) -> None:
    client.post("/api/bots", json={**BOT, "bot_id": 7, "enabled": True}, headers=token())
    client.patch("/api/bots/7/config", json={"max_positions": 5}, headers=token())
    found = stored(store, 7)
    assert (found["max_positions"], found["capital_per_trade"], found["enabled"]) == (5, 100, True)
    client.put("/api/bots/7", json={"symbol": "ETHUSDT"}, headers=token())
    found = stored(store, 7)
    assert (found["symbol"], found["capital_per_trade"], found["enabled"]) == ("ETHUSDT", 200, False)
    assert found["note"] == {"by": "me"}


@pytest.mark.parametrize(
    ("field", "value"), [("enabled", "true"), ("confidence_threshold", 2), ("max_positions", 0), ("symbol", "<b>")]
)
def test_bot_when_a_field_is_wrong_is_refused_by_name_and_nothing_is_written(
    client: FlaskClient, store: Store, token: TokenFor, field: str, value: object
) -> None:
    client.post("/api/bots", json={**BOT, "bot_id": 7}, headers=token())
    before = store.read_raw("bot:7")
    assert_error(
        client.patch("/api/bots/7/config", json={field: value}, headers=token()), 400, "invalid_document", field
    )
    assert store.read_raw("bot:7") == before
    answer = client.post("/api/bots/7/config/validate", json={field: value}, headers=token()).get_json()
    assert (answer["valid"], answer["error"]["param"]) == (False, field)


def test_validate_when_the_document_is_good_says_what_would_be_in_force(
    client: FlaskClient, store: Store, token: TokenFor
) -> None:
    answer = client.post("/api/bots/9/config/validate", json={"max_positions": 3}, headers=token("read")).get_json()
    assert (answer["valid"], answer["config"]["max_positions"], answer["config"]["bot_id"]) == (True, 3, 9)
    assert not store.client.exists("bot:9")


def test_bot_when_changed_by_someone_else_meanwhile_is_a_conflict(
    client: FlaskClient, store: Store, token: TokenFor
) -> None:
    seen = client.post("/api/bots", json={**BOT, "bot_id": 7}, headers=token()).headers["ETag"]
    store.client.set("bot:7", '{"bot_id": 7, "max_positions": 9}')
    lost = client.patch("/api/bots/7/config", json={"max_positions": 1}, headers=token() | {"If-Match": seen})
    assert_error(lost, 412, "version_conflict")
    assert stored(store, 7)["max_positions"] == 9


def test_bot_when_read_has_the_etag_that_a_change_or_removal_wants(
    client: FlaskClient, store: Store, token: TokenFor
) -> None:
    """The usual round: GET, then PUT or DELETE with the ETag of that GET, whatever the trader wrote meanwhile."""
    client.post("/api/bots", json={**BOT, "bot_id": 7}, headers=token())
    seen = client.get("/api/bots/7", headers=token()).headers["ETag"]
    store.put_json("bot:7:status", {"state": "running"})
    again = client.get("/api/bots/7", headers=token() | {"If-None-Match": seen})
    assert (again.status_code, again.get_json()["status"]) == (200, {"state": "running"})
    changed = client.put("/api/bots/7", json=BOT, headers=token() | {"If-Match": seen})
    assert changed.status_code == 200
    assert_error(client.delete("/api/bots/7", headers=token() | {"If-Match": seen}), 412, "version_conflict")
    assert stored(store, 7)["symbol"] == "BTCUSDT"
    gone = client.delete("/api/bots/7", headers=token() | {"If-Match": changed.headers["ETag"]})
    assert (gone.status_code, store.client.exists("bot:7")) == (200, 0)


def test_bots_when_something_was_written_for_none_name_it(client: FlaskClient, store: Store, token: TokenFor) -> None:
    store.client.set("bot:9", "{}")
    store.client.sadd("bots", "x")
    answer = client.get("/api/bots", headers=token()).get_json()
    assert [row["bot_id"] for row in answer["bots"]] == [1]
    assert "SADD bots 9" in answer["strays"][0]
    assert "'x'" in answer["strays"][1]


@pytest.mark.parametrize("raw", [raw for raw in MANGLED.values() if b"_p" not in raw and b"strategy" not in raw])
def test_bots_when_a_document_is_mangled_say_why_and_leave_it(
    client: FlaskClient, store: Store, token: TokenFor, raw: bytes
) -> None:
    store.client.sadd("bots", 7)
    store.client.set("bot:7", raw)
    answer = client.get("/api/bots", headers=token())
    assert answer.status_code == 200
    row = answer.get_json()["bots"][1]
    assert row["error"]
    assert row["enabled"] is False
    assert store.read_raw("bot:7") == raw


def test_bot_when_deleted_is_gone_and_the_cycle_bot_cannot_be(
    client: FlaskClient, store: Store, token: TokenFor
) -> None:
    client.post("/api/bots", json={**BOT, "bot_id": 7}, headers=token())
    assert client.delete("/api/bots/7", headers=token()).get_json() == {"deleted": 7}
    assert not store.client.exists("bot:7", "bots")
    assert_error(client.get("/api/bots/7", headers=token()), 404, "no_such_bot", "bot_id")
    assert_error(client.delete("/api/bots/1", headers=token()), 409, "cycle_bot", "bot_id")


def test_orders_when_there_are_several_bots_are_those_of_the_bot(
    client: FlaskClient, store: Store, token: TokenFor
) -> None:
    client.post("/api/bots", json={**BOT, "bot_id": 7}, headers=token())
    for name, bot in (("a", "1"), ("b", "7")):
        store.client.hset(f"order:{name}", mapping={"client_order_id": name, "bot_id": bot})
        store.client.sadd("orders:open", name)
        store.client.zadd("orders:history", {name: 1})
    for path, field in (("/api/bots/7/orders", "total"), ("/api/bots/7/orders/history", "next_cursor")):
        answer = client.get(path, headers=token("read")).get_json()
        assert [o["client_order_id"] for o in answer["orders"]] == ["b"]
        assert field in answer


def test_bots_when_the_token_may_only_read_cannot_be_changed(client: FlaskClient, token: TokenFor) -> None:
    for method, path in (("POST", "/api/bots"), ("DELETE", "/api/bots/2"), ("PUT", "/api/bots/1/config")):
        assert_error(client.open(path, method=method, json={}, headers=token("read")), 403, "not_allowed")
