"""Reconciliation after a restart, over a real Redis: what the book must learn from the venue, and what it must not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from shared.clock import ManualClock, TradingCalendar
from shared.errors import OrderNotFound
from shared.store import Store
from tests.builders import NOW, order, told
from worker.core.fills import EngineOptions
from worker.core.ledger import take_in
from worker.core.orders import Order, micros
from worker.core.types import Bar, Effect, Execution, Instrument, OrderState, Side, VenueOrder
from worker.core.venue_book import Holding
from worker.trading.book import RedisBook
from worker.trading.desk import OrderDesk
from worker.trading.reconcile import Reconciler
from worker.venues.simulated.local import LocalVenue

ENTRY, EXIT = "sbe1r0123456789", "sbx1r0123456789"
Start = Callable[[], Reconciler]


class Broker(LocalVenue):
    """Fills as a broker's REST tells them: without our id."""

    def fills_since(self, since: datetime) -> list[Execution]:
        return [replace(f, client_order_id=None, derived=True) for f in super().fills_since(since)]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def calendar() -> TradingCalendar:
    return TradingCalendar(ZoneInfo("UTC"))


@pytest.fixture
def broker(clock: ManualClock) -> Broker:
    options = EngineOptions(fee_rate=Decimal(0), slippage=Decimal(0))
    return Broker(clock, {"AAPL": Instrument("AAPL")}, Decimal(100_000), options, lambda: 1.0)


@pytest.fixture
def book(store: Store, calendar: TradingCalendar) -> RedisBook:
    return RedisBook(store, "default", calendar)


@pytest.fixture
def start(book: RedisBook, broker: Broker, clock: ManualClock, calendar: TradingCalendar) -> Start:
    """A trader's reconciler with nothing in memory: what a new process has."""

    def made() -> Reconciler:
        desk = OrderDesk(broker, NoGate(), book, clock, lambda *_a, **_k: None, lambda _n: nullcontext(), 60)
        return Reconciler("default", broker, desk, book, clock, calendar, lambda *_a, **_k: None, lambda: None)

    return made


class NoGate:
    """Nothing is sent here."""

    def admit(self, _ticket: object) -> None:
        raise AssertionError("a reconciliation sends nothing")


def place(broker: Broker, clock: ManualClock, wanted: Order, price: float = 100.0, *, fills: bool = True) -> None:
    """Put an order of ours into the venue and, one bar later, let it fill."""
    broker.submit(wanted.request(), lambda: None)
    clock.advance(60)
    if fills:
        broker.advance("AAPL", Bar(clock.now(), price, price, price, price, 1.0))


def test_late_fill_when_the_process_is_new_and_the_fill_has_not_our_id_counts(
    start: Start, book: RedisBook, broker: Broker, clock: ManualClock
) -> None:
    place(broker, clock, order(), fills=False)
    book.adopt(order(state=OrderState.SUBMITTED))
    start().run()
    venue_id = broker.open_orders()[0].venue_order_id
    broker.cancel(venue_id)
    start().run()
    assert book.order(ENTRY).state is OrderState.CANCELED  # type: ignore[union-attr]
    late = Execution("x1", venue_id, ENTRY, "AAPL", Side.BUY, Decimal(3), Decimal("100.01"), Decimal(0), clock.now())
    broker.engine.book.executions.append(late)
    broker.engine.book.orders[venue_id] = replace(
        broker.engine.book.orders[venue_id], filled_qty=Decimal(3), avg_fill_price=Decimal("100.01")
    )
    start().run()
    found = book.order(ENTRY)
    assert found is not None
    assert (found.state, found.filled_qty, found.filled_notional) == (OrderState.CANCELED, 3, Decimal("300.03"))
    assert [p.quantity for p in book.open_positions()] == [3]


@pytest.mark.parametrize("hidden", [False, True])
def test_late_fill_when_the_others_were_pushed_and_are_listed_no_more_counts(
    start: Start, book: RedisBook, broker: Broker, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, *, hidden: bool
) -> None:
    """By itself it is less than what has filled, so that it looks like one of those told again under another id; and
    with nothing held in the book, what the venue holds would be taken for others'."""
    place(broker, clock, order(), fills=False)
    book.adopt(order(state=OrderState.SUBMITTED))
    reconciler, known = start(), broker.engine.book
    reconciler.run()
    venue_id = broker.open_orders()[0].venue_order_id
    pushed = Execution("p1", venue_id, ENTRY, "AAPL", Side.BUY, Decimal(2), Decimal(100), Decimal(0), clock.now())
    news = told(book.order(ENTRY), OrderState.PARTIALLY_FILLED, "2", "100")
    book.change(ENTRY, lambda b: take_in(b, news, (pushed,), clock.now(), venue="test"))
    known.orders[venue_id] = replace(known.orders[venue_id], filled_qty=Decimal(2), avg_fill_price=Decimal(100))
    known.holdings["AAPL"] = Holding(Decimal(2), Decimal(200))
    broker.cancel(venue_id)
    leave = order(EXIT, side=Side.SELL, effect=Effect.EXIT, qty=Decimal(2), position_id=ENTRY)
    place(broker, clock, leave)
    book.adopt(replace(leave, state=OrderState.SUBMITTED))
    reconciler.run()
    assert book.open_positions() == []
    known.executions.append(replace(pushed, execution_id="x1", qty=Decimal(1), time=clock.now()))
    known.orders[venue_id] = replace(known.orders[venue_id], filled_qty=Decimal(3))
    known.holdings["AAPL"] = Holding(Decimal(1), Decimal(100))
    if hidden:
        with monkeypatch.context() as patch:
            patch.setattr(broker, "order_by_client_id", _not_found)
            reconciler.run()
    reconciler.run()
    found = book.order(ENTRY)
    assert found is not None
    assert (found.state, found.filled_qty, found.filled_notional) == (OrderState.CANCELED, 3, 300)
    assert [p.quantity for p in book.open_positions()] == [1]


def _not_found(name: str) -> VenueOrder:
    raise OrderNotFound(name)


def test_recovery_when_redis_was_emptied_takes_todays_round_trip_and_its_limits_in_again(
    start: Start, book: RedisBook, broker: Broker, clock: ManualClock
) -> None:
    place(broker, clock, order(), 100.0)
    place(broker, clock, order(EXIT, side=Side.SELL, effect=Effect.EXIT), 103.5)
    recovery = start()
    for _ in range(2):  # taking in again changes nothing
        recovery.run()
        recovery.start_over()
        found = [book.order(name) for name in (ENTRY, EXIT)]
        assert [(o.state, o.filled_qty, o.bot_id) for o in found if o] == [(OrderState.FILLED, 10, "1")] * 2
        assert book.stats().total.pnl == Decimal(35)
        day = book.day("2026-03-02")
        assert (day.counters.notional, day.counters.orders_per_ticker) == (Decimal(2035), {"AAPL": 2})
        assert (day.filled_orders, day.filled_notional) == (2, Decimal(2035))
        assert book.open_positions() == []


def test_recovery_when_an_older_redis_knows_the_entry_as_working_takes_its_exit_as_ours(
    start: Start, book: RedisBook, broker: Broker, clock: ManualClock
) -> None:
    """The exit is lost and the entry's fill as well: whose the exit is shows only once that fill is known."""
    place(broker, clock, order(), 100.0)
    place(broker, clock, order(EXIT, side=Side.SELL, effect=Effect.EXIT), 103.5)
    book.adopt(order(state=OrderState.SUBMITTED))
    snapshot = start().run()
    found = [book.order(name) for name in (ENTRY, EXIT)]
    assert [(o.state, o.filled_qty, o.bot_id) for o in found if o] == [(OrderState.FILLED, 10, "1")] * 2
    assert (book.open_positions(), book.stats().total.pnl) == ([], Decimal(35))
    assert (snapshot.external, snapshot.drift) == (frozenset(), "")


def test_recovery_when_only_the_exit_is_known_at_the_venue_today_shows_it_as_external(
    start: Start, book: RedisBook, broker: Broker, clock: ManualClock
) -> None:
    place(broker, clock, order("owner"), 100.0)
    place(broker, clock, order(EXIT, side=Side.SELL, effect=Effect.EXIT, qty=Decimal(4)), 101.0)
    snapshot = start().run()
    found = book.order(EXIT)
    assert found is not None
    assert found.is_external
    assert book.open_positions() == []
    assert (snapshot.external, snapshot.drift) == (frozenset({"AAPL"}), "")


def test_new_day_when_an_order_still_works_reserves_what_may_still_fill(
    start: Start, book: RedisBook, broker: Broker, clock: ManualClock, store: Store
) -> None:
    place(broker, clock, order(), fills=False)
    recovery = start()
    broker.engine.on_price("AAPL", Decimal(100), NOW - timedelta(days=1))  # a price, before the order works
    recovery.run()
    assert book.day("2026-03-02").counters.notional == Decimal(1000)
    clock.advance(86_400)
    recovery.run()
    assert book.order(ENTRY).trading_day == "2026-03-03"  # type: ignore[union-attr]
    assert book.day("2026-03-03").counters.notional == Decimal(1000)
    broker.advance("AAPL", Bar(clock.now(), 101.0, 101.0, 101.0, 101.0, 1.0))
    recovery.run()
    assert store.client.hget("risk_counters:2026-03-03", "notional") == str(micros(Decimal(1010))).encode()
    assert book.day("2026-03-03").counters.notional == Decimal(1010)


def test_new_day_when_an_order_filled_on_both_days_is_a_trade_of_both(
    start: Start, book: RedisBook, broker: Broker, clock: ManualClock
) -> None:
    place(broker, clock, order(), fills=False)
    book.adopt(order(state=OrderState.SUBMITTED))
    recovery = start()
    for number, (days, qty) in enumerate([(0, 1), (0, 2), (1, 3), (0, 4)], 1):
        clock.advance(86_400 * days)
        recovery.run()
        known = book.order(ENTRY)
        assert known is not None
        one = Execution(f"x{number}", "v", ENTRY, "AAPL", Side.BUY, Decimal(qty), Decimal(100), Decimal(0), clock.now())
        news = told(known, OrderState.PARTIALLY_FILLED, str(known.filled_qty + qty), "100")
        book.change(ENTRY, lambda b, n=news, e=one: take_in(b, n, (e,), clock.now(), venue="test"))  # type: ignore[misc]
    days = [book.day(name) for name in ("2026-03-02", "2026-03-03")]
    assert [(d.filled_orders, d.filled_notional) for d in days] == [(1, 300), (1, 700)]


def test_new_day_when_an_order_is_absent_reserves_nothing_until_the_venue_tells_of_it(
    start: Start, book: RedisBook, broker: Broker, clock: ManualClock
) -> None:
    book.adopt(order(state=OrderState.UNKNOWN))
    recovery = start()
    clock.advance(60)
    recovery.run()
    assert book.order(ENTRY).state is OrderState.ABSENT  # type: ignore[union-attr]
    clock.advance(86_400)
    recovery.run()
    assert book.day("2026-03-03").counters.notional == 0
    broker.engine.on_price("AAPL", Decimal(100), NOW - timedelta(days=1))
    place(broker, clock, order(), fills=False)
    for _ in range(2):
        recovery.run()
    assert book.order(ENTRY).state is OrderState.ACCEPTED  # type: ignore[union-attr]
    assert book.day("2026-03-03").counters.notional == Decimal(1000)


class Forgetful(Broker):
    """Does not tell of its orders any more, only of what they filled."""

    def open_orders(self) -> list[VenueOrder]:
        return []

    def orders_since(self, since: datetime) -> list[VenueOrder]:
        return []

    def order_by_client_id(self, client_order_id: str) -> VenueOrder:
        raise OrderNotFound(client_order_id)


def test_fill_when_the_venue_tells_of_its_order_no_more_counts(
    start: Start, book: RedisBook, broker: Broker, clock: ManualClock
) -> None:
    place(broker, clock, order(), fills=False)
    book.adopt(order(state=OrderState.SUBMITTED))
    recovery = start()
    recovery.run()
    broker.__class__ = Forgetful
    assert list(recovery.run().problems) == [ENTRY]
    broker.advance("AAPL", Bar(clock.now(), 100.0, 100.0, 100.0, 100.0, 1.0))
    assert (recovery.run().problems, book.order(ENTRY).state) == ({}, OrderState.FILLED)  # type: ignore[union-attr]
    assert [p.quantity for p in book.open_positions()] == [10]


def test_counters_when_a_rounded_average_is_corrected_by_the_fills_stay_the_sum_of_their_orders(
    store: Store, book: RedisBook
) -> None:
    """A venue rounds the average it tells, so the notional passes through figures that are no whole 1e-6."""
    placed = order(qty=Decimal(6))
    book.adopt(placed)
    sizes = [("3", "100.01"), ("2", "99.98"), ("1", "99.97")]
    fills = [
        Execution(f"x{i}", "v1", ENTRY, "AAPL", Side.BUY, Decimal(qty), Decimal(price), Decimal(0), NOW)
        for i, (qty, price) in enumerate(sizes)
    ]
    steps = [("5", "99.99791666667", fills[:0]), ("6", "99.99333333333", fills[:0]), ("6", "99.99333333333", fills)]
    for filled, average, executions in steps:
        state = OrderState.FILLED if filled == "6" else OrderState.PARTIALLY_FILLED
        at_venue = told(placed, state, filled, average)
        book.change(ENTRY, lambda b, told=at_venue, known=executions: take_in(b, told, known, NOW, venue="alpaca"))
        kept = store.client.hget(store.keys.risk_counters(placed.trading_day), "filled_notional")
        assert int(kept) == micros(book.order(ENTRY).filled_notional)  # type: ignore[arg-type, union-attr]
    assert Decimal(int(kept)) == sum((f.qty * f.price for f in fills), Decimal(0)) * 1_000_000  # type: ignore[arg-type]


def test_recovery_when_redis_was_emptied_under_a_running_trader_takes_nothing_of_ours_for_others(
    start: Start, store: Store, book: RedisBook, broker: Broker, clock: ManualClock
) -> None:
    """Until it knows that its book is gone, it sees shares that nobody it knows of has bought."""
    place(broker, clock, order())
    book.adopt(order(state=OrderState.SUBMITTED))
    running = start()
    running.run()
    held = broker.positions()[0].qty
    store.client.flushdb()
    book.settle_exposure("AAPL", held)  # what two looks at an empty book come to
    again = start()
    drifts = []
    for _ in range(4):
        drifts.append(again.run().drift)
        clock.advance(1)
    assert [p.quantity for p in book.open_positions()] == [held]
    assert (drifts, again.suspects, book.exposure()["AAPL"]) == ([""] * 4, False, 0)
