"""An Alpaca on loopback and a venue that talks to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from zoneinfo import ZoneInfo

import pytest

from shared.clock import Clock, SystemClock, TradingCalendar
from shared.store import Store
from tests.contract.cases_alpaca import alpaca_venue
from tests.integration.test_recovery import NoGate
from tests.servers.alpaca import AlpacaServer, alpaca_server
from worker.trading.book import RedisBook
from worker.trading.desk import OrderDesk
from worker.trading.reconcile import Reconciler, Snapshot
from worker.venues.alpaca import AlpacaVenue

Look = Callable[..., Snapshot]
CALENDAR = TradingCalendar(ZoneInfo("UTC"))


@pytest.fixture
def server() -> Iterator[AlpacaServer]:
    with alpaca_server() as found:
        yield found


@pytest.fixture
def venue(server: AlpacaServer) -> Iterator[AlpacaVenue]:
    found = alpaca_venue(server)
    yield found
    found.close()


@pytest.fixture
def book(store: Store) -> RedisBook:
    return RedisBook(store, "default", CALENDAR)


@pytest.fixture
def look(venue: AlpacaVenue, book: RedisBook) -> Look:
    """Passes of one trader; ``new`` begins another one."""
    traders: list[Reconciler] = []

    def trader(clock: Clock) -> Reconciler:
        desk = OrderDesk(venue, NoGate(), book, clock, lambda *_a, **_k: None, lambda _n: nullcontext(), 60)
        return Reconciler("default", venue, desk, book, clock, CALENDAR, lambda *_a, **_k: None, lambda: None)

    def made(times: int = 1, *, new: bool = False, clock: Clock | None = None) -> Snapshot:
        if new or not traders:
            traders.append(trader(clock or SystemClock()))
        for _ in range(times):
            snapshot = traders[-1].run()
        assert snapshot.problems == {}
        return snapshot

    return made
