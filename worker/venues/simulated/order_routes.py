"""Orders of the simulated venue over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from aiohttp import web

from worker.core.refusal import DUPLICATE_ID, OrderRefused
from worker.venues.simulated.answers import refuse
from worker.venues.simulated.codec import dump_execution, dump_order, load_request, read_time
from worker.venues.simulated.exchange import Exchange

LONGEST_SWITCH_SECONDS = 86_400


class OrderRoutes:
    """Place, look, cancel, and the dead-man's switch."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def routes(self) -> Sequence[web.RouteDef]:
        return [
            web.post("/orders", self.place),
            web.get("/orders", self.orders),
            web.get("/orders/by-client-id/{name}", self.order_by_client_id),
            web.delete("/orders/{name}", self.cancel),
            web.delete("/orders", self.cancel_all),
            web.post("/orders/cancel-after", self.cancel_after),
            web.get("/fills", self.fills),
        ]

    async def place(self, request: web.Request) -> web.Response:
        try:
            wanted = load_request(await request.json())
        except (KeyError, ValueError, TypeError, ArithmeticError) as error:
            return refuse(422, "bad_request", f"not an order: {error}")
        try:
            update = await self._exchange.place(wanted)
        except OrderRefused as error:
            return refuse(409 if error.code == DUPLICATE_ID else 422, error.code, str(error))
        return web.json_response(dump_order(update.order), status=201)

    async def orders(self, request: web.Request) -> web.Response:
        """Those that work; with ``since`` all that were created since then."""
        since, engine = read_time(request.query.get("since")), self._exchange.engine
        found = engine.working()
        if since is not None:
            found = [o for o in engine.book.orders.values() if o.created_at is not None and o.created_at >= since]
        return web.json_response([dump_order(o) for o in found])

    async def order_by_client_id(self, request: web.Request) -> web.Response:
        order = self._exchange.engine.order_of(request.match_info["name"])
        if order is None:
            return refuse(404, "order_not_found", "no order has this client order id")
        return web.json_response(dump_order(order))

    async def cancel(self, request: web.Request) -> web.Response:
        try:
            update = await self._exchange.cancel(request.match_info["name"])
        except KeyError:
            return refuse(404, "order_not_found", "no order has this id")
        return web.json_response({"outcome": "already_final" if update is None else "requested"})

    async def cancel_all(self, _request: web.Request) -> web.Response:
        done = await self._exchange.cancel_working()
        return web.json_response([{"venue_order_id": u.order.venue_order_id, "outcome": "requested"} for u in done])

    async def cancel_after(self, request: web.Request) -> web.Response:
        """The dead-man's switch: everything is cancelled unless this is asked again in time; 0 seconds take it back."""
        try:
            seconds = float(request.query["seconds"])
        except (KeyError, ValueError):
            return refuse(422, "bad_request", "seconds is needed")
        if not 0 <= seconds <= LONGEST_SWITCH_SECONDS:
            return refuse(422, "bad_request", f"seconds is 0 to {LONGEST_SWITCH_SECONDS}")
        self._exchange.cancel_after(seconds)
        return web.json_response({"seconds": seconds})

    async def fills(self, request: web.Request) -> web.Response:
        since = read_time(request.query.get("since")) or datetime.min.replace(tzinfo=UTC)
        return web.json_response([dump_execution(e) for e in self._exchange.engine.book.executions if e.time >= since])
