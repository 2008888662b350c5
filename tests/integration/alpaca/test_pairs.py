"""Pairs at Alpaca: two orders there, one here, whatever the stream leaves out and however young the process is."""

from __future__ import annotations

import secrets
from decimal import Decimal

import pytest

from shared.errors import VenueAmbiguous, VenueRejected
from tests.contract.cases_alpaca import alpaca_venue
from tests.integration.alpaca.support import ORDERS, error, go
from tests.servers.alpaca import AlpacaServer
from tests.support import eventually
from worker.core import ids
from worker.core.types import Effect, OrderRequest, OrderState, OrderType, OrderUpdate, Side, TimeInForce
from worker.venues.alpaca import AlpacaVenue
from worker.venues.base import CancelOutcome

PROFIT, STOP = Decimal("105.00"), Decimal("95.00")


@pytest.fixture(autouse=True)
def _holding(server: AlpacaServer) -> None:
    server.set_price("AAPL", "100")
    server.by_hand("AAPL", "buy", "10", "100")


def pair(**changes: object) -> OrderRequest:
    values: dict[str, object] = {
        "client_order_id": ids.mint(Effect.EXIT, 7, secrets.token_hex(7)),
        "ticker": "AAPL",
        "side": Side.SELL,
        "qty": Decimal(10),
        "type": OrderType.LIMIT,
        "time_in_force": TimeInForce.GTC,
        "limit_price": PROFIT,
        "stop_price": STOP,
    }
    return OrderRequest(**(values | changes))  # type: ignore[arg-type]


def sent(venue: AlpacaVenue) -> str:
    return venue.submit(pair(), go).client_order_id or ""


def test_submit_when_it_is_a_pair_sends_one_oco_order(server: AlpacaServer, venue: AlpacaVenue) -> None:
    name = sent(venue)
    assert server.posts[name] == 1
    leg = server.leg(name)
    assert (leg["status"], leg["stop_price"], leg["qty"], leg["type"]) == ("held", "95.00", "10", "stop")
    assert not ids.is_ours(leg["client_order_id"])


def test_submit_when_the_answer_shows_no_leg_asks_for_it(server: AlpacaServer, venue: AlpacaVenue) -> None:
    server.tells_legs = False
    told = venue.submit(pair(), go)
    assert (told.state, told.stop_price) == (OrderState.ACCEPTED, STOP)


def test_submit_when_the_leg_cannot_be_read_is_ambiguous_and_found_later(
    server: AlpacaServer, venue: AlpacaVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody may believe in a stop that was not seen."""
    server.tells_legs = False
    minted = "00000000-0000-4000-8000-000000000001"
    monkeypatch.setattr("tests.servers.alpaca.uuid.uuid4", lambda: minted)
    server.lie(f"GET /v2/orders/{minted}", 500)
    wanted = pair()
    monkeypatch.setattr(server, "_add_leg", lambda order, _body: order | {"order_class": "oco", "legs": None})
    with pytest.raises(VenueAmbiguous):
        venue.submit(wanted, go)
    assert venue.order_by_client_id(wanted.client_order_id).client_order_id == wanted.client_order_id


def test_submit_when_the_address_takes_it_for_a_limit_tells_no_stop(
    server: AlpacaServer, venue: AlpacaVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_add_leg", lambda order, _body: dict(order))
    told = venue.submit(pair(), go)
    assert (told.limit_price, told.stop_price) == (PROFIT, None)


def test_submit_when_the_account_takes_no_oco_orders_is_refused(server: AlpacaServer, venue: AlpacaVenue) -> None:
    server.takes_oco = False
    with pytest.raises(VenueRejected):
        venue.submit(pair(), go)
    server.lie(ORDERS, (422, error(42210000, "oco orders require something else")))
    with pytest.raises(VenueRejected):
        venue.submit(pair(), go)


def test_instrument_when_it_is_a_coin_holds_no_pair(venue: AlpacaVenue) -> None:
    assert venue.instrument("AAPL").protective_pair
    assert not venue.instrument("BTC/USD").protective_pair


def test_limit_when_it_sells_a_part_shrinks_the_stop(server: AlpacaServer, venue: AlpacaVenue) -> None:
    name = sent(venue)
    server.fill(name, "4", "105.00")
    told = venue.order_by_client_id(name)
    assert (told.state, told.filled_qty, told.stop_price) == (OrderState.PARTIALLY_FILLED, 4, STOP)
    server.set_price("AAPL", "94")
    told = venue.order_by_client_id(name)
    assert (told.state, told.filled_qty, told.stop_filled_qty) == (OrderState.FILLED, 10, 6)
    assert told.avg_fill_price == (4 * PROFIT + 6 * Decimal(94)) / 10
    assert server.held["AAPL"][0] == 0


@pytest.mark.parametrize("leaves", ["canceled", "replaced"])
def test_stop_when_it_is_met_but_does_not_fill_still_works_and_can_be_cancelled(
    server: AlpacaServer, venue: AlpacaVenue, leaves: str
) -> None:
    """A halt: the parent is over, the leg works, and a stop must be able to prove that nothing is left."""
    name = sent(venue)
    server.fill_market_orders, server.met_stop_leaves = False, leaves
    server.set_price("AAPL", "94")
    (working,) = venue.open_orders()
    assert (working.client_order_id, working.state) == (name, OrderState.ACCEPTED)
    server.fill(server.leg(name)["client_order_id"], "3", "93.90")
    (working,) = venue.open_orders()
    assert (working.state, working.filled_qty, working.stop_filled_qty) == (OrderState.PARTIALLY_FILLED, 3, 3)
    assert venue.cancel(working.venue_order_id).outcome is CancelOutcome.REQUESTED
    assert venue.open_orders() == []
    told = venue.order_by_client_id(name)
    assert (told.state, told.filled_qty) == (OrderState.CANCELED, 3)


def test_fills_when_the_process_is_new_are_still_the_pairs(server: AlpacaServer, venue: AlpacaVenue) -> None:
    """Alpaca tells a fill of the leg under the leg's id alone."""
    since = venue.clock().now
    name = sent(venue)
    server.set_price("AAPL", "94")
    parent = venue.order_by_client_id(name).venue_order_id
    for started in (since, venue.clock().now):
        young = alpaca_venue(server)
        fills = [f for f in young.fills_since(since) if f.side is Side.SELL]
        assert {(f.venue_order_id, f.client_order_id, f.qty) for f in fills} == {(parent, name, Decimal(10))}
        assert started >= since
        young.close()


def test_fills_when_the_pair_is_older_than_what_is_asked_for_are_still_the_pairs(
    server: AlpacaServer, venue: AlpacaVenue
) -> None:
    name = sent(venue)
    parent = venue.order_by_client_id(name).venue_order_id
    since = venue.clock().now
    server.set_price("AAPL", "94")
    young = alpaca_venue(server)
    assert [(f.venue_order_id, f.qty) for f in young.fills_since(since)] == [(parent, Decimal(10))]
    young.close()


def test_stream_when_the_leg_sells_pushes_it_as_the_pairs_and_once(server: AlpacaServer, venue: AlpacaVenue) -> None:
    seen: list[OrderUpdate] = []
    stream = venue.stream_updates(seen.append)
    try:
        eventually(lambda: stream.connected and server.listeners == 1, what="the stream to listen")
        name = sent(venue)
        server.set_price("AAPL", "94")
        eventually(lambda: any(u.execution for u in list(seen)), what="the fill to be pushed")
        assert {u.order.client_order_id for u in seen} == {name}
        assert [(u.execution.qty, u.order.state) for u in seen if u.execution] == [(Decimal(10), OrderState.FILLED)]
        assert not any(u.order.stop_price is None and u.order.state is OrderState.ACCEPTED for u in seen)
    finally:
        stream.close()


def test_pair_when_the_address_nests_no_legs_is_one_order_for_a_new_process(
    server: AlpacaServer, venue: AlpacaVenue
) -> None:
    """Its leg would be somebody else's order otherwise, and what it sells somebody else's sale."""
    server.nests = server.tells_legs = False
    told = venue.submit(pair(qty=Decimal(4)), go)
    other = venue.submit(pair(qty=Decimal(6), stop_price=Decimal("90.00")), go)
    assert (told.stop_price, other.stop_price) == (STOP, Decimal("90.00"))
    young = alpaca_venue(server)
    both = {(told.venue_order_id, STOP), (other.venue_order_id, Decimal("90.00"))}
    assert {(o.venue_order_id, o.stop_price) for o in young.open_orders()} == both
    server.fill_market_orders = False
    server.set_price("AAPL", "94")
    for process in (young, alpaca_venue(server)):  # the parent is listed no longer, its leg is
        assert {o.client_order_id for o in process.open_orders()} == {told.client_order_id, other.client_order_id}
        process.close()


def test_orders_of_others_when_they_are_oco_stay_two(server: AlpacaServer, venue: AlpacaVenue) -> None:
    venue._clients.trading.post(
        "/orders",
        {"symbol": "AAPL", "qty": "2", "side": "sell", "type": "limit", "time_in_force": "gtc", "order_class": "oco",
         "take_profit": {"limit_price": "110"}, "stop_loss": {"stop_price": "90"}},
    )  # fmt: skip
    assert sorted(o.type for o in venue.open_orders()) == [OrderType.LIMIT, OrderType.STOP]
