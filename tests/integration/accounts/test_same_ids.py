"""Two venues number their orders alike; each account's book keeps its own."""

from __future__ import annotations

from contextlib import nullcontext
from decimal import Decimal
from zoneinfo import ZoneInfo

from shared.clock import ManualClock, TradingCalendar
from shared.store import Store
from tests.builders import NOW, order
from worker.core.fills import EngineOptions
from worker.core.types import Instrument, OrderState, OrderType
from worker.trading.book import RedisBook
from worker.trading.desk import OrderDesk
from worker.trading.reconcile import Reconciler
from worker.venues.simulated.local import LocalVenue


class NoGate:
    """Nothing is sent here."""

    def admit(self, _ticket: object) -> None:
        raise AssertionError("a reconciliation sends nothing")


def account(name: str, store: Store, clock: ManualClock) -> tuple[LocalVenue, RedisBook, Reconciler]:
    calendar = TradingCalendar(ZoneInfo("UTC"))
    venue = LocalVenue(clock, {"AAPL": Instrument("AAPL")}, Decimal(1000), EngineOptions(), lambda: 1.0)
    book = RedisBook(store, name, calendar)
    desk = OrderDesk(venue, NoGate(), book, clock, lambda *_a, **_k: None, lambda _n: nullcontext(), 60)
    return venue, book, Reconciler(name, venue, desk, book, clock, calendar, lambda *_a, **_k: None, lambda: None)


def test_foreign_orders_when_two_venues_give_the_same_id_stay_apart(store: Store) -> None:
    clock = ManualClock(NOW)
    accounts = {name: account(name, store, clock) for name in ("default", "b")}
    for qty, (venue, _, _) in enumerate(accounts.values(), 1):
        wanted = order("owner", qty=Decimal(qty), type=OrderType.LIMIT, limit_price=Decimal(1))
        venue.submit(wanted.request(), lambda: None)
    for _ in range(2):
        for _, _, reconciler in accounts.values():
            reconciler.run()
    for qty, (name, shown) in enumerate({"default": "sim-1", "b": "b:sim-1"}.items(), 1):
        found = accounts[name][1].open_orders()
        assert [(o.client_order_id, o.venue_order_id, o.account, o.qty) for o in found] == [(shown, "sim-1", name, qty)]
    assert accounts["b"][1].order("sim-1") is None


def test_names_when_two_venues_give_the_same_id_are_the_accounts_own(store: Store) -> None:
    """A fill without our id is looked for by the venue's, and must not land in another account's order."""
    clock = ManualClock(NOW)
    books = {name: account(name, store, clock)[1] for name in ("default", "b")}
    for number, (name, book) in enumerate(books.items()):
        mine = order(f"sbe1r000000000{number}", account=name, venue_order_id="7", state=OrderState.CANCELED)
        book.adopt(mine)
    assert {name: book.names_of({"7"}) for name, book in books.items()} == {
        "default": {"7": "sbe1r0000000000"},
        "b": {"7": "sbe1r0000000001"},
    }
