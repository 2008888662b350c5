"""A take-profit and a stop-loss as one order, whatever a venue makes of it: one suite over every venue."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from shared.errors import VenueRejected
from tests.contract.case import VenueCase
from tests.contract.test_venue_port import CASES, PRICE, filled, go, request_of
from tests.support import eventually
from worker.core import ids
from worker.core.types import Effect, OrderRequest, OrderState, OrderType, OrderUpdate, Side, TimeInForce, VenueOrder
from worker.venues.base import CancelOutcome

PROFIT, STOP = Decimal("105.00"), Decimal("95.00")


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VenueCase]:
    """A venue at which ten shares are held."""
    with CASES[request.param](tmp_path) as found:
        found.set_price(found.tickers[0], PRICE)
        entry = request_of(found, qty=Decimal(10))
        found.venue.submit(entry, go)
        filled(found, entry.client_order_id)
        yield found


def pair_of(case: VenueCase, **changes: object) -> OrderRequest:
    values: dict[str, object] = {
        "client_order_id": ids.mint(Effect.EXIT, 7, secrets.token_hex(7)),
        "ticker": case.tickers[0],
        "side": Side.SELL,
        "qty": Decimal(10),
        "type": OrderType.LIMIT,
        "time_in_force": TimeInForce.GTC,
        "limit_price": PROFIT,
        "reduce_only": True,
        "stop_price": STOP,
    }
    return OrderRequest(**(values | changes))  # type: ignore[arg-type]


def sold(case: VenueCase, name: str, price: Decimal) -> VenueOrder:
    """The pair, once trades at a price have filled it."""

    def done() -> VenueOrder | None:
        case.set_price(case.tickers[0], price)
        order = case.venue.order_by_client_id(name)
        return order if order.state is OrderState.FILLED else None

    found = eventually(done, what="the pair to sell")
    assert isinstance(found, VenueOrder)
    return found


def test_pair_when_it_rests_is_one_order_with_its_stop_and_goes_as_one(case: VenueCase) -> None:
    assert case.venue.capabilities.protective_pairs
    assert case.venue.instrument(case.tickers[0]).protective_pair
    wanted = pair_of(case)
    placed = case.venue.submit(wanted, go)
    assert (placed.client_order_id, placed.limit_price, placed.stop_price) == (wanted.client_order_id, PROFIT, STOP)
    (open_now,) = case.venue.open_orders()
    assert (open_now.venue_order_id, open_now.qty, open_now.stop_price) == (placed.venue_order_id, Decimal(10), STOP)
    assert case.submitted(wanted.client_order_id) == 1
    with pytest.raises(VenueRejected):  # it claims all that is held
        case.venue.submit(pair_of(case, qty=Decimal(1)), go)
    assert case.venue.cancel(placed.venue_order_id).outcome is CancelOutcome.REQUESTED
    eventually(lambda: case.venue.open_orders() == [], what="both halves to go")
    told = case.venue.order_by_client_id(wanted.client_order_id)
    assert (told.state, told.filled_qty) == (OrderState.CANCELED, Decimal(0))
    assert case.venue.cancel(placed.venue_order_id).outcome is CancelOutcome.ALREADY_FINAL


def test_pair_when_the_limit_is_reached_sells_there_and_nothing_is_left(case: VenueCase) -> None:
    since = datetime.now(UTC) - timedelta(minutes=1)
    wanted = pair_of(case)
    case.venue.submit(wanted, go)
    order = sold(case, wanted.client_order_id, Decimal("105.50"))
    assert (order.filled_qty, order.stop_filled_qty) == (Decimal(10), Decimal(0))
    assert order.avg_fill_price is not None
    assert order.avg_fill_price >= PROFIT
    assert sum(f.qty for f in case.venue.fills_since(since) if f.venue_order_id == order.venue_order_id) == 10
    assert case.venue.open_orders() == []
    assert case.venue.positions() == []


def test_pair_when_the_stop_is_met_sells_at_market_under_the_one_id(case: VenueCase) -> None:
    since = datetime.now(UTC) - timedelta(minutes=1)
    seen: list[OrderUpdate] = []
    stream = case.venue.stream_updates(seen.append)
    try:
        eventually(lambda: stream.connected, what="the stream to connect")
        wanted = pair_of(case)
        placed = case.venue.submit(wanted, go)
        order = sold(case, wanted.client_order_id, Decimal("94.50"))
        assert (order.venue_order_id, order.filled_qty, order.stop_filled_qty) == (placed.venue_order_id, 10, 10)
        assert order.avg_fill_price is not None
        assert Decimal(94) < order.avg_fill_price <= STOP
        fills = [f for f in case.venue.fills_since(since) if f.side is Side.SELL]
        assert {f.venue_order_id for f in fills} == {placed.venue_order_id}
        assert sum(f.qty * f.price for f in fills) == order.filled_qty * order.avg_fill_price

        def pushed() -> bool:
            own = [u for u in list(seen) if u.order.client_order_id == wanted.client_order_id]
            executions = {u.execution.execution_id: u.execution.qty for u in own if u.execution is not None}
            return sum(executions.values()) == 10 and own[-1].order.stop_filled_qty == 10

        eventually(pushed, what="the fill of the stop to be pushed as the pair's")
        assert {f.execution_id for f in fills} == {u.execution.execution_id for u in seen if u.execution is not None}
        assert {u.order.client_order_id for u in seen if u.execution is not None} == {wanted.client_order_id}
    finally:
        stream.close()
    assert case.venue.open_orders() == []
    shown = [o for o in case.venue.orders_since(since) if o.side is Side.SELL]
    assert [(o.client_order_id, o.state) for o in shown] == [(wanted.client_order_id, OrderState.FILLED)]


def test_pair_when_its_stop_is_not_below_its_limit_is_refused_for_good(case: VenueCase) -> None:
    with pytest.raises(VenueRejected):
        case.venue.submit(pair_of(case, stop_price=Decimal("106.00")), go)
    assert case.venue.open_orders() == []


def test_pair_when_everything_is_cancelled_goes_too(case: VenueCase) -> None:
    placed = case.venue.submit(pair_of(case), go)
    assert {r.venue_order_id for r in case.venue.cancel_all()} == {placed.venue_order_id}
    eventually(lambda: case.venue.open_orders() == [], what="both halves to go")
