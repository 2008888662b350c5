"""The ambiguity matrix: every ambiguous or hostile answer of a venue, and what must come of it.

A row runs in this process over the real parts: gate and book in Redis, the desk, the reconciler, and the venue's
adapter over its protocol server. Nothing fills at the venue unless the row says so.
"""

from __future__ import annotations

import json
import queue
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
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
from tests.servers.lies import Done
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
            venue, self._gate, self.book, clock, lambda *_a, **_k: None, lambda _n: nullcontext(), RESOLVE_SECONDS
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


@dataclass(frozen=True, slots=True)
class Row:
    """``answer`` scripts the reply to the order (None: the truth); ``ends`` is the state that it must come to and
    ``filled`` what it must have filled; ``then`` is what happens after the send, by default that it all fills."""

    name: str
    answer: Callable[[Door], Any] = lambda _: None
    first: frozenset[OrderState] = frozenset({S.UNKNOWN})
    ends: OrderState = S.FILLED
    filled: str = "3"
    then: Callable[[Account, str], None] = lambda account, name: account.door.fill(name, "3", "100.07")
    orders: int = 1
    sends: int = 1


def _nothing(_account: Account, _name: str) -> None:
    """The venue has no such order."""


def _late_visible(account: Account, name: str) -> None:
    """Look-ups deny it until it has long been given up, and it fills meanwhile."""
    door = account.door
    account.door.fill(name, "3", "100.07")
    door.lie(door.by_id(name), *[door.unknown_id] * 3)
    door.lie(door.listing, *[(200, "[]")] * 3)
    account.reconcile()
    door.honest()
    assert account.order(name).state in {S.UNKNOWN, S.ABSENT}


def _absent_first(account: Account, name: str) -> None:
    """Look-ups and lists deny it until it is ABSENT; then it is there."""
    door = account.door
    end = time.monotonic() + DEADLINE_SECONDS
    while account.order(name).state is not S.ABSENT and time.monotonic() < end:
        door.lie(door.by_id(name), *[door.unknown_id] * 3)
        door.lie(door.listing, *[(200, "[]")] * 3)
        account.reconcile()
        door.honest()
        time.sleep(0.1)
    assert account.order(name).state is S.ABSENT
    door.fill(name, "3", "100.07")


def _duplicate_fill(account: Account, name: str) -> None:
    account.door.fill(name, "1", "99.90")
    account.door.fill(name, "2", "100.20")
    pushed = account.updates(3)
    for update in [*pushed, *pushed, pushed[-1]]:
        account.desk.take_update(update)
    assert account.order(name).filled_qty == 3


def _out_of_order(account: Account, name: str) -> None:
    for qty, price in (("1", "99.90"), ("1", "100.00"), ("1", "100.30")):
        account.door.fill(name, qty, price)
    for update in reversed(account.updates(4)):
        account.desk.take_update(update)


def _partial(account: Account, name: str) -> None:
    for qty, price in (("1", "99.90"), ("1", "100.00"), ("1", "100.30")):
        account.door.fill(name, qty, price)
        account.reconcile()


def _partial_then_cancel(account: Account, name: str) -> None:
    account.door.fill(name, "2", "99.90")
    account.until(name, S.PARTIALLY_FILLED)
    account.venue.cancel_all()


def _fill_after_cancel(account: Account, name: str) -> None:
    account.venue.cancel_all()
    account.until(name, S.CANCELED)
    account.door.fill(name, "1", "99.90")


def _all_after_cancel(account: Account, name: str) -> None:
    account.venue.cancel_all()
    account.until(name, S.CANCELED)
    account.door.fill(name, "3", "99.90")


def _overfill(account: Account, name: str) -> None:
    account.door.fill(name, "2", "99.90")
    account.door.fill(name, "3", "100.10")


def _sent_twice(account: Account, name: str) -> None:
    """Another order meanwhile; the first one's id is never used again."""
    account.door.fill(name, "3", "100.07")
    account.reconcile()
    account.submit("sbe1rmatrix0002")
    account.door.fill("sbe1rmatrix0002", "3", "100.01")
    account.until("sbe1rmatrix0002", S.FILLED)


ANSWERED = frozenset({S.ACCEPTED, S.SUBMITTED})
_OTHER = {
    "symbol": "AAPL", "qty": "10", "side": "buy", "type": "market", "time_in_force": "day",
    "client_order_id": "sbe1rmatrixother",
}  # fmt: skip
_PAGE = "<!DOCTYPE html><html><body>Sign in</body></html>"
_LIMITED = '{"message": "rate limit exceeded"}'

ROWS: tuple[Row, ...] = (
    Row("the truth", first=ANSWERED),
    Row("accepted, then no answer (timeout)", lambda _: "slow"),
    Row("accepted, the answer after more than 3 s", lambda _: "late"),
    Row("accepted, then reset", lambda _: "reset"),
    Row("429, not accepted", lambda _: (429, _LIMITED), ends=S.ABSENT, filled="0", then=_nothing, orders=0),
    Row("429, accepted all the same", lambda _: Done(429, _LIMITED)),
    Row("500, not accepted", lambda _: (500, ""), ends=S.ABSENT, filled="0", then=_nothing, orders=0),
    Row("500, accepted", lambda _: 500),
    Row("502, accepted", lambda _: 502),
    Row("504, accepted", lambda _: 504),
    Row("503, not accepted", lambda _: (503, _PAGE), ends=S.ABSENT, filled="0", then=_nothing, orders=0),
    Row("garbage for an answer", lambda door: Done(door.ok, "!?\x00")),
    Row("an empty answer", lambda door: Done(door.ok, "")),
    Row("an empty object", lambda door: Done(door.ok, "{}")),
    Row("null", lambda door: Done(door.ok, "null")),
    Row("JSON nested 100,000 deep", lambda door: Done(door.ok, "[" * 100_000)),
    Row("another order's answer", lambda door: Done(door.ok, door.other_order)),
    Row("truncated JSON", lambda _: "truncated"),
    Row("an HTML page", lambda door: Done(door.ok, _PAGE)),
    Row("a refusal of another order's kind (409)", lambda _: Done(409, '{"message": "conflict"}')),
    Row("\u201cclient order id exists\u201d", lambda door: Done(*door.duplicate)),
    Row("a structured refusal", lambda door: door.refusal, frozenset({S.REJECTED}), S.REJECTED, "0", _nothing, 0),
    Row("reset, and visible late", lambda _: "reset", then=_late_visible),
    Row("reset, given up as ABSENT, then there", lambda _: "reset", then=_absent_first),
    Row("every fill message twice", first=ANSWERED, then=_duplicate_fill),
    Row("updates in reverse order", first=ANSWERED, then=_out_of_order),
    Row("partial fills at three prices", first=ANSWERED, then=_partial),
    Row("partial fills after a reset", lambda _: "reset", then=_partial),
    Row("a partial fill, then a cancel", first=ANSWERED, ends=S.CANCELED, filled="2", then=_partial_then_cancel),
    Row("a fill after the cancel", first=ANSWERED, ends=S.CANCELED, filled="1", then=_fill_after_cancel),
    Row("filled whole after the cancel", first=ANSWERED, then=_all_after_cancel),
    Row("the venue fills more than ordered", first=ANSWERED, filled="5", then=_overfill),
    Row("the next order after a reset", lambda _: "reset", then=_sent_twice, orders=2, sends=2),
)


@dataclass(slots=True)
class Outcome:
    """What came of a row. ``problems`` is empty where all is as it must be."""

    row: str
    first: str = ""
    state: str = ""
    filled: str = ""
    sends: int = 0
    problems: list[str] = field(default_factory=list)


def run_row(account: Account, row: Row) -> Outcome:
    """Send into the lie, let happen what happens, reconcile, compare."""
    outcome = Outcome(row.name)
    lie = row.answer(account.door)
    if lie is not None:
        account.door.lie(account.door.place, lie)
    try:
        name = account.submit()
        outcome.first = account.order(name).state.value
        if account.order(name).state not in row.first:
            outcome.problems.append(f"right after the send it is {outcome.first}")
        row.then(account, name)
        account.until(name, row.ends)
        account.until(name, row.ends)
        found = account.order(name)
        outcome.state, outcome.filled = found.state.value, str(found.filled_qty)
        if found.filled_qty != Decimal(row.filled):
            outcome.problems.append(f"{found.filled_qty} filled in the book, {row.filled} at the venue")
        outcome.problems += _settled(account)
    except Exception as error:  # a row that breaks is a finding like any other
        outcome.problems.append(repr(error))
    truth = account.door.truth()
    outcome.sends = account.door.sends()
    if (len(truth.orders), outcome.sends) != (row.orders, row.sends):
        outcome.problems.append(f"{len(truth.orders)} orders at the venue, {outcome.sends} sends")
    return outcome


def _settled(account: Account) -> list[str]:
    """What the oracle still finds after the time to heal."""
    end = time.monotonic() + DEADLINE_SECONDS
    while (found := account.verdict()) and time.monotonic() < end:
        account.reconcile()
        time.sleep(0.05)
    return [f"{kind}: {fact}" for kind, facts in found.items() for fact in facts]


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
                honest=server.exchange.lies.clear,
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


def run_matrix(venue: str, redis_url: str, rows: tuple[Row, ...] = ROWS) -> Iterator[Outcome]:
    """Row after row, each over a venue and a book of its own."""
    for row in rows:
        with (
            tempfile.TemporaryDirectory(prefix="sixbot-matrix-") as folder,
            VENUES[venue](Path(folder)) as (made, door),
        ):
            account = Account(redis_url, made, door)
            try:
                yield run_row(account, row)
            finally:
                account.close()
