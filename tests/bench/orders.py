"""The way of an order: the gate, the request's bytes, one transaction of the book, against a bare round trip."""

from __future__ import annotations

import itertools
import socket
import tempfile
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from shared.clock import SystemClock, TradingCalendar
from shared.documents import Reading, dump_json
from shared.keys import Keys
from shared.store import Store, connect
from tests.bench.compute import Tell, switched_on
from tests.bench.table import Row, median, milliseconds, p99, timed
from tests.builders import order
from tests.servers.exchange import exchange_server, simulated_venue
from tests.support import PASSWORD, RedisServer
from worker.core.types import OrderRequest, VenueOrder
from worker.trading.book import RedisBook
from worker.trading.desk import OrderDesk
from worker.trading.gate import RedisGate
from worker.trading.ports import Switches, Ticket
from worker.venues.base import SendGuard
from worker.venues.simulated.client import SimulatedVenue

COUNT, ORDERS = 2000, 200
CALENDAR = TradingCalendar(ZoneInfo("America/New_York"))
MANY = 10**6
FREE = {"daily_notional_cap": 0, "cooldown_minutes": 0}
FREE |= dict.fromkeys(("max_open_positions", "max_position_per_ticker", "max_trades_per_run"), MANY)


class Tickets:
    """Orders of one kind, each with a name of its own."""

    def __init__(self, switches: Switches) -> None:
        self._switches, self._numbers = switches, itertools.count()

    def __call__(self) -> Ticket:
        now = datetime.now(UTC)
        day = CALENDAR.day_of(now)
        of = order(f"sbe1r{next(self._numbers):010d}", created_at=now, updated_at=now, trading_day=day.name)
        return Ticket(of, self._switches, day, "run-1")


class Stopwatch:
    """The simulated venue's client, noting the moment at which its guard is asked: the next thing is the request."""

    def __init__(self, venue: SimulatedVenue) -> None:
        self._venue, self.name, self.left_at = venue, venue.name, 0.0

    def submit(self, request: OrderRequest, guard: SendGuard) -> VenueOrder:
        def noted() -> None:
            guard()
            self.left_at = time.perf_counter()

        return self._venue.submit(request, noted)


def _bare_get(port: int) -> list[float]:
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.sendall(f"AUTH {PASSWORD}\r\n".encode())
        raw.recv(100)

        def get() -> None:
            raw.sendall(b"*2\r\n$3\r\nGET\r\n$13\r\ntrading_epoch\r\n")
            raw.recv(100)

        return timed(get, COUNT)


def rows(tell: Tell) -> list[Row]:
    judged = switched_on()
    risk = dump_json(FREE)
    limits = type(judged.risk.value).parse(risk, judged.risk.value)
    judged = Switches(judged.settings, Reading(risk, limits))
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "redis"
        data.mkdir()
        server = RedisServer(data)
        server.start()
        client = connect(server.url)
        store = Store(client, Keys())
        found: list[Row] = []
        try:
            for mode in ("always", "no"):
                tell(f"the gate, the book and the way to the venue, appendfsync {mode}")
                client.flushall()
                client.config_set("appendfsync", mode)
                values = {"trading_settings": judged.settings.raw, "risk_settings": risk, "trading_epoch": "1"}
                values |= {"trading_armed": "1", "lease:account:default": "us"}
                client.mset(values)  # type: ignore[arg-type]
                with exchange_server(Path(folder) / mode) as exchange, simulated_venue(exchange) as venue:
                    found += _measure(mode, server, store, Tickets(judged), venue)
        finally:
            client.close()
            server.stop()
    return found


def _measure(mode: str, server: RedisServer, store: Store, ticket: Tickets, venue: SimulatedVenue) -> list[Row]:
    gate = RedisGate(server.url, store.keys, "default")
    gate.owner = "us"
    bare = _bare_get(server.port)
    watch = Stopwatch(venue)
    book = RedisBook(store, "default", CALENDAR)
    desk = OrderDesk(watch, gate, book, SystemClock(), _silent, lambda _n: nullcontext(), 60.0)  # type: ignore[arg-type]
    sent = []
    for _ in range(ORDERS):
        one = ticket()
        start = time.perf_counter()
        result = desk.submit(one)
        assert hasattr(result, "client_order_id"), result
        sent.append(watch.left_at - start)
    name = f"sbe1r{0:010d}"

    def touch() -> None:
        book.change(name, lambda b: replace(b, order=replace(b.order, updated_at=datetime.now(UTC))))

    changed = timed(touch, ORDERS)
    admitted = timed(lambda: gate.admit(ticket()), ORDERS)
    gate.close()
    reach = ("median ≤ 0.6 ms, p99 ≤ 2 ms", "–")
    limit = f"raw-socket GET {milliseconds(median(bare))}"
    figures = (("gate call", admitted, "–"), ("decision → gate → request bytes", sent, reach[0]))
    figures += (("one change of the book", changed, "–"),)
    return [
        Row(
            f"{name_}, appendfsync {mode}",
            milliseconds(median(spent)),
            milliseconds(p99(spent)),
            f"{median(spent) / median(bare):.1f} × GET",
            limit,
            to_reach,
        )
        for name_, spent, to_reach in figures
    ]


def _silent(_kind: str, /, **_fields: object) -> None:
    """The table is enough."""
