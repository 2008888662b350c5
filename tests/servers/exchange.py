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
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import urllib3
from aiohttp import web

from shared.clock import SystemClock
from tests.support import free_port
from worker.core.matching import EngineOptions, MatchingEngine
from worker.venues.simulated.client import SimulatedVenue
from worker.venues.simulated.ledger import Ledger
from worker.venues.simulated.market import SeededMarket
from worker.venues.simulated.server import Exchange, Handler, serve

TOKEN = "test-token"
TICKERS = ("AAPL", "MSFT", "NVDA", "AMZN", "SPY")


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


class WitnessedExchange(Exchange):
    """The exchange with a witness before everything else."""

    arrivals: list[Arrival]
    fault: tuple[int, str] | str | None = None
    fault_spares_lists = False
    book: MatchingEngine

    def app(self) -> web.Application:
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
        return await handler(request)

    async def _until_mended(self, request: web.Request) -> None:
        """Mute until the fault is taken away; by then the other side has long hung up."""
        while self.fault is not None and request.transport is not None and not request.transport.is_closing():
            await asyncio.sleep(0.05)
        raise web.HTTPServiceUnavailable


class ExchangeServer:
    """``url``, and the engine whose book is the oracle."""

    def __init__(self, directory: Path, *, latency_ms: int = 5, partial: bool = False) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.market = SeededMarket(6, TICKERS)
        self._ledger = Ledger(directory / "exchange.db")
        chance = 2.0 if partial else 0.0
        options = EngineOptions(latency=timedelta(milliseconds=latency_ms), partial_chance=chance)
        self.engine = MatchingEngine(self._ledger.load(Decimal(100_000)), self.market.instrument, options, lambda: 1.0)
        self.exchange = WitnessedExchange(self.market, self.engine, self._ledger, SystemClock(), TOKEN, admin=True)
        self.exchange.arrivals, self.exchange.book = [], self.engine
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        asyncio.run(serve(self.exchange, self.url, self._ready.set, self._stop.is_set))

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(30)

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
        return list(self.exchange.arrivals)

    def fail(self, fault: tuple[int, str] | str | None, *, spare_lists: bool = False) -> None:
        """What listing and cancelling orders is told from now on: ``mute``, a status and a body, or None: the truth."""
        self.exchange.fault, self.exchange.fault_spares_lists = fault, spare_lists

    def submitted(self, client_order_id: str) -> int:
        """How many orders of this client order id were accepted."""
        return sum(o.client_order_id == client_order_id for o in list(self.engine.book.orders.values()))


@contextmanager
def exchange_server(directory: Path) -> Iterator[ExchangeServer]:
    server = ExchangeServer(directory)
    server.start()
    yield server
    server.stop()


@contextmanager
def simulated_venue(server: ExchangeServer) -> Iterator[SimulatedVenue]:
    venue = SimulatedVenue(server.url, TOKEN, SystemClock())
    yield venue
    venue.close()
