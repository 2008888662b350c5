"""One account's trading parts in this process, over a venue whose answers a test scripts."""

from __future__ import annotations

import json
import queue
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from shared.clock import SystemClock, TradingCalendar
from shared.errors import SixbotError
from shared.keys import Keys
from shared.store import Store, connect
from tests.builders import order as new_order
from tests.builders import switches, told
from tests.contract.cases_alpaca import alpaca_venue
from tests.faults.oracle import Rules, judge
from tests.faults.venues import TICKERS, FaultyBroker, Truth, exchange_truth
from tests.servers.exchange import exchange_server, simulated_venue
from worker.core.orders import Order
from worker.core.types import OrderState, OrderUpdate
from worker.trading.book import RedisBook
from worker.trading.desk import OrderDesk
from worker.trading.gate import RedisGate
from worker.trading.ports import Ticket
from worker.trading.reconcile import Reconciler
from worker.venues.base import Venue
from worker.venues.simulated.codec import dump_order

S = OrderState
RESOLVE_SECONDS = 1.0
DEADLINE_SECONDS = 30.0
QTY = Decimal(3)
RULES = Rules(most_held=Decimal(100), orders_per_ticker=1000)
NEVER_LATE = 3_600_000
UNFAIR = {"cooldown_minutes": 0, "daily_notional_cap": 0, "max_position_per_ticker": 1000}
_OTHER = {
    "symbol": "AAPL", "qty": "10", "side": "buy", "type": "market", "time_in_force": "day",
    "client_order_id": "sbe1rmatrixother",
}  # fmt: skip


class _PatientClock(SystemClock):
    """Orders do not grow old: what is tried here is the answer, not the load of this machine."""

    def monotonic(self) -> float:
        return 0.0


@dataclass(frozen=True, slots=True)
class Door:
    """What a row does at the venue. The routes are of the place, the list and the look-up by our id."""

    lie: Callable[..., None]
    honest: Callable[[], None]
    sends: Callable[[], int]
    fill: Callable[[str, str, str], None]
    truth: Callable[[], Truth]
    place: str
    listing: str
    by_id: Callable[[str], str]
    ok: int
    refusal: tuple[int, str]
    duplicate: tuple[int, str]
    unknown_id: tuple[int, str]
    other_order: str


class Account:
    """One account's trading parts, without their loop."""

    def __init__(self, redis_url: str, venue: Venue, door: Door) -> None:
        self.venue, self.door = venue, door
        self._client = connect(redis_url, timeout_seconds=10)
        self._client.flushall()
        store, clock = Store(self._client, Keys()), _PatientClock()
        calendar = TradingCalendar(ZoneInfo("UTC"))
        self._day, self._judged = calendar.day_of(datetime.now(UTC)), switches(UNFAIR)
        documents = {"trading_settings": self._judged.settings.raw, "risk_settings": self._judged.risk.raw}
        switched = {"trading_epoch": "1", "trading_armed": "1", "lease:account:default": "us"}
        self._client.mset(documents | switched)
        self._gate = RedisGate(redis_url, store.keys, "default", timeout_seconds=10)
        self._gate.owner = "us"
        self.book = RedisBook(store, "default", calendar)
        self.desk = OrderDesk(
            venue,
            self._gate,
            self.book,
            clock,
            lambda *_a, **_k: None,
            lambda _n: nullcontext(),
            RESOLVE_SECONDS,
        )
        self._reconciler = Reconciler(
            "default", venue, self.desk, self.book, clock, calendar, lambda *_a, **_k: None, lambda: None
        )
        self._inbox: queue.SimpleQueue[OrderUpdate] = queue.SimpleQueue()
        self._stream = venue.stream_updates(self._inbox.put)
        self._await(lambda: self._stream.generation > 0, "the stream stands")

    def submit(self, name: str = "sbe1rmatrix0000") -> str:
        """Send one order; returns its client order id."""
        now = datetime.now(UTC)
        wanted = new_order(name, qty=QTY, created_at=now, updated_at=now, trading_day=self._day.name)
        result = self.desk.submit(Ticket(wanted, self._judged, self._day, f"run-{name}"))
        assert isinstance(result, Order), result
        return name

    def updates(self, count: int) -> list[OrderUpdate]:
        """So many pushed updates, in their order."""
        return [self._inbox.get(timeout=DEADLINE_SECONDS) for _ in range(count)]

    def order(self, name: str) -> Order:
        found = self.book.order(name)
        assert found is not None
        return found

    def reconcile(self) -> None:
        """One pass; a venue that does not answer costs it."""
        try:
            self._reconciler.run()
        except SixbotError:
            return

    def until(self, name: str, state: OrderState) -> None:
        """Reconcile and take in what is pushed, as the loop does, until the order is so."""

        def reached() -> bool:
            while not self._inbox.empty():
                self.desk.take_update(self._inbox.get())
            self.reconcile()
            return self.order(name).state is state

        self._await(reached, lambda: f"{name} is {state}, it is {self.order(name)}")

    @staticmethod
    def _await(condition: Callable[[], bool], what: str | Callable[[], str]) -> None:
        end = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(what if isinstance(what, str) else what())
            time.sleep(0.02)

    def verdict(self) -> dict[str, list[str]]:
        """What the oracle finds: book, positions, statistics, log and counters against the venue's ledger."""
        found = judge(self._client, self.door.truth(), RULES)
        return found.bad() | ({"pending": found.pending} if found.pending else {})

    def close(self) -> None:
        self._stream.close()
        self._gate.close()
        self._client.close()


@contextmanager
def _alpaca(_root: Path) -> Iterator[tuple[Venue, Door]]:
    broker = FaultyBroker(random.Random(0))
    broker.start()
    broker.fill_market_orders = False
    for ticker in TICKERS:
        broker.set_price(ticker, "100.00")
    venue = alpaca_venue(broker)
    try:
        yield (
            venue,
            Door(
                lie=broker.lie,
                honest=broker.lies.clear,
                sends=lambda: broker.requests["POST /v2/orders"],
                fill=broker.fill,
                truth=broker.truth,
                place="POST /v2/orders",
                listing="GET /v2/orders",
                by_id=lambda _: "GET /v2/orders:by_client_order_id",
                ok=200,
                other_order=json.dumps(broker._new(_OTHER)),
                refusal=(403, '{"code": 40310000, "message": "insufficient buying power"}'),
                duplicate=(422, '{"code": 40010001, "message": "client_order_id must be unique"}'),
                unknown_id=(404, '{"code": 40410000, "message": "order not found"}'),
            ),
        )
    finally:
        venue.close()
        broker.stop()


@contextmanager
def _simulated(root: Path) -> Iterator[tuple[Venue, Door]]:
    with exchange_server(root, latency_ms=NEVER_LATE) as server, simulated_venue(server) as venue:
        yield (
            venue,
            Door(
                lie=server.lie,
                honest=server.gateway.lies.clear,
                sends=lambda: sum(a.method == "POST" and a.path == "/orders" for a in server.arrivals),
                fill=server.fill,
                truth=lambda: exchange_truth(server),
                place="POST /orders",
                listing="GET /orders",
                by_id=lambda name: f"GET /orders/by-client-id/{name}",
                ok=201,
                other_order=json.dumps(dump_order(told(new_order("sbe1rmatrixother"), S.ACCEPTED))),
                refusal=(422, '{"code": "insufficient_buying_power", "message": "too little"}'),
                duplicate=(409, '{"code": "duplicate_client_order_id", "message": "exists"}'),
                unknown_id=(404, '{"code": "order_not_found", "message": "no order has this client order id"}'),
            ),
        )


VENUES: dict[str, Callable[[Path], Any]] = {"alpaca": _alpaca, "simulated": _simulated}
