"""What a person, the emergency worker or the venue itself does to our positions at the venue, over a real Redis."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from shared.clock import ManualClock, TradingCalendar
from shared.errors import OrderNotFound, StoreUnreachable
from shared.store import Store
from tests.builders import NOW, order
from tests.integration.test_recovery import Broker, NoGate
from worker.core.fills import EngineOptions
from worker.core.ledger import take_act
from worker.core.orders import GIVEN_UP, Order
from worker.core.types import (
    Bar,
    Effect,
    Execution,
    Instrument,
    OrderRequest,
    OrderState,
    OrderType,
    Side,
    VenueOrder,
)
from worker.trading.book import RedisBook
from worker.trading.desk import OrderDesk
from worker.trading.reconcile import Reconciler, Snapshot

ENTRY, EXIT, SECOND = "sbe1r0123456789", "sbx1r0123456789", "sbe1r9876543210"
S = OrderState


class Hand(Broker):
    """A broker whose parts can be missing: the list of fills, or an order of ours for a while."""

    tells_fills = True
    hidden: frozenset[str] = frozenset()
    lists = 0

    def fills_since(self, since: datetime) -> list[Execution]:
        return super().fills_since(since) if self.tells_fills else []

    def open_orders(self) -> list[VenueOrder]:
        return [o for o in super().open_orders() if o.client_order_id not in self.hidden]

    def orders_since(self, since: datetime) -> list[VenueOrder]:
        self.lists += 1
        return [o for o in super().orders_since(since) if o.client_order_id not in self.hidden]

    def order_by_client_id(self, client_order_id: str) -> VenueOrder:
        if client_order_id in self.hidden:
            raise OrderNotFound(client_order_id)
        return super().order_by_client_id(client_order_id)


class World:
    """One account, its book, and as many traders, one after the other, as a test wants."""

    def __init__(self, store: Store) -> None:
        self.store, self.clock = store, ManualClock(NOW)
        self.calendar = TradingCalendar(ZoneInfo("UTC"))
        options = EngineOptions(fee_rate=Decimal("0.001"), slippage=Decimal(0))
        self.venue = Hand(self.clock, {"AAPL": Instrument("AAPL")}, Decimal(1_000_000), options, lambda: 1.0)
        self.book = RedisBook(store, "default", self.calendar)
        self.start()

    def start(self) -> None:
        """A new process, with nothing in memory."""
        self.desk = OrderDesk(
            self.venue, NoGate(), self.book, self.clock, lambda *_a, **_k: None, lambda _n: nullcontext(), 60
        )
        self.reconciler = Reconciler(
            "default",
            self.venue,
            self.desk,
            self.book,
            self.clock,
            self.calendar,
            lambda *_a, **_k: None,
            lambda: None,
        )

    def look(self, times: int = 1) -> Snapshot:
        for _ in range(times):
            self.clock.advance(5)
            snapshot = self.reconciler.run()
        return snapshot

    def trade(self, name: str, side: Side, qty: int, price: float = 100.0) -> None:
        """An order by any name, filled at the venue."""
        self.venue.submit(OrderRequest(name, "AAPL", side, Decimal(qty)), lambda: None)
        self.clock.advance(60)
        self.venue.advance("AAPL", Bar(self.clock.now(), price, price, price, price, 1.0))

    def enter(self, name: str = ENTRY, qty: int = 10, price: float = 100.0) -> None:
        """An entry of ours, filled and in the book."""
        self.book.adopt(order(name, qty=Decimal(qty), state=S.SUBMITTED, created_at=self.clock.now()))
        self.trade(name, Side.BUY, qty, price)
        self.look(2)

    def position(self, name: str = ENTRY) -> dict[str, str]:
        found = self.store.client.hgetall(self.store.keys.position(name))
        return {k.decode(): v.decode() for k, v in found.items()}

    def external(self) -> list[Order]:
        names = self.store.client.zrange(self.store.keys.orders_history, 0, -1)
        found = [self.book.order(n.decode()) for n in names]
        return [o for o in found if o is not None and o.is_external]

    def figures(self) -> tuple[Any, ...]:
        keys = self.store.keys
        stats = self.store.get_json(keys.stats)
        assert isinstance(stats, dict)
        return self.position(), stats, self.store.get_json(keys.trades_log), self.book.exposure()


@pytest.fixture
def world(store: Store) -> World:
    return World(store)


def test_orders_of_others_when_many_are_gone_at_once_are_looked_up_in_one_list(world: World) -> None:
    """After a stop by hand at the venue, a list for each of a thousand would keep the trader away for minutes."""
    for name in ("one", "two", "three"):
        world.venue.submit(
            OrderRequest(name, "AAPL", Side.BUY, Decimal(1), OrderType.LIMIT, limit_price=Decimal(50)), lambda: None
        )
    world.look()
    world.venue.cancel_all()
    world.venue.lists = 0
    world.look()
    assert world.venue.lists == 1
    assert {o.state for o in world.external()} == {OrderState.CANCELED}
    assert len(world.external()) == 3


def test_position_when_closed_by_hand_is_a_round_trip_with_its_price_and_fee_counted_once(world: World) -> None:
    world.enter()
    world.trade("by-hand", Side.SELL, 10, 103.5)
    snapshot = world.look()
    kept = world.figures()
    position, stats, log, exposure = kept
    assert (position["status"], position["exit_reason"], position["exit_price"]) == ("CLOSED", "MANUAL", "103.5")
    assert Decimal(position["fees_paid"]) == Decimal("2.035")
    assert Decimal(position["realized_pnl"]) == Decimal("32.965")
    assert (stats["successful_trades"], stats["wins"]) == (1, 1)
    assert (Decimal(stats["exact"]["total_pnl"]), Decimal(stats["exact"]["fees_paid"])) == (
        Decimal("32.965"),
        Decimal("2.035"),
    )
    assert [(e["side"], e["qty"], e["price"], e["status"]) for e in log] == [
        ("buy", 10, 100, "filled"),
        ("sell", 10, 103.5, "filled"),
    ]
    assert log[1]["reason"].startswith("EXTERNAL")
    (foreign,) = world.external()
    assert position["exit_order_id"] == foreign.client_order_id
    assert (snapshot.drift, snapshot.external, sum(exposure.values())) == ("", frozenset(), 0)
    for _ in range(2):
        world.look(2)
        world.start()
        world.look()
        assert world.figures() == kept
    assert world.book.day("2026-03-02").counters.orders_per_ticker == {"AAPL": 1}  # ours alone


def test_position_when_closed_while_the_trader_was_away_for_days_is_closed_at_start(world: World) -> None:
    world.enter()
    world.clock.advance(3600)
    world.trade("by-hand", Side.SELL, 10, 99.0)
    world.clock.advance(4 * 86_400)
    world.start()
    snapshot = world.look()
    assert (snapshot.drift, world.reconciler.suspects) == ("", False)
    position = world.position()
    assert (position["status"], position["exit_price"], position["exit_reason"]) == ("CLOSED", "99.0", "MANUAL")
    assert Decimal(position["fees_paid"]) == Decimal("1.99")


def test_position_when_reduced_by_hand_keeps_the_rest_and_closes_by_our_exit(world: World) -> None:
    world.enter()
    world.trade("by-hand", Side.SELL, 4, 101.0)
    world.look(2)
    assert (world.position()["quantity"], world.position()["status"]) == ("6", "OPEN")
    world.book.adopt(
        order(EXIT, side=Side.SELL, effect=Effect.EXIT, qty=Decimal(6), position_id=ENTRY, state=S.ACCEPTED)
    )
    world.trade(EXIT, Side.SELL, 6, 102.0)
    world.look(2)
    position = world.position()
    gross = 4 * Decimal(101) + 6 * Decimal(102) - 1000
    assert Decimal(position["realized_pnl"]) == gross - Decimal("2.016")
    assert (position["status"], position["exit_order_id"]) == ("CLOSED", EXIT)


def test_position_when_added_to_by_hand_is_untouched_and_the_rest_is_others(world: World) -> None:
    world.enter()
    before = world.position()
    world.trade("more", Side.BUY, 5, 101.0)
    snapshot = world.look(3)
    assert (snapshot.drift, snapshot.external, world.book.exposure()) == ("", frozenset({"AAPL"}), {"AAPL": Decimal(5)})
    world.trade("less", Side.SELL, 5, 102.0)
    snapshot = world.look(3)
    assert (snapshot.drift, snapshot.external) == ("", frozenset())
    assert world.position() == before
    world.trade("more-again", Side.BUY, 2)
    world.trade("all", Side.SELL, 12, 104.0)
    snapshot = world.look(3)
    assert (snapshot.drift, snapshot.external) == ("", frozenset())
    position = world.position()
    assert (position["status"], Decimal(position["exit_price"])) == ("CLOSED", 104)
    assert Decimal(position["fees_paid"]) == 1 + Decimal("1.04")
    assert world.store.get_json("trades_log")[-1]["qty"] == 10  # type: ignore[index]


def test_positions_when_a_hand_closes_some_are_reduced_oldest_first(world: World) -> None:
    world.enter(qty=3)
    world.enter(SECOND, qty=4, price=101.0)
    world.trade("by-hand", Side.SELL, 5, 105.0)
    world.look(2)
    assert (world.position()["status"], Decimal(world.position()["sold_notional"])) == ("CLOSED", 315)
    assert (world.position(SECOND)["quantity"], Decimal(world.position(SECOND)["sold_notional"])) == ("2", 210)
    fees = Decimal(world.position()["fees_paid"]) + Decimal(world.position(SECOND)["fees_paid"])
    assert fees == Decimal("0.3") + Decimal("0.404") + Decimal("0.525")


def test_position_when_flattened_by_a_stop_says_so(world: World) -> None:
    world.enter()
    world.trade("f-20260302-AAPL-1", Side.SELL, 10, 98.0)
    world.start()
    world.look()
    assert (world.position()["exit_reason"], world.position()["status"]) == ("STOP", "CLOSED")


def test_position_when_liquidated_by_the_venue_says_so(world: World) -> None:
    world.enter()
    world.trade("margin", Side.SELL, 10, 90.0)
    book = world.venue.engine.book.orders
    venue_id = next(n for n, o in book.items() if o.client_order_id == "margin")
    book[venue_id] = replace(book[venue_id], liquidation=True)
    world.look()
    assert world.position()["exit_reason"] == "LIQUIDATION"


def test_position_when_the_venue_lists_no_fills_is_closed_by_the_orders_average(world: World) -> None:
    world.venue.tells_fills = False
    world.enter()
    world.trade("by-hand", Side.SELL, 10, 103.0)
    assert world.look().drift == ""
    assert (world.position()["status"], Decimal(world.position()["exit_price"])) == ("CLOSED", 103)
    world.venue.tells_fills = True
    world.start()
    world.look(2)
    assert Decimal(world.position()["fees_paid"]) == Decimal("2.03")  # the fills told later correct it
    assert Decimal(world.store.get_json("stats")["exact"]["total_pnl"]) == Decimal("27.97")  # type: ignore[index]


def test_position_when_its_order_is_told_by_nobody_is_closed_by_the_fills_alone(world: World) -> None:
    world.enter()
    world.trade("by-hand", Side.SELL, 10, 103.0)
    world.venue.hidden = frozenset({"by-hand"})
    world.look(2)
    assert (world.position()["status"], Decimal(world.position()["exit_price"])) == ("CLOSED", 103)


def test_hand_when_the_process_dies_between_its_order_and_its_fills_is_counted_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.enter()
    world.trade("by-hand", Side.SELL, 10, 103.0)
    change, calls = world.book.change, list[str]()

    def dying(name: str, step: Callable[..., Any]) -> Any:
        calls.append(name)
        if calls.count(name) == 2:
            raise StoreUnreachable("gone")
        return change(name, step)

    monkeypatch.setattr(world.book, "change", dying)
    with pytest.raises(StoreUnreachable):
        world.look()
    monkeypatch.undo()
    assert [o.filled_qty for o in world.external()] == [0]
    world.start()
    world.look()
    assert world.position()["status"] == "CLOSED"


def test_drift_when_nothing_explains_it_is_still_one_when_seen_twice(world: World) -> None:
    world.enter()
    world.venue.engine.book.holdings["AAPL"].qty = Decimal(7)
    assert world.look().drift == ""
    assert world.look().drift == "AAPL: 10 in the book, 7 at the venue"
    assert world.reconciler.suspects


def test_holding_when_of_others_from_before_is_settled_and_never_ours(world: World) -> None:
    world.trade("old", Side.BUY, 5)
    world.clock.advance(3 * 86_400)
    world.start()
    assert world.look().external == frozenset({"AAPL"})
    world.look()
    world.trade("by-hand", Side.SELL, 5)
    snapshot = world.look(2)
    assert (snapshot.external, snapshot.drift) == (frozenset(), "")
    assert not any(world.book.exposure().values())


@pytest.mark.parametrize("by_hand", [False, True])
def test_order_when_given_up_and_visible_later_is_taken_up_with_its_fills(world: World, by_hand: bool) -> None:
    world.book.adopt(order(state=S.UNKNOWN, created_at=world.clock.now()))
    world.venue.hidden = frozenset({ENTRY})
    world.trade(ENTRY, Side.BUY, 10)
    world.clock.advance(60)
    world.look(2)
    assert world.book.order(ENTRY).state is S.ABSENT  # type: ignore[union-attr]
    assert world.external() == []  # a fill that may be ours is nobody else's
    if by_hand:
        world.book.change(ENTRY, lambda b: take_act(b, S.NOT_SENT, world.clock.now(), GIVEN_UP))
        world.look(2)
        assert world.external() == []
    world.venue.hidden = frozenset()
    world.look(2)
    found = world.book.order(ENTRY)
    assert found is not None
    assert (found.state, found.filled_qty) == (S.FILLED, 10)
    assert (world.position()["quantity"], world.external()) == ("10", [])


def test_order_when_resolved_by_hand_and_working_later_is_taken_up(world: World) -> None:
    world.book.adopt(order(state=S.NOT_SENT, created_at=world.clock.now()))
    world.venue.submit(order().request(), lambda: None)
    world.look()
    assert world.book.order(ENTRY).state is S.ACCEPTED  # type: ignore[union-attr]
    assert [o.client_order_id for o in world.book.open_orders()] == [ENTRY]
