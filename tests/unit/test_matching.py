"""The matching engine keeps exact accounts, never fills before the decision, and repeats itself from a seed."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.core.fills import EngineOptions
from worker.core.matching import MatchingEngine
from worker.core.refusal import OrderRefused
from worker.core.types import Bar, Instrument, OrderRequest, OrderState, OrderType, Side
from worker.core.venue_book import Book
from worker.venues.simulated.market import EPOCH, SeededMarket

START = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
CASH = Decimal(100_000)


def engine(seed: int = 1, **options: object) -> MatchingEngine:
    dice = random.Random(seed)
    chosen = EngineOptions(**options)  # type: ignore[arg-type]
    return MatchingEngine(Book(CASH), {"A": Instrument("A"), "B": Instrument("B")}.get, chosen, dice.random)


def bar(minute: int, opened: float, high: float, low: float, close: float) -> Bar:
    return Bar(START + timedelta(minutes=minute), opened, high, low, close, 100.0)


def market(name: str, side: Side = Side.BUY, qty: int = 10) -> OrderRequest:
    return OrderRequest(name, "A", side, Decimal(qty))


def test_on_bar_when_decided_at_a_close_fills_at_the_next_open_with_slippage_inside_the_bar() -> None:
    venue = engine(slippage=Decimal("0.01"))
    venue.on_bar("A", bar(0, 100.0, 101.0, 99.0, 100.5))
    venue.place(market("one"), START + timedelta(minutes=1))
    assert venue.on_bar("A", bar(0, 100.0, 101.0, 99.0, 100.5)) == []
    update = venue.on_bar("A", bar(1, 100.4, 100.9, 100.0, 100.2))[0]
    assert update.execution is not None
    assert update.execution.price == Decimal("100.9")
    assert update.execution.time == START + timedelta(minutes=1)


@pytest.mark.parametrize(
    ("opened", "low", "price"), [(100.4, 99.0, "99.5"), (99.2, 99.0, "99.2"), (100.4, 99.51, None)]
)
def test_limit_when_the_bar_reaches_it_fills_at_it_or_better(opened: float, low: float, price: str | None) -> None:
    venue = engine()
    request = OrderRequest("one", "A", Side.BUY, Decimal(1), OrderType.LIMIT, limit_price=Decimal("99.5"))
    venue.place(request, START)
    updates = venue.on_bar("A", bar(0, opened, 101.0, low, 100.0))
    assert [u.execution.price for u in updates if u.execution] == ([Decimal(price)] if price else [])


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (OrderRequest("one", "Z", Side.BUY, Decimal(1)), "unknown_ticker"),
        (OrderRequest("one", "A", Side.BUY, Decimal("0.5")), "bad_quantity"),
        (OrderRequest("one", "A", Side.BUY, Decimal("NaN")), "bad_quantity"),
        (OrderRequest("one", "A", Side.SELL, Decimal(1)), "insufficient_quantity"),
        (OrderRequest("one", "A", Side.BUY, Decimal(2000)), "insufficient_buying_power"),
        (OrderRequest("one", "A", Side.BUY, Decimal(1), OrderType.LIMIT), "bad_price"),
        (OrderRequest("one", "A", Side.BUY, Decimal(1), OrderType.STOP), "bad_type"),
    ],
)
def test_place_when_the_order_cannot_be_refuses_with_a_code(request_: OrderRequest, code: str) -> None:
    venue = engine()
    venue.on_price("A", Decimal(100), START)
    with pytest.raises(OrderRefused) as refused:
        venue.place(request_, START)
    assert refused.value.code == code
    assert venue.book.orders == {}


def test_place_when_latency_has_not_passed_does_not_fill() -> None:
    venue = engine(latency=timedelta(milliseconds=20))
    venue.on_price("A", Decimal(100), START)
    venue.place(market("one"), START)
    assert venue.on_price("A", Decimal(100), START + timedelta(milliseconds=19)) == []
    assert venue.on_price("A", Decimal(100), START + timedelta(milliseconds=20)) != []


Step = st.tuples(st.sampled_from(["buy", "sell", "limit", "cancel"]), st.integers(1, 60), st.integers(9000, 11000))


def play(seed: int, steps: list[tuple[str, int, int]]) -> MatchingEngine:
    venue = engine(seed, partial_chance=0.5)
    now = START
    for number, (kind, qty, cents) in enumerate(steps):
        now += timedelta(seconds=1)
        price = Decimal(cents) / 100
        try:
            if kind == "cancel" and venue.working():
                venue.cancel(venue.working()[0].venue_order_id, now)
            elif kind == "limit":
                venue.place(
                    OrderRequest(f"o{number}", "A", Side.BUY, Decimal(qty), OrderType.LIMIT, limit_price=price), now
                )
            elif kind != "cancel":
                venue.place(market(f"o{number}", Side(kind), qty), now)
        except OrderRefused:
            pass
        venue.on_price("A", price, now)
    return venue


@settings(max_examples=60)
@given(st.integers(0, 99), st.lists(Step, max_size=40))
def test_accounts_when_anything_was_traded_reconcile_to_the_executions(
    seed: int, steps: list[tuple[str, int, int]]
) -> None:
    venue = play(seed, steps)
    cash, held = CASH, Decimal(0)
    for done in venue.book.executions:
        cash -= done.side.sign * done.qty * done.price + done.fee
        held += done.side.sign * done.qty
        assert held >= 0
    assert venue.book.cash == cash >= 0
    assert venue.holding("A").qty == held
    for order in venue.book.orders.values():
        fills = [e for e in venue.book.executions if e.venue_order_id == order.venue_order_id]
        assert order.filled_qty == sum((e.qty for e in fills), Decimal(0)) <= order.qty
        assert (order.state is OrderState.FILLED) == (order.filled_qty == order.qty)
    assert play(seed, steps).book == venue.book


def test_market_when_asked_again_or_in_pieces_gives_the_same_bars() -> None:
    one, other = SeededMarket(6, ["AAPL"]), SeededMarket(6, ["AAPL", "MSFT"])
    until = datetime(2026, 11, 2, 12, 0, 30, tzinfo=UTC)
    whole = one.bars("AAPL", 600, until)
    assert len(whole) == 600
    assert other.bars("AAPL", 7, until) == whole[-7:]
    assert other.bars("AAPL", 1, whole[100].start + timedelta(minutes=1)) == [whole[100]]
    assert SeededMarket(7, ["AAPL"]).bars("AAPL", 600, until) != whole
    assert all(b.low <= min(b.open, b.close) <= max(b.open, b.close) <= b.high for b in whole)
    assert all(a.close == b.open for a, b in itertools.pairwise(whole))


def test_last_price_when_inside_a_minute_is_inside_its_bar_and_ends_at_its_close() -> None:
    market_ = SeededMarket(6, ["AAPL"])
    minute = int((datetime(2026, 11, 2, 12, 0, tzinfo=UTC) - EPOCH).total_seconds() // 60)
    found = market_.bar("AAPL", minute)
    for quarter in range(240):
        last = market_.last("AAPL", found.start + timedelta(milliseconds=250 * quarter + 3))
        assert found.low <= float(last.price) <= found.high
    assert float(last.price) == found.close
