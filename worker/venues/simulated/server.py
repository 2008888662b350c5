"""The simulated venue as a process of its own: the port as JSON over loopback HTTP, websockets for what it pushes.

``Authorization: Bearer TOKEN`` on every request. An answer is given only after the ledger has committed it.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from aiohttp import WSMsgType, web

from shared.clock import Clock
from worker.core.matching import MatchingEngine
from worker.core.refusal import DUPLICATE_ID, OrderRefused
from worker.core.types import OrderUpdate
from worker.venues.simulated.codec import (
    dump_execution,
    dump_order,
    dump_update,
    load_request,
    read_time,
    time_text,
)
from worker.venues.simulated.ledger import Ledger
from worker.venues.simulated.market import TICK_MS, SeededMarket
from worker.venues.simulated.ticks import TickBoard

LONGEST_SWITCH_SECONDS = 86_400
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Exchange:
    """Market, engine and ledger behind HTTP. ``overrides`` (admin only) pin a ticker's price for tests."""

    def __init__(
        self, market: SeededMarket, engine: MatchingEngine, ledger: Ledger, clock: Clock, token: str, *, admin: bool
    ) -> None:
        self._market, self._engine, self._ledger = market, engine, ledger
        self._clock, self._token, self._admin = clock, token, admin
        self._overrides: dict[str, Decimal] = {}
        self._listeners: set[web.WebSocketResponse] = set()
        self._cancel_at: float | None = None
        self._ticks = TickBoard(market, clock, self._overrides.get)

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._authorize])
        app.add_routes(
            [
                web.post("/orders", self.place),
                web.get("/orders", self.orders),
                web.get("/orders/by-client-id/{name}", self.order_by_client_id),
                web.delete("/orders/{name}", self.cancel),
                web.delete("/orders", self.cancel_all),
                web.post("/orders/cancel-after", self.cancel_after),
                web.get("/fills", self.fills),
                web.get("/positions", self.positions),
                web.get("/account", self.account),
                web.get("/clock", self.time),
                web.get("/instruments/{ticker}", self.instrument),
                web.get("/prices/{ticker}", self.price),
                web.get("/bars", self.bars),
                web.get("/updates", self.updates),
                web.get("/trades", self._ticks.trades),
                web.post("/admin/price", self.override),
            ]
        )
        app.cleanup_ctx.append(self._ticking)
        app.on_shutdown.append(self._hang_up)
        return app

    @web.middleware
    async def _authorize(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            return _refuse(401, "unauthorized", "the token is missing or wrong")
        return await handler(request)

    # -- the market's pulse ---------------------------------------------------------------------------------------

    async def _ticking(self, _app: web.Application) -> Any:
        task = asyncio.create_task(self._pulse())
        yield
        task.cancel()

    async def _pulse(self) -> None:
        while True:
            await self.match(tuple(self._engine.working_tickers()))
            if self._cancel_at is not None and self._clock.monotonic() >= self._cancel_at:
                self._cancel_at = None
                await self._cancel_working()
            await asyncio.sleep(TICK_MS / 1000)

    async def match(self, tickers: Sequence[str]) -> None:
        """Let the market move past the resting orders; commit, then tell."""
        now = self._clock.now()
        updates: list[OrderUpdate] = []
        for ticker in tickers:
            price = self._price(ticker, now)[0]
            updates += self._engine.on_price(ticker, price, now)
        await self._commit(updates)

    async def _commit(self, updates: Sequence[OrderUpdate]) -> None:
        if not updates:
            return
        self._ledger.commit(
            self._engine.book, [u.order for u in updates], [u.execution for u in updates if u.execution is not None]
        )
        for update in updates:
            text = json.dumps(dump_update(update))
            for listener in list(self._listeners):
                try:
                    await listener.send_str(text)
                except ConnectionError:
                    self._listeners.discard(listener)

    def _price(self, ticker: str, now: datetime) -> tuple[Decimal, datetime]:
        pinned = self._overrides.get(ticker)
        if pinned is not None:
            return pinned, now
        last = self._market.last(ticker, now)
        return last.price, last.time

    # -- orders ---------------------------------------------------------------------------------------------------

    async def place(self, request: web.Request) -> web.Response:
        try:
            wanted = load_request(await request.json())
        except (KeyError, ValueError, TypeError, ArithmeticError) as error:
            return _refuse(422, "bad_request", f"not an order: {error}")
        now = self._clock.now()
        try:
            if self._market.instrument(wanted.ticker) is not None and self._engine.price(wanted.ticker) is None:
                await self._commit(self._engine.on_price(wanted.ticker, self._price(wanted.ticker, now)[0], now))
            update = self._engine.place(wanted, now)
        except OrderRefused as error:
            status = 409 if error.code == DUPLICATE_ID else 422
            return _refuse(status, error.code, str(error))
        await self._commit([update])
        return web.json_response(dump_order(update.order), status=201)

    async def orders(self, request: web.Request) -> web.Response:
        since = read_time(request.query.get("since"))
        if since is not None:
            found = [o for o in self._engine.book.orders.values() if o.created_at is not None and o.created_at >= since]
        else:
            found = self._engine.working()
        return web.json_response([dump_order(o) for o in found])

    async def order_by_client_id(self, request: web.Request) -> web.Response:
        order = self._engine.order_of(request.match_info["name"])
        if order is None:
            return _refuse(404, "order_not_found", "no order has this client order id")
        return web.json_response(dump_order(order))

    async def cancel(self, request: web.Request) -> web.Response:
        try:
            update = self._engine.cancel(request.match_info["name"], self._clock.now())
        except KeyError:
            return _refuse(404, "order_not_found", "no order has this id")
        await self._commit([] if update is None else [update])
        return web.json_response({"outcome": "already_final" if update is None else "requested"})

    async def cancel_after(self, request: web.Request) -> web.Response:
        """The dead-man's switch: everything is cancelled unless this is asked again in time; 0 seconds take it back."""
        try:
            seconds = float(request.query["seconds"])
        except (KeyError, ValueError):
            return _refuse(422, "bad_request", "seconds is needed")
        if not 0 <= seconds <= LONGEST_SWITCH_SECONDS:
            return _refuse(422, "bad_request", f"seconds is 0 to {LONGEST_SWITCH_SECONDS}")
        self._cancel_at = self._clock.monotonic() + seconds if seconds else None
        return web.json_response({"seconds": seconds})

    async def _cancel_working(self) -> list[OrderUpdate]:
        now = self._clock.now()
        updates = [self._engine.cancel(o.venue_order_id, now) for o in self._engine.working()]
        done = [u for u in updates if u is not None]
        await self._commit(done)
        return done

    async def cancel_all(self, _request: web.Request) -> web.Response:
        done = await self._cancel_working()
        return web.json_response([{"venue_order_id": u.order.venue_order_id, "outcome": "requested"} for u in done])

    # -- questions ------------------------------------------------------------------------------------------------

    async def fills(self, request: web.Request) -> web.Response:
        since = read_time(request.query.get("since")) or datetime.min.replace(tzinfo=UTC)
        return web.json_response([dump_execution(e) for e in self._engine.book.executions if e.time >= since])

    async def positions(self, _request: web.Request) -> web.Response:
        now, rows = self._clock.now(), []
        for ticker, holding in sorted(self._engine.book.holdings.items()):
            if holding.qty:
                value = holding.qty * self._price(ticker, now)[0]
                rows.append(
                    {
                        "ticker": ticker,
                        "qty": str(holding.qty),
                        "side": "long",
                        "avg_entry_price": str(holding.average),
                        "market_value": str(value),
                        "unrealized_pl": str(value - holding.cost),
                    }
                )
        return web.json_response(rows)

    async def account(self, _request: web.Request) -> web.Response:
        now, book = self._clock.now(), self._engine.book
        held = sum((h.qty * self._price(t, now)[0] for t, h in book.holdings.items() if h.qty), Decimal(0))
        return web.json_response(
            {
                "equity": str(book.cash + held),
                "cash": str(book.cash),
                "buying_power": str(self._engine.buying_power()),
                "currency": "USD",
            }
        )

    async def time(self, _request: web.Request) -> web.Response:
        return web.json_response({"now": time_text(self._clock.now()), "is_open": True})

    async def instrument(self, request: web.Request) -> web.Response:
        found = self._market.instrument(request.match_info["ticker"])
        if found is None:
            return _refuse(404, "unknown_ticker", "this ticker is not traded here")
        return web.json_response(
            {
                "ticker": found.ticker,
                "lot_size": str(found.lot_size),
                "tick_size": str(found.tick_size),
                "min_notional": "0",
                "protective_pair": found.protective_pair,
            }
        )

    async def price(self, request: web.Request) -> web.Response:
        ticker = request.match_info["ticker"]
        if self._market.instrument(ticker) is None:
            return _refuse(404, "unknown_ticker", "this ticker is not traded here")
        price, at = self._price(ticker, self._clock.now())
        return web.json_response({"price": str(price), "time": time_text(at)})

    async def bars(self, request: web.Request) -> web.Response:
        try:
            count, until = int(request.query["count"]), read_time(request.query["until"])
        except (KeyError, ValueError):
            return _refuse(422, "bad_request", "count and until are needed")
        tickers = request.query.get("tickers", "").split(",")
        if until is None or not 0 < count <= 20_000:
            return _refuse(422, "bad_request", "count is 1 to 20,000")
        until = min(until, self._clock.now())
        rows: dict[str, list[Any]] = {}
        for ticker in tickers:
            known = self._market.instrument(ticker) is not None
            found = self._market.bars(ticker, count, until) if known else []
            rows[ticker] = [[time_text(b.start), b.open, b.high, b.low, b.close, b.volume] for b in found]
            await asyncio.sleep(0)
        return web.json_response(rows)

    async def updates(self, request: web.Request) -> web.StreamResponse:
        channel = web.WebSocketResponse(heartbeat=10)
        await channel.prepare(request)
        self._listeners.add(channel)
        try:
            async for message in channel:
                if message.type == WSMsgType.ERROR:
                    break
        finally:
            self._listeners.discard(channel)
        return channel

    async def _hang_up(self, _app: web.Application) -> None:
        for listener in list(self._listeners):
            await listener.close()
        await self._ticks.hang_up()

    # -- for tests ------------------------------------------------------------------------------------------------

    async def override(self, request: web.Request) -> web.Response:
        """Pin a price: ``{"ticker": …, "price": "…" or null}``; only where admin is allowed."""
        if not self._admin:
            return _refuse(403, "forbidden", "admin routes are off")
        wanted = await request.json()
        if wanted["price"] is None:
            self._overrides.pop(wanted["ticker"], None)
        else:
            self._overrides[wanted["ticker"]] = Decimal(wanted["price"])
        await self.match([wanted["ticker"]])
        return web.json_response({})


def _refuse(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"code": code, "message": message}, status=status)


async def serve(exchange: Exchange, url: str, ready: Callable[[], None], stopping: Callable[[], bool]) -> None:
    """Listen until ``stopping``. Raises OSError where the port is taken."""
    parts = urlsplit(url)
    runner = web.AppRunner(exchange.app(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, parts.hostname or "127.0.0.1", parts.port or 5060).start()
        ready()
        while not stopping():
            await asyncio.sleep(0.1)
    finally:
        await runner.cleanup()
