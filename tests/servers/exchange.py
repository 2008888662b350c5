"""The simulated venue's real server in a thread, with its ledger in a folder of the test's, and a witness at its door.

``arrivals`` holds every request as it came in. ``fault`` is what requests that list or cancel orders get instead of an
answer, without anything being done: ``mute``, or a status and a body.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import urllib3
from aiohttp import web
from msgspec.structs import replace

from shared.clock import SystemClock
from tests.servers.lies import Lies
from tests.support import free_port
from worker.core.fills import EngineOptions
from worker.core.matching import WORKING, MatchingEngine
from worker.core.resting import request_of
from worker.core.types import Execution, OrderState, OrderUpdate
from worker.venues.simulated.client import SimulatedVenue
from worker.venues.simulated.exchange import Exchange
from worker.venues.simulated.ledger import Ledger
from worker.venues.simulated.market import SeededMarket
from worker.venues.simulated.server import Gateway, Handler, serve

TOKEN = "test-token"
TICKERS = ("AAPL", "MSFT", "NVDA", "AMZN", "SPY")
PAIR = "BTC/USD"
"""Traded too, with its fees in BTC."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request: ``at`` on the machine's monotonic clock, ``working`` orders then, and the sender's ``port``."""

    at: float
    method: str
    path: str
    working: int
    port: int

    @property
    def cancels(self) -> bool:
        return self.method == "DELETE"

    @property
    def lists(self) -> bool:
        return self.method == "GET" and self.path == "/orders"


class WitnessedGateway(Gateway):
    """The gateway with a witness before everything else."""

    arrivals: list[Arrival]
    fault: tuple[int, str] | str | None = None
    fault_spares_lists = False
    book: MatchingEngine
    lies: Lies
    loop: asyncio.AbstractEventLoop

    def app(self) -> web.Application:
        self.loop = asyncio.get_running_loop()
        app = super().app()
        app.middlewares.insert(0, self._witness)
        return app

    @web.middleware
    async def _witness(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        port = request.transport.get_extra_info("peername")[1] if request.transport is not None else 0
        seen = Arrival(time.monotonic(), request.method, request.path, len(self.book.working()), port)
        self.arrivals.append(seen)
        hit = seen.cancels or (seen.lists and not self.fault_spares_lists)
        if hit and (fault := self.fault) is not None:
            if isinstance(fault, tuple):
                return web.Response(status=fault[0], text=fault[1])
            await self._until_mended(request)
        return await self.lies.answer(request, handler)

    async def _until_mended(self, request: web.Request) -> None:
        """Mute until the fault is taken away; by then the other side has long hung up."""
        while self.fault is not None and request.transport is not None and not request.transport.is_closing():
            await asyncio.sleep(0.05)
        raise web.HTTPServiceUnavailable


class ExchangeServer:
    """``url``, and the engine whose book is the oracle."""

    def __init__(self, directory: Path, *, latency_ms: int = 5, url: str | None = None, partial: bool = False) -> None:
        self.url, self.directory = url or f"http://127.0.0.1:{free_port()}", directory
        self.market = SeededMarket(6, (*TICKERS, PAIR))
        self._ledger = Ledger(directory / "exchange.db")
        chance = 2.0 if partial else 0.0
        options = EngineOptions(latency=timedelta(milliseconds=latency_ms), partial_chance=chance, fees_in_base=True)
        self.engine = MatchingEngine(self._ledger.load(Decimal(100_000)), self.market.instrument, options, lambda: 1.0)
        self.exchange = Exchange(self.market, self.engine, self._ledger, SystemClock())
        self.gateway = WitnessedGateway(self.exchange, TOKEN, admin=True)
        self.gateway.arrivals, self.gateway.book, self.gateway.lies = [], self.engine, Lies()
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        asyncio.run(serve(self.gateway, self.url, self._ready.set, self._stop.is_set))

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(30)

    @property
    def runs(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)
        self._ledger.close()

    def set_price(self, ticker: str, price: Decimal | None) -> None:
        urllib3.request(
            "POST",
            f"{self.url}/admin/price",
            json={"ticker": ticker, "price": None if price is None else str(price)},
            headers={"Authorization": f"Bearer {TOKEN}"},
        )

    @property
    def arrivals(self) -> list[Arrival]:
        """All requests so far, in order of arrival."""
        return list(self.gateway.arrivals)

    def fail(self, fault: tuple[int, str] | str | None, *, spare_lists: bool = False) -> None:
        """What listing and cancelling orders is told from now on: ``mute``, a status and a body, or None: the truth."""
        self.gateway.fault, self.gateway.fault_spares_lists = fault, spare_lists

    def lie(self, route: str, *answers: Any) -> None:
        """Script ``METHOD /path`` (``POST /orders``); ``tests.servers.lies`` says what a lie may be."""
        self.gateway.lies.add(route, *answers)

    def fill(self, client_order_id: str, qty: str, price: str) -> None:
        """Fill so much of an order, whatever its state and however much it asked for."""

        async def work() -> None:
            order, now = self.engine.order_of(client_order_id), datetime.now(UTC)
            assert order is not None
            filled = order.filled_qty + Decimal(qty)
            paid = (order.avg_fill_price or 0) * order.filled_qty + Decimal(qty) * Decimal(price)
            state = order.state
            if state in WORKING:
                state = OrderState.FILLED if filled >= order.qty else OrderState.PARTIALLY_FILLED
            name = f"sim-x{len(self.engine.book.executions) + 1}"
            execution = Execution(
                name, order.venue_order_id, client_order_id, order.ticker, order.side, Decimal(qty), Decimal(price),
                Decimal(0), now,
            )  # fmt: skip
            self.engine.book.account(execution)
            changed = replace(order, filled_qty=filled, avg_fill_price=paid / filled)
            changed = self.engine._finish(changed, state, now)
            if state in WORKING:
                self.engine._rest(changed, request_of(changed), now)
            await self.exchange.commit([OrderUpdate(changed, execution)])

        asyncio.run_coroutine_threadsafe(work(), self.gateway.loop).result(30)

    def submitted(self, client_order_id: str) -> int:
        """How many orders of this client order id were accepted."""
        return sum(o.client_order_id == client_order_id for o in list(self.engine.book.orders.values()))


@contextmanager
def exchange_server(directory: Path, *, latency_ms: int = 5) -> Iterator[ExchangeServer]:
    server = ExchangeServer(directory, latency_ms=latency_ms)
    server.start()
    yield server
    server.stop()


@contextmanager
def simulated_venue(server: ExchangeServer) -> Iterator[SimulatedVenue]:
    venue = SimulatedVenue(server.url, TOKEN, SystemClock())
    yield venue
    venue.close()
