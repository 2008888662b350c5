"""The API's description, made from its routes: what is not there cannot be called, what can be called is there."""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, Response, current_app

from shared import __version__
from web.api.answers import tagged_json

openapi = Blueprint("openapi", __name__)

_ERROR = {"$ref": "#/components/schemas/Error"}


@openapi.get("/openapi.json")
def describe() -> Response:
    """This description."""
    return tagged_json(specification())


def specification() -> dict[str, Any]:
    """OpenAPI 3.1 of every route under /api."""
    paths: dict[str, Any] = {}
    for rule in current_app.url_map.iter_rules():
        if not rule.rule.startswith("/api/"):
            continue
        view = current_app.view_functions[rule.endpoint]
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            paths.setdefault(path, {})[method.lower()] = _operation(rule.endpoint, method, view)
    return {
        "openapi": "3.1.0",
        "info": {"title": "sixbot", "version": __version__},
        "paths": dict(sorted(paths.items())),
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "sixbot"},
            },
            "schemas": {"Error": _error_schema()},
        },
    }


def _operation(endpoint: str, method: str, view: Any) -> dict[str, Any]:
    scopes = list(getattr(view, "scopes", ()))
    failures = {"400": "bad request", "401": "not signed in", "403": "not allowed", "503": "Redis does not answer"}
    responses: dict[str, Any] = {"200" if method == "GET" else "2XX": {"description": "as asked"}}
    for status, why in failures.items():
        responses[status] = {"description": why, "content": {"application/json": {"schema": _ERROR}}}
    return {
        "operationId": f"{endpoint}.{method.lower()}",
        "summary": (view.__doc__ or "").strip().splitlines()[0] if view.__doc__ else endpoint,
        "security": [{"token": scopes}, {"session": scopes}] if scopes else [],
        "responses": responses,
    }


def _error_schema() -> dict[str, Any]:
    text, maybe = {"type": "string"}, {"type": ["string", "null"]}
    fields = {"type": text, "code": text, "message": text, "param": maybe, "doc_url": text}
    inner = {"type": "object", "properties": fields, "required": list(fields)}
    return {"type": "object", "properties": {"error": inner}, "required": ["error"]}
