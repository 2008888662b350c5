"""One shape for every error: JSON for programs, a page for people, never a stack trace."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from flask import Flask, Response, jsonify, make_response, render_template, request
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException

from shared.access import AccessError
from shared.control import VersionConflict
from shared.errors import DocumentError, StoreRefused, StoreUnreachable
from shared.model_terms import ModelConflict, ModelError, ModelMissing

DOCS = "/api/openapi.json"
REMEDY = "Redis does not answer. To stop trading now: `sixbot stop` on the server, or create the STOP file."


class ApiError(Exception):
    """An answer that is an error. ``param`` names the field or parameter at fault."""

    def __init__(self, status: int, code: str, message: str, param: str | None = None, **extra: Any) -> None:
        self.status, self.code, self.message, self.param, self.extra = status, code, message, param, extra
        super().__init__(message)


_TYPES = {400: "invalid_request", 401: "authentication", 403: "permission", 404: "not_found", 409: "conflict"}
_MODEL_ERRORS = {ModelMissing: (404, "no_such_model"), ModelConflict: (409, "model_conflict")}
_KEPT_HEADERS = frozenset({"allow", "retry-after", "location"})


def register_errors(app: Flask) -> None:
    """Map every error there is."""
    for kind, translate in _TRANSLATED.items():
        app.register_error_handler(kind, _answering(translate))
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _fault)


def _answering(translate: Callable[[Any], ApiError]) -> Callable[[Exception], Response]:
    return lambda error: _answer(translate(error))


def _model(error: ModelError) -> ApiError:
    status, code = _MODEL_ERRORS.get(type(error), (400, "invalid_model"))
    field, colon, _ = str(error).partition(": ")
    return ApiError(status, code, str(error), field if colon and field.isidentifier() else None)


def _csrf(error: CSRFError) -> ApiError:
    return ApiError(400, "csrf", f"The form is not from this session: reload the page. ({error.description})")


_TRANSLATED: dict[type[Exception], Callable[[Any], ApiError]] = {
    ApiError: lambda error: error,
    DocumentError: lambda error: ApiError(400, "invalid_document", str(error), error.field),
    AccessError: lambda error: ApiError(400, "access", str(error)),
    VersionConflict: lambda error: ApiError(412, "version_conflict", str(error)),
    ModelError: _model,
    StoreUnreachable: lambda _error: ApiError(503, "redis_unreachable", REMEDY),
    StoreRefused: lambda error: ApiError(503, "redis_refused", f"Redis refused: {error}"),
    CSRFError: _csrf,
}
"""Our own errors, and what each is for the one who asked; Flask takes the nearest class."""


def _http(error: HTTPException) -> Response:
    code = error.name.lower().replace(" ", "_")
    response = _answer(ApiError(error.code or 500, code, error.description or error.name))
    for name, value in error.get_headers():
        if name.lower() in _KEPT_HEADERS:
            response.headers[name] = value
    return response


def _fault(_error: Exception) -> Response:
    logging.getLogger("web").exception("request failed: %s", request.path)
    return _answer(ApiError(500, "internal", "Something went wrong here; the log of the web has it."))


def _answer(error: ApiError) -> Response:
    if wants_json():
        response = jsonify(_body(error))
    else:
        response = make_response(render_template("error.html", status=error.status, message=error.message))
    response.status_code = error.status
    if error.status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="sixbot"'
    return response


def _body(error: ApiError) -> dict[str, Any]:
    """The one error shape."""
    kind = _TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request")
    told = {"type": kind, "code": error.code, "message": error.message, "param": error.param, "doc_url": DOCS}
    return {"error": told, **error.extra}


def wants_json() -> bool:
    """Programs get JSON: everything under /api that is not a form of a page, and whoever asks for it."""
    best = request.accept_mimetypes.best_match(["application/json", "text/html"], default="application/json")
    if request.path.startswith("/api"):
        return not (is_form() and best == "text/html")
    return best == "application/json" and request.accept_mimetypes["text/html"] == 0


def is_form() -> bool:
    """Whether a page's form posted this."""
    return request.mimetype in {"application/x-www-form-urlencoded", "multipart/form-data"}
