"""Models: uploaded, looked at, assigned, removed. Nothing here loads one; a job judges what was uploaded."""

from __future__ import annotations

from contextlib import suppress

from flask import Blueprint, Response, request
from werkzeug.exceptions import RequestEntityTooLarge

from shared.errors import ConfigError, StoreError
from shared.jobs import attendance, enqueue, nobody_judges, queue_connection
from shared.keys import MODEL_TEXT_BYTES
from shared.models import ModelRegistry
from web.api.answers import tagged_json
from web.api.control import actor, body
from web.auth.guard import requires, takes_at_most
from web.context import context
from web.errors import ApiError

models = Blueprint("models", __name__)

VALIDATE = "validate_model"
FORM_BYTES = 64 * 1024
"""What a multipart body adds to its file."""
MOST_DISCARDED = 256 * 1024 * 1024


def _registry() -> ModelRegistry:
    return ModelRegistry(context().store, context().clock)


@models.get("/models")
@requires("read")
def list_models() -> Response:
    """Every model without its text; with `symbol` those for it and for any."""
    rows = _registry().listed(request.args.get("symbol"))
    return tagged_json({"models": rows, "total": len(rows)})


@models.post("/models")
@takes_at_most(MODEL_TEXT_BYTES + FORM_BYTES)
@requires("control")
def upload() -> Response:
    """Upload a LightGBM text (multipart: `file`, `symbol`, `name`; or the body, `?symbol=&name=`); a job judges it.

    Nothing uses it before it is judged.
    """
    try:
        raw, name, symbol = _sent()
    except RequestEntityTooLarge:
        _read_to_its_end()
        most = f"must be at most {MODEL_TEXT_BYTES} bytes (got {request.content_length})"
        raise ApiError(413, "request_entity_too_large", f"file: {most}", "file") from None
    document = _registry().upload(raw, name, symbol, actor())
    job = _validate(document["id"])
    response = tagged_json(document | {"job": job, "hint": _hint(document["id"], job)})
    response.status_code = 201
    response.headers["Location"] = f"/api/models/{document['id']}"
    return response


def _sent() -> tuple[bytes, str, str]:
    """A model's text, its name and its symbol, from a form or as they stand."""
    if request.mimetype not in ("multipart/form-data", "application/json"):  # curl calls any body a form
        raw = request.get_data()
        if raw:
            return raw, request.args.get("name") or "model", request.args.get("symbol", "*")
    sent = request.files.get("file")
    if sent is None:
        raise ApiError(400, "invalid_model", "send the model as the multipart field `file`, or as the body", "file")
    name = request.form.get("name") or (sent.filename or "").replace("\\", "/").rpartition("/")[2] or "model"
    try:
        return sent.read(), name, request.form.get("symbol", "*")
    finally:
        sent.close()


def _read_to_its_end() -> None:
    """Most clients read no answer before their whole body has left, and see a broken pipe instead of the reason."""
    body, left = request.environ["wsgi.input"], MOST_DISCARDED
    with suppress(OSError):
        while left > 0 and (piece := body.read(1 << 16)):
            left -= len(piece)


def _validate(model_id: int) -> str | None:
    """Ask for the judgement; without a queue the model stays `uploaded`, and `sixbot model validate ID` does it."""
    try:
        connection = queue_connection(context().config, context().store)
        try:
            return enqueue(connection, VALIDATE, model_id=model_id)
        finally:
            connection.close()
    except (ConfigError, StoreError):
        return None


def _hint(model_id: int, job: str | None) -> str | None:
    """What to do where nobody will judge it; None where somebody will."""
    return nobody_judges(model_id) if job is None or attendance(context().store) == "none" else None


@models.get("/models/<int:model_id>")
@requires("read")
def get_model(model_id: int) -> Response:
    """One model without its text."""
    return tagged_json(_registry().get(model_id))


@models.put("/models/<int:model_id>")
@requires("control")
def rename(model_id: int) -> Response:
    """Rename a model: `name`."""
    name = body().get("name")
    if not isinstance(name, str):
        raise ApiError(400, "invalid_model", f"name: must be text (got {name!r})"[:200], "name")
    return tagged_json(_registry().rename(model_id, name, actor()))


@models.delete("/models/<int:model_id>")
@requires("control")
def delete(model_id: int) -> Response:
    """Remove a model that no bot uses."""
    _registry().delete(model_id, actor())
    return tagged_json({"deleted": model_id})


@models.put("/models/<int:model_id>/assign/<int:bot_id>")
@requires("control")
def assign(model_id: int, bot_id: int) -> Response:
    """Let a bot use a valid model of its feature version from its next prediction on."""
    return tagged_json(_registry().assign(model_id, bot_id, actor()))
