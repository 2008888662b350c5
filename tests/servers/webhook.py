"""A receiver of webhooks that checks the signature as the documentation tells its users to.

``received`` holds what was signed well, ``refused`` what was not.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from typing import Any

from aiohttp import web

from tests.servers.base import ProtocolServer

SECRET = "webhook-secret"
PATH = "/hook"
TOLERANCE_SECONDS = 300


class WebhookServer(ProtocolServer):
    """One address."""

    def __init__(self) -> None:
        super().__init__()
        self.address = self.url + PATH
        self.received: list[dict[str, Any]] = []
        self.refused: list[str] = []
        self.pause_seconds = 0.0

    async def reply(self, request: web.Request, body: bytes) -> web.StreamResponse:
        stamp, told = request.headers["X-Sixbot-Timestamp"], request.headers["X-Sixbot-Signature"]
        expected = "sha256=" + hmac.new(SECRET.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(told, expected) or abs(time.time() - int(stamp)) > TOLERANCE_SECONDS:
            self.refused.append(told)
            return web.Response(status=401)
        await asyncio.sleep(self.pause_seconds)
        found = json.loads(body)
        assert request.headers["Idempotency-Key"] == found["id"]
        self.received.append(found)
        return web.Response(status=204)
