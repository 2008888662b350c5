"""The simulated venue in its two forms: over HTTP, and in process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from shared.clock import SystemClock
from tests.contract.case import VenueCase
from tests.servers.exchange import PAIR, TICKERS, exchange_server, simulated_venue
from worker.core.fills import EngineOptions
from worker.core.types import Bar, Instrument
from worker.venues.simulated.local import LocalVenue


@contextmanager
def simulated_case(directory: Path) -> Iterator[VenueCase]:
    with exchange_server(directory) as server, simulated_venue(server) as venue:
        yield VenueCase(venue, server.set_price, server.submitted, TICKERS)


@contextmanager
def local_case(_directory: Path) -> Iterator[VenueCase]:
    clock = SystemClock()
    instruments = {t: Instrument(t, protective_pair=True) for t in TICKERS}
    instruments[PAIR] = Instrument(PAIR, Decimal("0.0001"))
    options = EngineOptions(fees_in_base=True)
    venue = LocalVenue(clock, instruments, Decimal(100_000), options, lambda: 1.0)

    def set_price(ticker: str, price: Decimal) -> None:
        value = float(price)
        venue.advance(ticker, Bar(clock.now() + timedelta(milliseconds=1), value, value, value, value, 1.0))

    def submitted(name: str) -> int:
        return sum(o.client_order_id == name for o in venue.engine.book.orders.values())

    yield VenueCase(venue, set_price, submitted, TICKERS)
