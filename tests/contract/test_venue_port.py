"""One suite over every venue: what a worker relies on, whatever is behind the port."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from shared.errors import NotSent, OrderNotFound, VenueAmbiguous, VenueError, VenueRejected, VenueUnavailable
from tests.contract.case import VenueCase
from tests.contract.cases_alpaca import alpaca_case
from tests.contract.cases_simulated import local_case, simulated_case
from tests.support import eventually
from worker.core import ids
from worker.core.types import Effect, OrderRequest, OrderState, OrderType, OrderUpdate, Side, TimeInForce, VenueOrder
from worker.venues.base import CancelOutcome, Venue

CASES: dict[str, Callable[[Path], AbstractContextManager[VenueCase]]] = {
    "alpaca": alpaca_case,
    "simulated": simulated_case,
    "local": local_case,
}
PRICE = Decimal("100.00")


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VenueCase]:
    with CASES[request.param](tmp_path) as found:
        found.set_price(found.tickers[0], PRICE)
        yield found


def go() -> None:
    """A guard that lets the order go."""


def request_of(case: VenueCase, **changes: object) -> OrderRequest:
    values: dict[str, object] = {
        "client_order_id": ids.mint(Effect.ENTRY, 1, secrets.token_hex(7)),
        "ticker": case.tickers[0],
        "side": Side.BUY,
        "qty": Decimal(2),
        "time_in_force": TimeInForce.DAY,
    }
    return OrderRequest(**(values | changes))  # type: ignore[arg-type]


def resting(case: VenueCase, **changes: object) -> OrderRequest:
    return request_of(case, type=OrderType.LIMIT, limit_price=Decimal("50.00"), **changes)


def filled(case: VenueCase, name: str, ticker: str = "") -> VenueOrder:
    def done() -> VenueOrder | None:
        case.set_price(ticker or case.tickers[0], PRICE)
        order = case.venue.order_by_client_id(name)
        return order if order.state is OrderState.FILLED else None

    found = eventually(done, what="the order fills")
    assert isinstance(found, VenueOrder)
    return found


def test_market_order_when_filled_shows_everywhere(case: VenueCase) -> None:
    before = case.venue.account()
    wanted = request_of(case)
    since = datetime.now(UTC) - timedelta(minutes=1)
    case.venue.submit(wanted, go)
    order = filled(case, wanted.client_order_id)
    assert (order.filled_qty, order.side, order.ticker) == (Decimal(2), Side.BUY, case.tickers[0])
    assert order.avg_fill_price is not None
    assert abs(order.avg_fill_price - PRICE) < 1
    fills = [f for f in case.venue.fills_since(since) if f.venue_order_id == order.venue_order_id]
    assert sum(f.qty for f in fills) == Decimal(2)
    assert sum(f.qty * f.price for f in fills) == order.filled_qty * order.avg_fill_price
    held = {p.ticker: p for p in case.venue.positions()}
    assert held[case.tickers[0]].signed_qty == Decimal(2)
    after = case.venue.account()
    fees = sum((f.fee for f in fills), Decimal(0))
    assert before.cash - after.cash == order.filled_qty * order.avg_fill_price + fees
    assert [o.venue_order_id for o in case.venue.orders_since(since)] == [order.venue_order_id]


def test_pair_when_its_fee_is_taken_from_what_is_credited_tells_both_sides_of_it(case: VenueCase) -> None:
    """The position is less than what filled: an exit of all that was bought is refused."""
    case.set_price(case.pair, PRICE)
    since, name = datetime.now(UTC) - timedelta(minutes=1), case.pair
    before = case.venue.account()
    bought = request_of(case, ticker=name, time_in_force=TimeInForce.GTC)
    case.venue.submit(bought, go)
    order = filled(case, bought.client_order_id, name)
    (fill,) = [f for f in case.venue.fills_since(since) if f.venue_order_id == order.venue_order_id]
    assert (fill.fee_currency, fill.base_fee, fill.quote_fee) == ("BTC", fill.fee, 0)
    assert 0 < fill.base_fee < Decimal("0.006")
    paid = case.venue.account().cash
    assert before.cash - paid == fill.qty * fill.price
    (position,) = [p for p in case.venue.positions() if p.ticker == name]
    assert position.qty == fill.qty - fill.base_fee
    everything = {"ticker": name, "side": Side.SELL, "time_in_force": TimeInForce.GTC}
    with pytest.raises(VenueRejected):
        case.venue.submit(request_of(case, **everything), go)
    lot = case.venue.instrument(name).lot_size
    sold = request_of(case, qty=position.qty // lot * lot, **everything)
    case.venue.submit(sold, go)
    order = filled(case, sold.client_order_id, name)
    (fill,) = [f for f in case.venue.fills_since(since) if f.venue_order_id == order.venue_order_id]
    assert (fill.base_fee, fill.quote_fee > 0) == (0, True)
    assert case.venue.account().cash - paid == fill.qty * fill.price - fill.quote_fee


def test_limit_order_when_resting_is_listed_and_cancel_removes_it(case: VenueCase) -> None:
    wanted = resting(case)
    placed = case.venue.submit(wanted, go)
    assert [o.client_order_id for o in case.venue.open_orders()] == [wanted.client_order_id]
    assert case.venue.open_orders()[0].limit_price == Decimal("50.00")
    assert case.venue.cancel(placed.venue_order_id).outcome is CancelOutcome.REQUESTED
    eventually(lambda: case.venue.open_orders() == [], what="the cancel to be done")
    assert case.venue.order_by_client_id(wanted.client_order_id).state is OrderState.CANCELED


def test_cancel_when_the_order_is_final_says_so(case: VenueCase) -> None:
    placed = case.venue.submit(resting(case), go)
    case.venue.cancel(placed.venue_order_id)
    eventually(lambda: case.venue.open_orders() == [], what="the cancel to be done")
    assert case.venue.cancel(placed.venue_order_id).outcome is CancelOutcome.ALREADY_FINAL


def test_cancel_all_when_called_empties_the_account(case: VenueCase) -> None:
    names = {case.venue.submit(resting(case, ticker=t), go).venue_order_id for t in (case.tickers[0],) * 3}
    results = case.venue.cancel_all()
    assert {r.venue_order_id for r in results} == names
    assert {r.outcome for r in results} == {CancelOutcome.REQUESTED}
    eventually(lambda: case.venue.open_orders() == [], what="all cancels to be done")


def test_dead_man_switch_when_it_is_not_renewed_empties_the_account(case: VenueCase) -> None:
    """A venue either has it and does it, or says that it has none; nobody may believe in one that is not there."""
    if not case.venue.capabilities.dead_man_switch:
        with pytest.raises(VenueUnavailable):
            case.venue.cancel_all_after(60)
        return
    case.venue.submit(resting(case), go)
    case.venue.cancel_all_after(60)
    case.venue.cancel_all_after(0)
    assert len(case.venue.open_orders()) == 1
    case.venue.cancel_all_after(0.2)
    eventually(lambda: case.venue.open_orders() == [], what="the venue to cancel by itself")


def test_submit_when_the_client_id_exists_never_makes_a_second_order(case: VenueCase) -> None:
    wanted = resting(case)
    case.venue.submit(wanted, go)
    with pytest.raises(VenueAmbiguous):
        case.venue.submit(wanted, go)
    assert case.submitted(wanted.client_order_id) == 1


def test_submit_when_the_guard_refuses_leaves_nothing_at_the_venue(case: VenueCase) -> None:
    def refuse() -> None:
        raise NotSent("too late")

    wanted = resting(case)
    with pytest.raises(NotSent):
        case.venue.submit(wanted, refuse)
    assert case.submitted(wanted.client_order_id) == 0
    with pytest.raises(OrderNotFound):
        case.venue.order_by_client_id(wanted.client_order_id)


def test_submit_when_the_money_is_not_there_is_refused_for_good(case: VenueCase) -> None:
    wanted = resting(case, qty=Decimal(10_000_000))
    with pytest.raises(VenueRejected):
        case.venue.submit(wanted, go)
    assert case.submitted(wanted.client_order_id) == 0


def test_stream_when_orders_change_pushes_them(case: VenueCase) -> None:
    seen: list[OrderUpdate] = []
    stream = case.venue.stream_updates(seen.append)
    try:
        eventually(lambda: stream.connected, what="the stream to connect")
        wanted = request_of(case)
        case.venue.submit(wanted, go)
        filled(case, wanted.client_order_id)
        eventually(
            lambda: any(u.order.state is OrderState.FILLED and u.execution is not None for u in list(seen)),
            what="the fill to be pushed",
        )
    finally:
        stream.close()


def test_market_data_when_asked_makes_sense(case: VenueCase) -> None:
    venue: Venue = case.venue
    last = venue.last_price(case.tickers[0])
    assert last.price == PRICE
    assert abs((datetime.now(UTC) - last.time).total_seconds()) < 60
    clock = venue.clock()
    assert clock.is_open
    assert abs((datetime.now(UTC) - clock.now).total_seconds()) < 60
    instrument = venue.instrument(case.tickers[0])
    assert instrument.tradable
    assert instrument.lot_size > 0
    now = datetime.now(UTC)
    bars = venue.bars(case.tickers[:1], 5, now)[case.tickers[0]]
    assert [b.start for b in bars] == sorted(b.start for b in bars)
    assert all(b.low <= b.open <= b.high and b.low <= b.close <= b.high for b in bars)
    assert all(b.start < now for b in bars)


def test_unknown_ticker_when_asked_for_is_an_error_that_denies(case: VenueCase) -> None:
    for ask in (case.venue.last_price, case.venue.instrument):
        with pytest.raises(VenueUnavailable):
            ask("NOSUCH")
    with pytest.raises(VenueError):
        case.venue.submit(request_of(case, ticker="NOSUCH"), go)
