"""Figures that were lost by themselves, over a real Redis: a deleted key lifts no limit and doubles no fill."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from shared.clock import ManualClock, TradingCalendar
from shared.store import Store
from tests.builders import NOW, order, told
from worker.core.ledger import take_act, take_in
from worker.core.orders import Order
from worker.core.types import Effect, Execution, OrderState, Side
from worker.trading.book import RedisBook
from worker.trading.mend import Mender

ENTRY, EXIT, REFUSED = "sbe1r0123456789", "sbx1r0123456789", "sbe1r9999999999"
COUNTERS = "risk_counters:2026-03-02"


@pytest.fixture
def calendar() -> TradingCalendar:
    return TradingCalendar(ZoneInfo("UTC"))


@pytest.fixture
def book(store: Store, calendar: TradingCalendar) -> RedisBook:
    """A round trip, and an order that was refused."""
    made = RedisBook(store, "default", calendar)
    trade(made, order(), "100")
    leave = order(EXIT, side=Side.SELL, effect=Effect.EXIT, position_id=ENTRY, ticker="AAPL")
    trade(made, leave, "103.5")
    made.adopt(order(REFUSED, ticker="MSFT", reserved=0))
    made.change(REFUSED, lambda bundle: take_act(bundle, OrderState.REJECTED, NOW, "no"))
    return made


@pytest.fixture
def mender(store: Store, calendar: TradingCalendar) -> Mender:
    return Mender(store, ManualClock(NOW + timedelta(hours=1)), calendar)


def trade(book: RedisBook, wanted: Order, price: str) -> None:
    """Admitted and filled whole."""
    book.adopt(replace(wanted, reserved=0))
    fill(book, wanted, price)


def fill(book: RedisBook, wanted: Order, price: str) -> None:
    name, venue_id = wanted.client_order_id, f"v-{wanted.client_order_id}"
    execution = Execution(
        f"x-{name}", venue_id, name, wanted.ticker, wanted.side, Decimal(10), Decimal(price), Decimal(0), NOW
    )
    news = told(wanted, OrderState.FILLED, "10", price)
    book.change(name, lambda bundle: take_in(bundle, news, [execution], NOW, venue="test"))


def everything(store: Store) -> dict[str, Any]:
    client = store.client
    return {
        "counters": client.hgetall(COUNTERS),
        "stats": store.get_json("stats"),
        "position": client.hgetall(f"position:{ENTRY}"),
        "open": client.smembers("positions:open") | client.smembers("orders:open"),
    }


def test_mender_when_nothing_was_lost_changes_nothing(store: Store, book: RedisBook, mender: Mender) -> None:
    before = everything(store)
    assert before["counters"][b"orders"] == b"2"
    mender.run()
    assert everything(store) == before
    assert book.stats().failed == 1


def test_mender_when_the_days_counters_were_deleted_counts_todays_orders_again(
    store: Store, book: RedisBook, mender: Mender
) -> None:
    before = book.day("2026-03-02")
    store.client.delete(COUNTERS, "risk_last_trade")
    mender.run()
    after = book.day("2026-03-02")
    assert (after.counters.notional, after.filled_notional) == (before.counters.notional, before.filled_notional)
    assert after.counters.orders_per_ticker["AAPL"] == before.counters.orders_per_ticker["AAPL"] == 2
    assert after.last_trade == {"AAPL": NOW}


def test_mender_when_counters_are_higher_than_the_orders_keeps_them(
    store: Store, book: RedisBook, mender: Mender
) -> None:
    assert book.open_orders() == []
    store.client.hset(COUNTERS, "notional", "99000000000")
    mender.run()
    assert store.client.hget(COUNTERS, "notional") == b"99000000000"


@pytest.mark.parametrize("found", [None, b'"garbage"', b'{"exact": {}}'])
def test_mender_when_the_statistics_were_lost_sums_the_round_trips_again(
    store: Store, book: RedisBook, mender: Mender, found: bytes | None
) -> None:
    before = store.get_json("stats")
    assert before["total_pnl"] == 35
    if found is None:
        store.client.delete("stats")
    else:
        store.client.set("stats", found)
    mender.run()
    assert store.get_json("stats") == before
    assert book.stats().total.wins == 1


@pytest.mark.parametrize("name", [ENTRY, EXIT])
def test_adopt_when_only_the_orders_hash_was_lost_counts_nothing_twice(
    store: Store, book: RedisBook, name: str
) -> None:
    lost = book.order(name)
    assert lost is not None
    before = everything(store)
    store.client.delete(f"order:{name}")
    book.adopt(
        replace(
            lost,
            state=OrderState.SUBMITTED,
            filled_qty=Decimal(0),
            filled_notional=Decimal(0),
            reserved=0,
            position_id="other",
        )
    )
    fill(book, lost, "100" if name == ENTRY else "103.5")
    assert everything(store) == before
    found = book.order(name)
    assert found is not None
    assert (found.state, found.filled_qty, found.position_id) == (OrderState.FILLED, 10, ENTRY)


def test_day_when_it_begins_shows_no_profit_of_the_day_before(
    store: Store, calendar: TradingCalendar, book: RedisBook
) -> None:
    """No fill may come all day, and whoever looks would read yesterday's profit as today's."""
    clock = ManualClock(NOW)
    mender = Mender(store, clock, calendar)
    mender.show_day()
    before = store.get_json("stats")
    assert isinstance(before, dict)
    assert before["today_pnl"] == before["total_pnl"] == 35
    clock.advance(86_400)
    mender.show_day()
    after = store.get_json("stats")
    assert after == before | {"today_pnl": 0}


def test_figures_when_no_order_was_made_yet_are_there_and_empty(store: Store, calendar: TradingCalendar) -> None:
    Mender(store, ManualClock(NOW), calendar).show_day()
    stats = store.get_json("stats")
    assert isinstance(stats, dict)
    assert (stats["total_trades"], stats["win_rate"], stats["by_day"]) == (0, None, {})
    assert store.get_json("trades_log") == []


@pytest.mark.parametrize("mangled", [b"[", b'"x"'])
def test_figures_when_they_cannot_be_read_are_left_as_they_stand(
    store: Store, calendar: TradingCalendar, book: RedisBook, mangled: bytes
) -> None:
    store.client.set("stats", mangled)
    store.client.set("trades_log", mangled)
    Mender(store, ManualClock(NOW), calendar).show_day()
    assert (store.read_raw("stats"), store.read_raw("trades_log")) == (mangled, mangled)
