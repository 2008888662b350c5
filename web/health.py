"""Probes without sign-in: ``/livez`` depends on nothing, ``/readyz`` on Redis."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from shared.store import translated_errors
from web.context import context

health = Blueprint("health", __name__)


@health.get("/livez")
def livez() -> Response:
    """The process runs."""
    return jsonify({"status": "ok"})


@health.get("/readyz")
@health.get("/healthz")
def readyz() -> Response:
    """Redis answers; 503 where it does not."""
    with translated_errors():
        context().store.client.ping()
    return jsonify({"status": "ok", "redis": "ok"})
