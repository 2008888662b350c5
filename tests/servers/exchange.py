"""The simulated venue's real server in a thread, with its ledger in a folder of the test's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import urllib3

from shared.clock import SystemClock
from tests.support import free_port
from worker.core.matching import EngineOptions, MatchingEngine
from worker.venues.simulated.client import SimulatedVenue
from worker.venues.simulated.ledger import Ledger
from worker.venues.simulated.market import SeededMarket
from worker.venues.simulated.server import Exchange, serve

TOKEN = "test-token"
TICKERS = ("AAPL", "MSFT", "NVDA", "AMZN", "SPY")


class ExchangeServer:
    """``url``, and the engine whose book is the oracle."""

    def __init__(self, directory: Path, *, latency_ms: int = 5) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.market = SeededMarket(6, TICKERS)
        self._ledger = Ledger(directory / "exchange.db")
        options = EngineOptions(latency=timedelta(milliseconds=latency_ms))
        self.engine = MatchingEngine(self._ledger.load(Decimal(100_000)), self.market.instrument, options, lambda: 1.0)
        self.exchange = Exchange(self.market, self.engine, self._ledger, SystemClock(), TOKEN, admin=True)
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
