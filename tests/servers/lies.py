"""What a venue on loopback tells instead of the truth, by route and in the order in which it was scripted.

A lie is one of: a status ≥ 500 or a text (the deed is done, this is the answer); ``Done(status, body)`` (likewise);
``(status, body)`` or a status < 500 (nothing is done); ``reset`` and ``slow`` (done, no answer, the latter after four
seconds); ``late`` (done, the true answer after three and a half); ``truncated`` (done, half of the true answer).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from aiohttp import web

LATE_SECONDS = 3.5
SLOW_SECONDS = 4.0


class Done(NamedTuple):
    """The deed is done, and this is what its sender is told."""

    status: int
    body: str


class Lies:
    """The script."""

    def __init__(self) -> None:
        self._by_route: dict[str, deque[Any]] = {}

    def add(self, route: str, *lies: Any) -> None:
        """For the next requests of ``METHOD /path``."""
        self._by_route.setdefault(route, deque()).extend(lies)

    def clear(self) -> None:
        self._by_route.clear()

    async def answer(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """The handler's answer, or what the script says."""
        script = self._by_route.get(f"{request.method} {request.path}")
        lie = script.popleft() if script else None
        if lie is None:
            return await handler(request)
        if (type(lie) is tuple) or (isinstance(lie, int) and lie < 500):
            status, body = lie if isinstance(lie, tuple) else (lie, "")
            to = {"Location": "/v2/elsewhere"} if 300 <= status < 400 else None
            return web.Response(status=status, text=body, content_type="application/json", headers=to)
        return await _told(request, lie, await handler(request))


async def _told(request: web.Request, lie: Any, truth: web.StreamResponse) -> web.StreamResponse:
    """The deed is done; this is what its sender hears of it."""
    if lie == "late":
        await asyncio.sleep(LATE_SECONDS)
        return truth
    if lie == "truncated":
        assert isinstance(truth, web.Response)
        assert truth.text is not None
        return web.Response(
            status=truth.status, text=truth.text[: len(truth.text) // 2], content_type=truth.content_type
        )
    if lie == "slow":
        await asyncio.sleep(SLOW_SECONDS)
    if lie in ("reset", "slow"):
        if request.transport is not None:
            request.transport.abort()
        return web.Response()
    if isinstance(lie, Done):
        return web.Response(status=lie.status, text=lie.body, content_type="application/json")
    if isinstance(lie, int):
        return web.Response(status=lie, text="<html>upstream</html>", content_type="text/html")
    return web.Response(text=str(lie), content_type="application/json")
