"""A loopback HTTP server in a thread, with a script of lies: what the protocol servers share."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from typing import Any, Self

from aiohttp import web

from tests.support import free_port


class ProtocolServer:
    """Subclasses answer in ``reply``. A lie is in the answer, or comes instead of it; ``always`` lies until mended.

    Lies: a status, ``(status, body)``, ``(status, body, headers)``, a body, ``slow`` (no answer), ``reset``.
    """

    def __init__(self) -> None:
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.requests: Counter[str] = Counter()
        self.always: Any = None
        self._lies: dict[str, deque[Any]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)

    def lie(self, route: str, *answers: Any) -> None:
        """Script what the next requests of a route are told."""
        self._lies.setdefault(route, deque()).extend(answers)

    def lies_left(self, route: str) -> int:
        """How many scripted answers nobody has asked for yet."""
        return len(self._lies.get(route, ()))

    def route_of(self, request: web.Request) -> str:
        """The name under which a request is counted and lied to."""
        return request.path

    async def reply(self, request: web.Request, body: bytes) -> web.StreamResponse:
        raise NotImplementedError

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._port).start()
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        route, body = self.route_of(request), await request.read()
        self.requests[route] += 1
        lies = self._lies.get(route)
        lie = lies.popleft() if lies else self.always
        if lie is None:
            return await self.reply(request, body)
        if lie == "slow":
            while not self._stop.is_set() and request.transport is not None and not request.transport.is_closing():
                await asyncio.sleep(0.05)
        if lie in ("slow", "reset"):
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        status, text, headers = lie_parts(lie)
        return web.Response(status=status, text=text, headers=headers)


def lie_parts(lie: Any) -> tuple[int, str, dict[str, str]]:
    if isinstance(lie, int):
        return lie, "", {}
    if isinstance(lie, str):
        return 200, lie, {}
    status, text, *rest = lie
    return status, text, rest[0] if rest else {}
