"""The simulated venue as a process of its own: the port as JSON over loopback HTTP, websockets for what it pushes.

``Authorization: Bearer TOKEN`` on every request. An answer is given only after the ledger has committed it.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from urllib.parse import urlsplit

from aiohttp import web

from worker.venues.simulated.answers import refuse
from worker.venues.simulated.exchange import Exchange
from worker.venues.simulated.market_routes import MarketRoutes
from worker.venues.simulated.order_routes import OrderRoutes
from worker.venues.simulated.ticks import TickBoard

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Gateway:
    """An exchange behind HTTP. ``admin`` lets tests pin prices."""

    def __init__(self, exchange: Exchange, token: str, *, admin: bool) -> None:
        self.exchange, self._token, self._admin = exchange, token, admin
        self._ticks = TickBoard(exchange.market, exchange.clock, exchange.pinned)

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._authorize])
        app.add_routes(OrderRoutes(self.exchange).routes())
        app.add_routes(MarketRoutes(self.exchange).routes())
        app.add_routes(
            [
                web.get("/updates", self.exchange.updates.listen),
                web.get("/trades", self._ticks.trades),
                web.post("/admin/price", self.pin),
            ]
        )
        app.cleanup_ctx.append(self._beating)
        app.on_shutdown.append(self._hang_up)
        return app

    @web.middleware
    async def _authorize(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            return refuse(401, "unauthorized", "the token is missing or wrong")
        return await handler(request)

    async def pin(self, request: web.Request) -> web.Response:
        """Pin a price: ``{"ticker": …, "price": "…" or null}``; only where admin is allowed."""
        if not self._admin:
            return refuse(403, "forbidden", "admin routes are off")
        wanted = await request.json()
        price = None if wanted["price"] is None else Decimal(wanted["price"])
        await self.exchange.pin(wanted["ticker"], price)
        return web.json_response({})

    async def _beating(self, _app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(self.exchange.pulse())
        yield
        task.cancel()

    async def _hang_up(self, _app: web.Application) -> None:
        await self.exchange.updates.hang_up()
        await self._ticks.hang_up()


async def serve(gateway: Gateway, url: str, ready: Callable[[], None], stopping: Callable[[], bool]) -> None:
    """Listen until ``stopping``. Raises OSError where the port is taken."""
    parts = urlsplit(url)
    runner = web.AppRunner(gateway.app(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, parts.hostname or "127.0.0.1", parts.port or 5060).start()
        ready()
        while not stopping():
            await asyncio.sleep(0.1)
    finally:
        await runner.cleanup()
