"""A change of the book is all or nothing, whatever somebody has put into a key by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from shared.clock import TradingCalendar
from shared.errors import StoreRefused
from shared.keys import TRADES_LOG_LENGTH
from shared.store import Store
from tests.builders import order, told
from worker.core.ledger import Bundle, take_in
from worker.core.types import Execution, OrderState, Side
from worker.trading.book import RedisBook

CALENDAR = TradingCalendar(ZoneInfo("UTC"))
NAME = "sbe1r0123456789"
DAY = "2026-03-02"


@pytest.fixture
def book(store: Store) -> RedisBook:
    made = RedisBook(store, "default", CALENDAR)
    made.adopt(order(NAME, trading_day=DAY))
    return made


def snapshot(store: Store) -> dict[bytes, bytes | None]:
    """Every key as it stands, the scripts aside."""
    return {key: store.client.dump(key) for key in store.client.keys("*")}  # type: ignore[misc,union-attr]


def fill(qty: str) -> object:
    now = datetime.now(UTC)
    execution = Execution(f"x{qty}", "v1", NAME, "AAPL", Side.BUY, Decimal(qty), Decimal(100), Decimal(0), now)

    def step(bundle: Bundle) -> Bundle:
        news = told(bundle.order, OrderState.PARTIALLY_FILLED, qty, "100")
        return take_in(bundle, news, (execution,), now, venue="test")

    return step


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("orders:open", "string"),
        ("positions:open", "list"),
        ("positions:closed", "string"),
        (f"risk_counters:{DAY}", "list"),
        (f"fills:{NAME}", "string"),
        (f"position:{NAME}", "list"),
        (f"order:{NAME}", "string"),
    ],
)
def test_change_when_a_key_holds_another_type_writes_nothing_at_all(
    book: RedisBook, store: Store, key: str, kind: str
) -> None:
    """A MULTI would go on after the command that fails: an order filled whose position is not there."""
    kept = store.client.dump(key)
    store.client.delete(key)
    store.client.set(key, "garbage") if kind == "string" else store.client.rpush(key, "garbage")
    before = snapshot(store)
    with pytest.raises(StoreRefused, match="WRONGTYPE"):
        book.change(NAME, fill("4"))  # type: ignore[arg-type]
    assert snapshot(store) == before
    store.client.delete(key)
    if kept is not None:
        store.client.restore(key, 0, kept)  # type: ignore[arg-type]
    book.change(NAME, fill("4"))  # type: ignore[arg-type]
    (position,) = book.open_positions()
    assert position.quantity == 4
    assert book.day(DAY).filled_orders == 1


@pytest.mark.parametrize("value", ["nan", "1.5", "", "text", "99999999999999999999"])
def test_change_when_a_counter_is_no_count_writes_nothing_at_all(book: RedisBook, store: Store, value: str) -> None:
    store.client.hset(f"risk_counters:{DAY}", "filled_notional", value)
    before = snapshot(store)
    with pytest.raises(StoreRefused, match="filled_notional"):
        book.change(NAME, fill("4"))  # type: ignore[arg-type]
    assert snapshot(store) == before
    store.client.hdel(f"risk_counters:{DAY}", "filled_notional")
    book.change(NAME, fill("4"))  # type: ignore[arg-type]
    assert book.day(DAY).filled_notional == 400


@pytest.mark.parametrize("key", ["events", "trades_log", "stats"])
def test_change_when_what_only_shows_is_mangled_is_made_all_the_same(book: RedisBook, store: Store, key: str) -> None:
    store.client.delete(key)
    store.client.rpush(key, "garbage")
    book.change(NAME, fill("4"))  # type: ignore[arg-type]
    (position,) = book.open_positions()
    assert position.quantity == 4
    assert store.client.type(key) == (b"list" if key == "events" else b"string")


@pytest.mark.parametrize(("price", "events"), [("100", 1), ("100.00004", 1), ("99.9", 2)])
def test_event_when_a_fill_is_heard_of_once_more_is_not_told_again(
    book: RedisBook, store: Store, price: str, events: int
) -> None:
    """Pushed and listed, an execution goes by two ids; whoever reads events would hear of two fills."""
    book.change(NAME, fill("10"))  # type: ignore[arg-type]
    told_once = store.client.xlen("events")

    def listed(bundle: Bundle) -> Bundle:
        again = replace(bundle.executions["x10"], execution_id="listed", derived=True, price=Decimal(price))
        bundle = replace(bundle, executions={})
        return take_in(bundle, told(bundle.order, OrderState.FILLED, "10", "100"), (again,), again.time, venue="test")

    change = book.change(NAME, listed)
    assert change is not None
    assert change.changed
    assert (told_once, store.client.xlen("events")) == (1, events)


def test_change_when_another_writer_is_first_starts_from_what_it_wrote(book: RedisBook, store: Store) -> None:
    other, turns = RedisBook(store, "default", CALENDAR), []

    def step(bundle: Bundle) -> Bundle:
        if not turns:
            other.change(NAME, fill("4"))  # type: ignore[arg-type]
        turns.append(bundle.order.filled_qty)
        return replace(bundle, order=replace(bundle.order, note="seen"))

    change = book.change(NAME, step)
    assert turns == [0, 4]
    assert change is not None
    assert (change.after.order.note, change.after.order.filled_qty) == ("seen", 4)
    stored = book.order(NAME)
    assert stored is not None
    assert (stored.note, stored.filled_qty, stored.version) == ("seen", 4, 2)


def test_trades_log_when_two_books_write_in_turn_is_the_log_of_both(store: Store) -> None:
    """Each remembers what it wrote last; what the other wrote meanwhile must count all the same."""
    books = [RedisBook(store, "default", CALENDAR), RedisBook(store, "default", CALENDAR)]
    names = [f"sbe1r{number:010}" for number in range(TRADES_LOG_LENGTH + 20)]
    for number, name in enumerate(names):
        books[number % 2].refused(order(name))
    for number in (-1, -2):
        books[0].refused(order(names[number], note="again"))
    log = store.get_json("trades_log")
    assert [entry["client_order_id"] for entry in log] == names[-TRADES_LOG_LENGTH:]
    assert ["again" in entry["reason"] for entry in log[-3:]] == [False, True, True]
