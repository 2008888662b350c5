"""The least that a Flask route over the same reads can cost: no sign-in, no headers, no judgement."""

from __future__ import annotations

import os

from flask import Flask, Response

from shared.store import connect

KEYS = ("trading_status", "system_status", "stop_report", "stop_latch", "epoch_ack:default")


def app() -> Flask:
    """For gunicorn, like the real one."""
    bare, client = Flask(__name__), connect(os.environ["REDIS_URL"])

    @bare.get("/api/status")
    def status() -> Response:
        with client.pipeline(transaction=False) as pipe:
            for key in KEYS:
                pipe.get(key)
            return Response(b"\n".join(v or b"" for v in pipe.execute()), mimetype="application/json")

    return bare
