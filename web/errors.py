"""One shape for every error: JSON for programs, a page for people, never a stack trace."""

from __future__ import annotations

import logging
from typing import Any

from flask import Flask, Response, jsonify, make_response, render_template, request
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException

from shared.access import AccessError
from shared.control import VersionConflict
from shared.errors import DocumentError, StoreRefused, StoreUnreachable
from shared.models import ModelConflict, ModelError, ModelMissing

DOCS = "/api/openapi.json"
REMEDY = "Redis does not answer. To stop trading now: `sixbot stop` on the server, or create the STOP file."


class ApiError(Exception):
    """An answer that is an error. ``param`` names the field or parameter at fault."""

    def __init__(self, status: int, code: str, message: str, param: str | None = None, **extra: Any) -> None:
        self.status, self.code, self.message, self.param, self.extra = status, code, message, param, extra
        super().__init__(message)


_MODEL_ERRORS = {ModelMissing: (404, "no_such_model"), ModelConflict: (409, "model_conflict")}
_TYPES = {400: "invalid_request", 401: "authentication", 403: "permission", 404: "not_found", 409: "conflict"}


def error_body(status: int, code: str, message: str, param: str | None = None, **extra: Any) -> dict[str, Any]:
    """The one error shape."""
    kind = _TYPES.get(status, "api_error" if status >= 500 else "invalid_request")
    return {"error": {"type": kind, "code": code, "message": message, "param": param, "doc_url": DOCS}, **extra}


def register_errors(app: Flask) -> None:
    """Map every error there is."""

    def answer(status: int, code: str, message: str, param: str | None = None, **extra: Any) -> Response:
        if wants_json():
            response = jsonify(error_body(status, code, message, param, **extra))
        else:
            response = make_response(render_template("error.html", status=status, message=message))
        response.status_code = status
        if status == 401:
            response.headers["WWW-Authenticate"] = 'Bearer realm="sixbot"'
        return response

    @app.errorhandler(ApiError)
    def _api(error: ApiError) -> Response:
        return answer(error.status, error.code, error.message, error.param, **error.extra)

    @app.errorhandler(DocumentError)
    def _document(error: DocumentError) -> Response:
        return answer(400, "invalid_document", str(error), error.field)

    @app.errorhandler(AccessError)
    def _access(error: AccessError) -> Response:
        return answer(400, "access", str(error))

    @app.errorhandler(VersionConflict)
    def _conflict(error: VersionConflict) -> Response:
        return answer(412, "version_conflict", str(error))

    @app.errorhandler(ModelError)
    def _model(error: ModelError) -> Response:
        status, code = _MODEL_ERRORS.get(type(error), (400, "invalid_model"))
        field, colon, _ = str(error).partition(": ")
        return answer(status, code, str(error), field if colon and field.isidentifier() else None)

    @app.errorhandler(StoreUnreachable)
    def _away(_error: StoreUnreachable) -> Response:
        return answer(503, "redis_unreachable", REMEDY)

    @app.errorhandler(StoreRefused)
    def _refused(error: StoreRefused) -> Response:
        return answer(503, "redis_refused", f"Redis refused: {error}")

    @app.errorhandler(CSRFError)
    def _csrf(error: CSRFError) -> Response:
        return answer(400, "csrf", f"The form is not from this session: reload the page. ({error.description})")

    @app.errorhandler(HTTPException)
    def _http(error: HTTPException) -> Response:
        status = error.code or 500
        response = answer(status, error.name.lower().replace(" ", "_"), error.description or error.name)
        for name, value in error.get_headers():
            if name.lower() in {"allow", "retry-after", "location"}:
                response.headers[name] = value
        return response

    @app.errorhandler(Exception)
    def _fault(_error: Exception) -> Response:
        logging.getLogger("web").exception("request failed: %s", request.path)
        return answer(500, "internal", "Something went wrong here; the log of the web has it.")


def wants_json() -> bool:
    """Programs get JSON: everything under /api that is not a form of a page, and whoever asks for it."""
    best = request.accept_mimetypes.best_match(["application/json", "text/html"], default="application/json")
    if request.path.startswith("/api"):
        return not (is_form() and best == "text/html")
    return best == "application/json" and request.accept_mimetypes["text/html"] == 0


def is_form() -> bool:
    """Whether a page's form posted this."""
    return request.mimetype in {"application/x-www-form-urlencoded", "multipart/form-data"}
