"""The Telegram Bot API on loopback: ``sent`` is what arrived in which chat, ``say`` is what a person writes.

It judges as the real one does: HTML must parse, the text has 1 to 4096 characters (UTF-16 units) after parsing.
"""

from __future__ import annotations

import asyncio
import html
import json
import re
import time
from typing import Any

from aiohttp import web

from tests.servers.base import ProtocolServer

TOKEN = "123456:test-token"
TOO_MANY = (429, json.dumps({"ok": False, "error_code": 429, "description": "Too Many Requests: retry after 2"}))
TAGS = {"b", "i", "u", "s", "code", "pre"}
_TAG = re.compile(r"<(/?)([a-zA-Z]*)>")


def too_many(seconds: int) -> tuple[int, str]:
    """A 429 in the present shape."""
    found = {"ok": False, "error_code": 429, "description": f"Too Many Requests: retry after {seconds}"}
    return 429, json.dumps({**found, "parameters": {"retry_after": seconds}})


def refusal(code: int, description: str) -> tuple[int, str]:
    return code, json.dumps({"ok": False, "error_code": code, "description": description})


CANT_PARSE = refusal(400, "Bad Request: can't parse entities: Can't find end of the entity starting at byte offset 3")
BLOCKED = refusal(403, "Forbidden: bot was blocked by the user")


class TelegramServer(ProtocolServer):
    """One bot."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[int, str]] = []
        self.raw: list[dict[str, Any]] = []
        self.updates: list[dict[str, Any]] = []
        self.arrivals: list[float] = []
        self.ignore_offset = False
        self._next = 100

    def say(self, chat: int, text: str, *, user: int = 7, name: str = "ann", number: int | None = None) -> int:
        """A person writes; returns the update's id."""
        self._next = self._next + 1 if number is None else number
        message = {"message_id": self._next, "chat": {"id": chat}, "from": {"id": user, "username": name}, "text": text}
        self.updates.append({"update_id": self._next, "message": message})
        return self._next

    def texts(self, chat: int) -> list[str]:
        return [text for to, text in list(self.sent) if to == chat]

    def route_of(self, request: web.Request) -> str:
        route = request.path.rpartition("/")[2]
        if route == "sendMessage":
            self.arrivals.append(time.monotonic())
        return route

    async def reply(self, request: web.Request, body: bytes) -> web.StreamResponse:
        token, _, method = request.path.removeprefix("/bot").partition("/")
        if token != TOKEN:
            return answer(refusal(401, "Unauthorized"))
        return await getattr(self, f"_{method}")(json.loads(body))

    async def _sendMessage(self, asked: dict[str, Any]) -> web.Response:
        try:
            text = plain(asked["text"]) if asked.get("parse_mode") == "HTML" else asked["text"]
        except ValueError as error:
            return answer(refusal(400, f"Bad Request: can't parse entities: {error}"))
        if not 1 <= len(text.encode("utf-16-le")) // 2 <= 4096:
            return answer(refusal(400, "Bad Request: message is too long" if text else "Bad Request: text is empty"))
        self.sent.append((asked["chat_id"], text))
        self.raw.append(asked)
        return web.json_response({"ok": True, "result": {"message_id": len(self.sent)}})

    async def _getUpdates(self, asked: dict[str, Any]) -> web.Response:
        offset = 0 if self.ignore_offset else asked.get("offset", 0)
        for _ in range(int(asked.get("timeout", 0) * 20) or 1):
            found = [u for u in self.updates if u["update_id"] >= offset]
            if found or self._stop.is_set():
                return web.json_response({"ok": True, "result": found})
            await asyncio.sleep(0.05)
        return web.json_response({"ok": True, "result": []})


def plain(text: str) -> str:
    """The text without its entities. Raises ValueError where it does not parse."""
    stack: list[str] = []
    for match in _TAG.finditer(text):
        closes, tag = match.groups()
        if tag not in TAGS:
            raise ValueError(f"Unsupported start tag {tag!r}")
        if not closes:
            stack.append(tag)
        elif not stack or stack.pop() != tag:
            raise ValueError("Unmatched end tag")
    bare = _TAG.sub("", text)
    if stack or "<" in bare:
        raise ValueError("Can't find end of the entity")
    return html.unescape(bare)


def answer(refused: tuple[int, str]) -> web.Response:
    return web.Response(status=refused[0], text=refused[1], content_type="application/json")
