"""A take-profit and a stop-loss as one order: in the matching engine, in the book, and folded from Alpaca's two."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import NOW, order, told
from worker.core.fills import EngineOptions
from worker.core.ledger import Bundle, take_in
from worker.core.matching import MatchingEngine
from worker.core.orders import NO_STOP, Order, observe
from worker.core.positions import Position
from worker.core.refusal import OrderRefused
from worker.core.types import Bar, Effect, Instrument, OrderRequest, OrderState, OrderType, OrderUpdate, Side
from worker.core.venue_book import Book
from worker.trading.records import order_fields, read_order
from worker.venues.alpaca.pairs import Pairs
from worker.venues.simulated.ledger import Ledger

S = OrderState
START = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
NAME = "sbx7r0123456789"
INSTRUMENTS = {"A": Instrument("A", protective_pair=True), "B": Instrument("B")}


# -- the matching engine ----------------------------------------------------------------------------------------------


def engine(book: Book | None = None, **options: Any) -> MatchingEngine:
    chosen = EngineOptions(**{"slippage": Decimal(0), "fee_rate": Decimal(0), **options})
    return MatchingEngine(book or Book(Decimal(100_000)), INSTRUMENTS.get, chosen, lambda: 0.0)


def holding(**options: Any) -> MatchingEngine:
    """Ten held, and a pair for them: 105 and 95."""
    venue = engine(**options)
    venue.place(OrderRequest("entry", "A", Side.BUY, Decimal(10)), START)
    while venue.working():
        venue.on_price("A", Decimal(100), START)
    venue.place(pair(), START)
    return venue


def pair(**changes: Any) -> OrderRequest:
    values: dict[str, Any] = {
        "client_order_id": NAME,
        "ticker": "A",
        "side": Side.SELL,
        "qty": Decimal(10),
        "type": OrderType.LIMIT,
        "limit_price": Decimal(105),
        "stop_price": Decimal(95),
    }
    return OrderRequest(**(values | changes))


def sales(updates: list[OrderUpdate]) -> list[tuple[Decimal, Decimal, Decimal]]:
    """Quantity and price of each, and what the stop has sold by then."""
    return [(u.execution.qty, u.execution.price, u.order.stop_filled_qty) for u in updates if u.execution]


@pytest.mark.parametrize(("price", "sold"), [("105.5", ("105", 0)), ("95", ("95", 10)), ("94", ("94", 10))])
def test_pair_when_a_trade_reaches_either_half_sells_once(price: str, sold: tuple[str, int]) -> None:
    venue = holding()
    assert venue.on_price("A", Decimal(96), START) == []
    assert sales(venue.on_price("A", Decimal(price), START)) == [(10, Decimal(sold[0]), sold[1])]
    assert venue.on_price("A", Decimal(90), START) == venue.on_price("A", Decimal(110), START) == []
    assert venue.holding("A").qty == 0


@pytest.mark.parametrize(
    ("bar", "sold"),
    [
        ((100, 106, 99, 100), ("105", 0)),
        ((100, 101, 94, 100), ("95", 10)),
        ((93, 101, 92, 100), ("93", 10)),
        ((100, 106, 94, 100), ("95", 10)),  # both: the stop-loss counts
        ((100, 104, 96, 100), None),
    ],
)
def test_pair_when_a_bar_reaches_it_fills_within_the_bar(bar: tuple[int, ...], sold: tuple[str, int] | None) -> None:
    opened, high, low, close = (float(v) for v in bar)
    updates = holding().on_bar("A", Bar(START + timedelta(minutes=1), opened, high, low, close, 1.0))
    assert sales(updates) == ([] if sold is None else [(10, Decimal(sold[0]), sold[1])])


def test_pair_when_its_limit_sells_a_part_and_the_stop_is_met_sells_the_rest_through_a_restart(tmp_path: Path) -> None:
    venue = holding(partial_chance=1.0)
    assert sales(venue.on_price("A", Decimal(105), START)) == [(5, Decimal(105), 0)]
    assert sales(venue.on_price("A", Decimal(95), START)) == [(2, Decimal(95), 2)]
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.commit(venue.book, venue.book.orders.values(), venue.book.executions)
    ledger.close()
    again = Ledger(tmp_path / "ledger.db")
    young = engine(again.load(Decimal(0)))
    again.close()
    assert sales(young.on_price("A", Decimal(100), START)) == [(3, Decimal(100), 5)]  # a met stop is a market order
    assert young.working() == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"stop_price": Decimal(105)}, "bad_pair"),
        ({"stop_price": Decimal(-1)}, "bad_pair"),
        ({"side": Side.BUY}, "bad_pair"),
        ({"ticker": "B"}, "no_pairs"),
        ({"qty": Decimal(11)}, "insufficient_quantity"),
    ],
)
def test_pair_when_it_makes_no_sense_is_refused(changes: dict[str, Any], code: str) -> None:
    venue = holding()
    venue.cancel(venue.working()[0].venue_order_id, START)
    with pytest.raises(OrderRefused) as refused:
        venue.place(pair(client_order_id="another", **changes), START)
    assert refused.value.code == code


# -- the book ---------------------------------------------------------------------------------------------------------


def exit_order(**changes: Any) -> Order:
    values = {
        "side": Side.SELL,
        "effect": Effect.EXIT,
        "type": OrderType.LIMIT,
        "limit_price": Decimal(105),
        "stop_price": Decimal(95),
        "exit_reason": "TP_HIT",
        "position_id": "entry",
        "state": S.ACCEPTED,
    }
    return order(NAME, **(values | changes))


def test_order_when_it_is_a_pair_is_kept_and_read_with_its_stop() -> None:
    kept = exit_order()
    stored = {k.encode(): v.encode() for k, v in order_fields(kept).items()}
    assert read_order(stored) == kept
    del stored[b"stop_price"]  # as an earlier version has written it
    assert read_order(stored).stop_price is None
    assert kept.request().stop_price == Decimal(95)


def test_position_when_the_stop_sold_the_last_of_it_is_closed_by_the_stop() -> None:
    held = Position("entry", "7", "x", "default", "AAPL", "long", "entry", NOW, bought_qty=Decimal(10))
    part = told(exit_order(), S.PARTIALLY_FILLED, "4", "105", stop_price=Decimal(95))
    first = take_in(Bundle(exit_order(), {}, held), part, (), NOW, venue="x")
    rest = told(exit_order(), S.FILLED, "10", "99", stop_filled_qty=Decimal(6))
    last = take_in(first, rest, (), NOW, venue="x")
    assert first.position is not None
    assert last.position is not None
    assert (first.position.exit_reason, last.position.exit_reason) == ("", "SL_HIT")
    assert take_in(last, rest, (), NOW, venue="x") == last


def test_order_when_the_venue_shows_no_stop_is_a_limit() -> None:
    known = exit_order()
    assert observe(known, told(known, S.SUBMITTED), (), NOW).stop_price == Decimal(95)
    plain = observe(known, told(known, S.ACCEPTED), (), NOW)
    assert (plain.stop_price, plain.note, plain.exit_reason) == (None, NO_STOP, "TP_HIT")
    assert observe(known, told(known, S.CANCELED), (), NOW).stop_price == Decimal(95)


# -- Alpaca's two orders ----------------------------------------------------------------------------------------------


def row(name: str, status: str, **changes: Any) -> dict[str, Any]:
    leg = name == "leg"
    return {
        "id": name,
        "client_order_id": "made-by-alpaca" if leg else NAME,
        "created_at": "2026-03-02T15:00:00Z",
        "updated_at": "2026-03-02T15:00:01Z",
        "symbol": "AAPL",
        "side": "sell",
        "qty": "10",
        "filled_qty": "0",
        "filled_avg_price": None,
        "type": "stop" if leg else "limit",
        "limit_price": None if leg else "105",
        "stop_price": "95" if leg else None,
        "order_class": "oco",
        "status": status,
        "legs": None,
        **changes,
    }


def event(kind: str, shown: Mapping[str, Any], qty: str = "", price: str = "") -> dict[str, Any]:
    fill = {"execution_id": f"{shown['id']}-{shown['filled_qty']}", "qty": qty, "price": price} if qty else {}
    return {"event": kind, "order": shown, "timestamp": "2026-03-02T15:00:02Z", **fill}


PART = {"filled_qty": "4", "filled_avg_price": "105"}
LIFE = [
    event("new", row("parent", "new")),
    event("held", row("leg", "held")),
    event("partial_fill", row("parent", "partially_filled", **PART), "4", "105"),
    event("canceled", row("parent", "canceled", **PART)),
    event("new", row("leg", "new", qty="6")),
    event("partial_fill", row("leg", "partially_filled", qty="6", filled_qty="2", filled_avg_price="94"), "2", "94"),
    event("fill", row("leg", "filled", qty="6", filled_qty="6", filled_avg_price="94"), "4", "94"),
]


@settings(deadline=None)
@given(st.lists(st.integers(0, len(LIFE) - 1), max_size=20), st.booleans())
def test_pair_when_its_stream_repeats_swaps_and_loses_is_in_the_end_what_rest_tells(
    told_by_stream: list[int], known: bool
) -> None:
    pairs = Pairs()
    if known:
        pairs.orders([row("parent", "new", legs=[row("leg", "held")])])
    filled, fills = Decimal(0), set()
    for number in told_by_stream:
        update = pairs.update(LIFE[number])
        if update.order.client_order_id == NAME:
            assert filled <= update.order.filled_qty <= 10  # only grows
            filled = update.order.filled_qty
            if update.execution is not None:
                fills.add((update.execution.venue_order_id, update.execution.execution_id))
        else:
            assert not known
    leg = row("leg", "filled", qty="6", filled_qty="6", filled_avg_price="94")
    found = pairs.order(row("parent", "canceled", legs=[leg], **PART))
    assert (found.state, found.filled_qty, found.stop_filled_qty) == (S.FILLED, 10, 6)
    assert found.avg_fill_price == (4 * Decimal(105) + 6 * Decimal(94)) / 10
    assert {venue_id for venue_id, _ in fills} <= {"parent"}


@pytest.mark.parametrize(
    ("parent", "leg", "state"),
    [
        ("new", "held", S.ACCEPTED),
        ("pending_cancel", "held", S.PENDING_CANCEL),
        ("canceled", "held", S.PENDING_CANCEL),
        ("canceled", "new", S.ACCEPTED),
        ("replaced", "new", S.ACCEPTED),
        ("canceled", "canceled", S.CANCELED),
        ("replaced", "canceled", S.CANCELED),
        ("expired", "expired", S.EXPIRED),
        ("rejected", "rejected", S.REJECTED),
    ],
)
def test_pair_when_its_halves_stand_apart_is_over_only_when_both_are(parent: str, leg: str, state: OrderState) -> None:
    found = Pairs().order(row("parent", parent, legs=[row("leg", leg)]))
    assert found.state is state
    assert (found.stop_price is not None) == (leg in {"held", "new"})


def test_leg_when_it_is_replaced_by_a_smaller_one_stays_the_pairs() -> None:
    pairs = Pairs()
    pairs.order(row("parent", "new", legs=[row("leg", "held")]))
    pairs.update(event("replaced", row("leg", "replaced", replaced_by="leg2")))
    update = pairs.update(event("held", row("leg", "held", qty="6") | {"id": "leg2", "replaces": "leg"}))
    assert (update.order.client_order_id, update.order.stop_price) == (NAME, Decimal(95))
    assert pairs.name("leg2") == "parent"
