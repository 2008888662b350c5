"""How an order's way grows with what else is open: resting orders, positions, their tickers."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from shared.clock import ManualClock
from shared.documents import Reading, RiskSettings, dump_json
from shared.keys import Keys
from shared.store import Store, connect
from tests.bench.bot_rig import silent
from tests.bench.compute import Tell, switched_on
from tests.bench.orders import CALENDAR, FREE, Tickets
from tests.bench.table import Row, median
from tests.builders import order
from tests.support import RedisServer
from worker.core.fills import EngineOptions
from worker.core.ledger import Bundle
from worker.core.types import Bar, Effect, Instrument, OrderType, Side
from worker.trading.book import RedisBook
from worker.trading.desk import OrderDesk
from worker.trading.gate import RedisGate
from worker.trading.memory import MemoryLedger
from worker.trading.ports import Switches, Ticket
from worker.venues.simulated.local import LocalVenue

COUNTS = (1, 10, 100, 1000)
ROUNDS, CALLS = 200, 100
NOW = datetime(2026, 10, 5, 15, tzinfo=UTC)


def rows(tell: Tell) -> list[Row]:
    found = [*_flat("an order from the gate's twin to its fill", _replayed, tell)]
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        server.start()
        client = connect(server.url)
        try:
            client.config_set("appendfsync", "no")  # what grows is the work, not the disk
            store = Store(client, Keys())
            found += _flat("gate call", partial(_gate, server, store), tell)
            found += _flat("one change of the book", partial(_change, server, store), tell)
        finally:
            client.close()
            server.stop()
    return found


def _flat(what: str, measure: Callable[[int], float], tell: Tell) -> Iterator[Row]:
    base = 0.0
    for count in COUNTS:
        tell(f"{what}: {count:,} open")
        each = measure(count)
        base = base or each
        path = f"{what}, beside {count:,} resting orders and positions in as many tickers"
        yield Row(path, f"{each * 1e6:.1f} µs", ratio=f"{each / base:.2f} × one", reach="flat")


def _free() -> Switches:
    """On, with no limit that so many orders would meet."""
    judged, risk = switched_on(), dump_json(FREE)
    return Switches(judged.settings, Reading(risk, RiskSettings.parse(risk, RiskSettings())))


class Market:
    """The modules of a replay, with as many positions and resting sells as wanted."""

    def __init__(self, count: int) -> None:
        self.clock, self.switches = ManualClock(NOW), _free()
        tickers = ["X", *(f"T{n}" for n in range(count))]
        self.venue = LocalVenue(
            self.clock, {t: Instrument(t) for t in tickers}, Decimal(10**9), EngineOptions(), lambda: 1.0
        )
        ledger = MemoryLedger(self.clock, CALENDAR, self.switches)
        self.desk = OrderDesk(self.venue, ledger, ledger, self.clock, silent, lambda _n: nullcontext(), 60.0)
        self.venue.stream_updates(self.desk.take_update)
        self._number = 0
        for ticker in tickers:
            self.bar(ticker)
        for ticker in tickers[1:]:
            name = self.send(ticker, Side.BUY)
            self.bar(ticker)
            self.send(ticker, Side.SELL, name, Decimal(200))

    def send(self, ticker: str, side: Side, position: str = "", limit: Decimal | None = None) -> str:
        self._number += 1
        entry, day = side is Side.BUY, CALENDAR.day_of(self.clock.now())
        name = f"sb{'e' if entry else 'x'}1r{self._number:010d}"
        wanted = order(
            name,
            ticker=ticker,
            side=side,
            effect=Effect.ENTRY if entry else Effect.EXIT,
            qty=Decimal(1),
            created_at=self.clock.now(),
            updated_at=self.clock.now(),
            trading_day=day.name,
            position_id=position or name,
            type=OrderType.MARKET if limit is None else OrderType.LIMIT,
            limit_price=limit,
        )
        result = self.desk.submit(Ticket(wanted, self.switches, day, "run-1"))
        if not hasattr(result, "client_order_id"):
            raise RuntimeError(f"not admitted: {result}")
        return name

    def bar(self, ticker: str) -> None:
        self.venue.advance(ticker, Bar(self.clock.now(), 100.0, 101.0, 99.0, 100.0, 10.0))
        self.clock.set(self.clock.now() + timedelta(milliseconds=1))


def _replayed(count: int) -> float:
    """Processor seconds of an order: bought in one bar, sold in the next."""
    market = Market(count)
    gc.collect()
    spent = []
    for _ in range(ROUNDS):
        start = time.thread_time()
        name = market.send("X", Side.BUY)
        market.bar("X")
        market.send("X", Side.SELL, name)
        market.bar("X")
        spent.append((time.thread_time() - start) / 2)
    return median(spent)


def _open(server: RedisServer, store: Store, count: int) -> tuple[RedisGate, Tickets, list[str]]:
    judged: Switches = _free()
    client = store.client
    client.flushall()
    values = {"trading_settings": judged.settings.raw, "risk_settings": judged.risk.raw, "trading_epoch": "1"}
    values |= {"trading_armed": "1", "lease:account:default": "us"}
    client.mset(values)
    gate, tickets, names = RedisGate(server.url, store.keys, "default"), Tickets(judged), []
    gate.owner = "us"
    for number in range(count):
        ticket = tickets()
        ticket = replace(ticket, order=replace(ticket.order, ticker=f"T{number}"))
        if (denial := gate.admit(ticket)) is not None:
            raise RuntimeError(str(denial))
        names.append(ticket.order.client_order_id)
        client.sadd(store.keys.positions_open, ticket.order.client_order_id)
    return gate, tickets, names


def _gate(server: RedisServer, store: Store, count: int) -> float:
    gate, tickets, _ = _open(server, store, count)
    spent = []
    for _ in range(CALLS):
        ticket = tickets()
        start = time.perf_counter()
        gate.admit(ticket)
        spent.append(time.perf_counter() - start)
        store.client.srem(store.keys.orders_open, ticket.order.client_order_id)
    gate.close()
    return median(spent)


def _touched(bundle: Bundle) -> Bundle:
    return replace(bundle, order=replace(bundle.order, updated_at=datetime.now(UTC)))


def _change(server: RedisServer, store: Store, count: int) -> float:
    gate, _, names = _open(server, store, count)
    gate.close()
    book = RedisBook(store, "default", CALENDAR)
    spent = []
    for number in range(CALLS):
        start = time.perf_counter()
        book.change(names[number % count], _touched)
        spent.append(time.perf_counter() - start)
    return median(spent)
