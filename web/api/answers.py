"""Answers with an ETag, so that a poll that changed nothing costs a 304."""

from __future__ import annotations

import hashlib
from typing import Any

from flask import Response, request

from shared.documents import dump_json

_CONDITIONS = frozenset({"HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH"})


def tagged(body: bytes, etag: str | None = None) -> Response:
    """JSON bytes with their ETag; 304 where the caller has them."""
    response = Response(body, mimetype="application/json")
    response.set_etag(etag or hashlib.sha256(body).hexdigest()[:32])
    response.headers["Cache-Control"] = "no-cache"
    if not _CONDITIONS.isdisjoint(request.environ):
        response.make_conditional(request)  # in place
    return response


def tagged_json(value: Any) -> Response:
    """The same of a value."""
    return tagged(dump_json(value))
