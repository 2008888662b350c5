"""Models through the API: an upload is stored and judged by a job, and nothing uses what has not been judged."""

from __future__ import annotations

import io
import json

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared.keys import MODEL_TEXT_BYTES
from shared.store import Store
from tests.integration.web.conftest import TokenFor
from tests.integration.web.test_api import assert_error

TEXT = b"tree\nversion=v4\n"


def upload(client: FlaskClient, headers: dict[str, str], raw: bytes = TEXT, **fields: str) -> TestResponse:
    form = {"symbol": "BTCUSDT", **fields, "file": (io.BytesIO(raw), "model.txt")}
    return client.post("/api/models", data=form, headers=headers, content_type="multipart/form-data")


def judged(store: Store, model_id: int, **fields: object) -> None:
    """What validation would have written."""
    key = store.keys.model(model_id)
    document = json.loads(store.read_raw(key) or b"{}")
    store.put_json(key, document | {"status": "valid", "feature_version": 1, "objective": "binary"} | fields)


def test_upload_when_sent_is_stored_unused_and_a_job_is_to_judge_it(
    client: FlaskClient, store: Store, token: TokenFor
) -> None:
    answer = upload(client, token(), name="first")
    assert (answer.status_code, answer.headers["Location"]) == (201, "/api/models/1")
    found = answer.get_json()
    assert (found["status"], found["name"], found["symbol"], found["size"]) == (
        "uploaded",
        "first",
        "BTCUSDT",
        len(TEXT),
    )
    assert store.client.get("model:1:text") == TEXT
    assert store.client.exists(f"rq:job:{found['job']}")
    listed = client.get("/api/models?symbol=BTCUSDT", headers=token("read")).get_json()
    assert [m["id"] for m in listed["models"]] == [1]
    assert client.get("/api/models?symbol=OTHER", headers=token("read")).get_json()["total"] == 0


def test_upload_when_nobody_will_judge_it_says_what_to_do(client: FlaskClient, store: Store, token: TokenFor) -> None:
    found = upload(client, token()).get_json()
    assert "no jobs worker runs" in found["hint"]
    assert "sixbot model validate 1" in found["hint"]
    store.put_json(store.keys.jobs_standby, {"waiting": 0}, ttl_seconds=10)
    assert upload(client, token()).get_json()["hint"] is None
    store.client.delete(store.keys.jobs_standby)
    store.put_json(store.keys.heartbeat("jobs", "here"), {"worker": "jobs"}, ttl_seconds=10)
    assert upload(client, token()).get_json()["hint"] is None


def test_upload_when_larger_than_other_bodies_is_taken_and_others_are_not(
    client: FlaskClient, store: Store, token: TokenFor
) -> None:
    large = TEXT + b"#" * 300_000
    assert upload(client, token(), large).status_code == 201
    assert store.client.strlen("model:1:text") == len(large)
    assert client.post("/api/bots", data=large, headers=token()).status_code == 413


@pytest.mark.parametrize(
    ("fields", "param"), [({"name": "<b>x</b>"}, "name"), ({"symbol": "a b"}, "symbol"), ({"name": "a\x1bb"}, "name")]
)
def test_upload_when_its_name_is_hostile_is_refused_by_field(
    client: FlaskClient, store: Store, token: TokenFor, fields: dict[str, str], param: str
) -> None:
    assert_error(upload(client, token(), **fields), 400, "invalid_model", param)
    assert not store.client.exists("models")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
def test_upload_when_the_text_is_the_body_is_taken_as_it_is(
    client: FlaskClient, store: Store, token: TokenFor, kind: str | None
) -> None:
    answer = client.post("/api/models?name=bare&symbol=BTC/USD", data=TEXT, headers=token(), content_type=kind)
    assert answer.status_code == 201
    found = answer.get_json()
    assert (found["name"], found["symbol"], found["size"]) == ("bare", "BTC/USD", len(TEXT))
    assert store.client.get("model:1:text") == TEXT
    assert_error(client.post("/api/models", data=b"", headers=token(), content_type=kind), 400, "invalid_model", "file")


def test_upload_when_larger_than_any_model_is_read_to_its_end_and_refused(client: FlaskClient, token: TokenFor) -> None:
    """A client that sends before it reads saw a broken pipe, not the reason."""
    body = io.BytesIO(b"#" * (MODEL_TEXT_BYTES + 10**6))
    answer = client.post("/api/models", input_stream=body, content_length=MODEL_TEXT_BYTES + 10**6, headers=token())
    assert_error(answer, 413, "request_entity_too_large", "file")
    assert body.read() == b""


def test_upload_when_only_its_file_names_it_has_that_files_name(client: FlaskClient, token: TokenFor) -> None:
    data = {"file": (io.BytesIO(TEXT), "../../etc/model.txt")}
    answer = client.post("/api/models", data=data, headers=token(), content_type="multipart/form-data")
    assert answer.get_json()["name"] == "model.txt"


def test_upload_when_there_is_no_file_says_what_is_missing(client: FlaskClient, token: TokenFor) -> None:
    answer = client.post("/api/models", data={"name": "x"}, headers=token(), content_type="multipart/form-data")
    assert_error(answer, 400, "invalid_model", "file")


def test_model_when_it_is_not_valid_cannot_be_assigned_and_when_it_is_can(
    client: FlaskClient, store: Store, token: TokenFor
) -> None:
    upload(client, token())
    client.post("/api/bots", json={"bot_id": 7, "model_id": 9}, headers=token())
    assert_error(client.put("/api/models/1/assign/7", headers=token()), 409, "model_conflict")
    judged(store, 1, feature_version="bars-1")
    assert_error(client.put("/api/models/1/assign/7", headers=token()), 409, "model_conflict", "feature_version")
    judged(store, 1)
    assert client.put("/api/models/1/assign/7", headers=token()).status_code == 200
    assert json.loads(store.client.get("bot:7") or b"")["model_id"] == 1
    assert client.get("/api/models/1", headers=token("read")).get_json()["assigned_to"] == [7]


def test_model_when_a_bot_uses_it_cannot_be_deleted_and_else_is_gone(
    client: FlaskClient, store: Store, token: TokenFor
) -> None:
    upload(client, token())
    client.post("/api/bots", json={"bot_id": 7, "model_id": 1}, headers=token())
    refused = client.delete("/api/models/1", headers=token())
    assert_error(refused, 409, "model_conflict")
    assert "bot 7" in refused.get_json()["error"]["message"]
    client.delete("/api/bots/7", headers=token())
    assert client.delete("/api/models/1", headers=token()).get_json() == {"deleted": 1}
    assert not store.client.exists("model:1", "model:1:text")
    assert_error(client.get("/api/models/1", headers=token()), 404, "no_such_model")


def test_model_when_renamed_has_the_new_name(client: FlaskClient, token: TokenFor) -> None:
    upload(client, token())
    assert client.put("/api/models/1", json={"name": "better"}, headers=token()).get_json()["name"] == "better"
    assert_error(client.put("/api/models/1", json={"name": 3}, headers=token()), 400, "invalid_model", "name")


def test_models_when_the_token_may_only_read_cannot_be_changed(client: FlaskClient, token: TokenFor) -> None:
    assert_error(upload(client, token("read")), 403, "not_allowed")
    assert_error(client.delete("/api/models/1", headers=token("read")), 403, "not_allowed")
