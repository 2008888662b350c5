"""A new order is sent once, after its guard, and what its answer proves is never more than it says."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from shared.errors import NotSent, OrderNotFound, VenueAmbiguous, VenueRejected
from tests.integration.alpaca.support import ORDERS, dripping, error, go, limit_order, lines, listener, venue_at
from tests.servers.alpaca import AlpacaServer
from tests.support import free_port
from worker.core.types import OrderState, OrderType, Side, TimeInForce
from worker.venues.alpaca import AlpacaVenue

OTHER = {
    "id": "5b7a3b6e-0000-4000-8000-000000000000",
    "client_order_id": "of-somebody-else",
    "symbol": "AAPL",
    "side": "buy",
    "type": "limit",
    "qty": "2",
    "filled_qty": "0",
    "status": "new",
    "limit_price": "50.00",
    "submitted_at": "2026-01-05T15:00:00Z",
}
WITHOUT_ID = {name: value for name, value in OTHER.items() if name != "id"}

AFTER_THE_DEED = [
    "slow",
    "reset",
    500,
    502,
    504,
    "garbage",
    "",
    "<html>all is well</html>",
    '{"id": "5b7a3b6e", "client_ord',
    "null",
    "[]",
    "{}",
    "[" * 100_000,
    json.dumps(WITHOUT_ID),
    json.dumps({**OTHER, "id": ""}),
    json.dumps(OTHER),
]
INSTEAD_OF_THE_DEED = [
    429,
    (429, error(42910000, "rate limit exceeded")),
    408,
    (403, "<html>forbidden</html>"),
    (403, error(40310000, "rate limit exceeded")),
    (422, error(49999999, "a code that nobody knows")),
    (422, error(42210000, "client_order_id is too long")),
    (422, error(42210000, "duplicate client order id")),
    (422, error(40010001, "an order with this Client Order ID already exists")),
    (400, error(40010000, "client-order-id has to be unique")),
    (403, error(40310000, "order already exists")),
    (422, '{"code": "42210000", "message": "a code that is a text"}'),
    (500, error(40310000, "insufficient buying power")),
    (200, ""),
    (302, ""),
    (307, ""),
    (308, json.dumps(OTHER)),
]


def shown(value: object) -> str:
    return repr(value)[:40]


@pytest.mark.parametrize("lie", AFTER_THE_DEED, ids=shown)
def test_submit_when_the_answer_is_lost_after_the_deed_is_ambiguous_and_found(
    server: AlpacaServer, venue: AlpacaVenue, lie: object
) -> None:
    """The order exists: a second POST would double it, and REJECTED would forget it."""
    wanted = limit_order()
    server.lie(ORDERS, lie)
    with pytest.raises(VenueAmbiguous):
        venue.submit(wanted, go)
    assert dict(server.posts) == {wanted.client_order_id: 1}
    found = venue.order_by_client_id(wanted.client_order_id)
    assert (found.client_order_id, found.qty, found.state) == (wanted.client_order_id, wanted.qty, OrderState.ACCEPTED)


@pytest.mark.parametrize("lie", INSTEAD_OF_THE_DEED, ids=shown)
def test_submit_when_the_answer_proves_nothing_is_ambiguous_and_sent_once(
    server: AlpacaServer, venue: AlpacaVenue, lie: object
) -> None:
    wanted = limit_order()
    server.lie(ORDERS, lie)
    with pytest.raises(VenueAmbiguous):
        venue.submit(wanted, go)
    assert dict(server.requests) == {ORDERS: 1}
    with pytest.raises(OrderNotFound):
        venue.order_by_client_id(wanted.client_order_id)


def test_submit_when_the_venue_refuses_as_recorded_is_final_with_its_code(
    server: AlpacaServer, venue: AlpacaVenue, data: Path
) -> None:
    """Bodies that people got from the real API; the HTTP status and the code need not agree."""
    rows = lines(data / "alpaca/error_bodies.jsonl")
    server.lie(ORDERS, *[(row["http"], json.dumps(row["body"])) for row in rows])
    for row in rows:
        with pytest.raises(VenueRejected) as caught:
            venue.submit(limit_order(), go)
        assert caught.value.code == str(row["body"]["code"])
        assert row["body"]["message"] in str(caught.value)
    assert server.requests[ORDERS] == len(rows)


def test_submit_when_it_is_a_pair_asks_for_good_till_cancelled_since_alpaca_knows_no_day_there(
    server: AlpacaServer, venue: AlpacaVenue
) -> None:
    venue.submit(limit_order(ticker="BTC/USD", qty=Decimal("0.5")), go)
    venue.submit(limit_order(), go)
    assert [o["time_in_force"] for o in server.orders.values()] == ["gtc", "day"]


def test_submit_when_the_client_id_exists_is_ambiguous_and_changes_nothing(
    server: AlpacaServer, venue: AlpacaVenue
) -> None:
    wanted = limit_order()
    venue.submit(wanted, go)
    with pytest.raises(VenueAmbiguous, match="client order id exists"):
        venue.submit(wanted, go)
    assert [o.client_order_id for o in venue.open_orders()] == [wanted.client_order_id]


def test_submit_when_the_key_is_refused_is_final_and_tried_once(server: AlpacaServer, venue: AlpacaVenue) -> None:
    server.lie(ORDERS, (401, error(40110000, "request is not authorized")))
    with pytest.raises(VenueRejected):
        venue.submit(limit_order(), go)
    assert server.requests[ORDERS] == 1


def test_submit_when_nobody_listens_is_not_sent_and_the_guard_is_not_asked() -> None:
    asked: list[int] = []
    venue = venue_at(free_port())
    with pytest.raises(NotSent):
        venue.submit(limit_order(), lambda: asked.append(1))
    assert asked == []
    venue.close()


@pytest.mark.parametrize("refusal", [NotSent("too old"), ValueError("a bug in the guard")], ids=shown)
def test_submit_when_the_guard_raises_is_not_sent_and_no_request_arrives(
    server: AlpacaServer, venue: AlpacaVenue, refusal: Exception
) -> None:
    def refuse() -> None:
        raise refusal

    venue.account()  # a kept-alive connection, then a fresh one: the guard stands before both
    for _ in range(2):
        with pytest.raises(NotSent):
            venue.submit(limit_order(), refuse)
    assert server.posts.total() == 0
    assert server.requests[ORDERS] == 0
    assert server.orders == {}


def test_guard_when_asked_finds_a_connection_without_a_byte_on_it() -> None:
    """The age of an intent is checked after connecting, which may take seconds, and before the first byte."""
    with listener() as (listening, venue):
        peers = []

        def look() -> None:
            peer, _ = listening.accept()
            peer.setblocking(False)
            peers.append(peer)
            with pytest.raises(BlockingIOError):
                peer.recv(1)
            raise NotSent("seen enough")

        with pytest.raises(NotSent, match="seen enough"):
            venue.submit(limit_order(), look)
        peers[0].settimeout(30)
        assert peers[0].recv(1) == b""
        peers[0].close()


def test_guard_when_the_order_goes_is_asked_once_on_a_fresh_and_on_a_kept_connection(venue: AlpacaVenue) -> None:
    asked: list[int] = []
    for expected in (1, 2, 3):
        venue.submit(limit_order(), lambda: asked.append(1))
        venue.account()
        assert len(asked) == expected


def test_submit_when_the_venue_never_answers_gives_up_by_itself() -> None:
    """alpaca-py alone would wait for ever; the peer here still has not said a word when the call is over."""
    with listener() as (_, venue), pytest.raises(VenueAmbiguous):
        venue.submit(limit_order(), go)


def test_submit_when_the_answer_drips_gives_up_by_itself() -> None:
    """Every byte arrives in time, the answer does not; it would be a good one in the end."""
    wanted = limit_order()
    body = json.dumps({**OTHER, "client_order_id": wanted.client_order_id})
    with dripping(body) as venue, pytest.raises(VenueAmbiguous):
        venue.submit(wanted, go)


def test_submit_when_accepted_tells_the_order_as_it_was_wanted(server: AlpacaServer, venue: AlpacaVenue) -> None:
    wanted = limit_order(ticker="BTC/USD", qty=limit_order().qty / 8)
    told = venue.submit(wanted, go)
    assert (told.ticker, told.side, told.type) == ("BTC/USD", Side.BUY, OrderType.LIMIT)
    assert (told.qty, told.limit_price, told.filled_qty) == (wanted.qty, wanted.limit_price, 0)
    assert told.avg_fill_price is None
    assert told.created_at is not None
    assert server.orders[told.venue_order_id]["qty"] == "0.25"


def test_submit_when_it_is_a_coin_is_sent_without_a_day_and_without_an_exponent(
    server: AlpacaServer, venue: AlpacaVenue
) -> None:
    """Alpaca refuses ``day`` for coins, so that a flatten would never close one; and 1E-7 is no quantity to it."""
    wanted = limit_order(ticker="BTC/USD", qty=Decimal("1E-7"), time_in_force=TimeInForce.DAY)
    sent = server.orders[venue.submit(wanted, go).venue_order_id]
    assert (sent["time_in_force"], sent["qty"], sent["limit_price"]) == ("gtc", "0.0000001", "50.00")
    stock = server.orders[venue.submit(limit_order(time_in_force=TimeInForce.DAY), go).venue_order_id]
    assert stock["time_in_force"] == "day"
