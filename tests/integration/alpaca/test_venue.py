"""Cancels, brackets, and the traps of alpaca-py that are taken out."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from requests.adapters import HTTPAdapter

from shared.errors import VenueUnavailable
from tests.integration.alpaca.support import error, go, limit_order
from tests.servers.alpaca import AlpacaServer
from worker.core.types import OrderState, OrderType, Side
from worker.venues.alpaca import AlpacaVenue
from worker.venues.alpaca.session import GuardedAdapter
from worker.venues.base import CALL_TIMEOUT_SECONDS, CancelOutcome
from worker.venues.http import POOL_CLASSES, call_timeout


def test_cancel_when_the_order_works_is_requested(server: AlpacaServer, venue: AlpacaVenue) -> None:
    placed = venue.submit(limit_order(), go)
    assert venue.cancel(placed.venue_order_id).outcome is CancelOutcome.REQUESTED
    assert [order_id for _, order_id in server.cancels] == [placed.venue_order_id]
    assert server.open_ids() == []


def test_cancel_when_the_order_is_final_or_unknown_is_already_final(server: AlpacaServer, venue: AlpacaVenue) -> None:
    placed = venue.submit(limit_order(), go)
    server.fill(placed.client_order_id or "", "2", "50.00")
    told = venue.cancel(placed.venue_order_id)
    assert (told.venue_order_id, told.outcome) == (placed.venue_order_id, CancelOutcome.ALREADY_FINAL)
    assert "filled" in told.message
    assert venue.cancel("5b7a3b6e-0000-4000-8000-000000000000").outcome is CancelOutcome.ALREADY_FINAL


@pytest.mark.parametrize(
    "lie",
    [
        500,
        502,
        504,
        429,
        "reset",
        "<html>well</html>",
        (302, ""),
        (404, "<html>no</html>"),
        (422, "<html>no</html>"),
        (422, error(42299999, "?")),
        (401, error(40110000, "no")),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_cancel_when_the_answer_proves_nothing_is_unconfirmed_and_sent_once(
    server: AlpacaServer, venue: AlpacaVenue, lie: object
) -> None:
    placed = venue.submit(limit_order(), go)
    route = f"DELETE /v2/orders/{placed.venue_order_id}"
    server.lie(route, lie)
    told = venue.cancel(placed.venue_order_id)
    assert (told.venue_order_id, told.outcome) == (placed.venue_order_id, CancelOutcome.UNCONFIRMED)
    assert told.message
    assert server.requests[route] == 1


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_cancel_when_the_id_names_no_order_never_cancels_all(
    server: AlpacaServer, venue: AlpacaVenue, name: str
) -> None:
    venue.submit(limit_order(), go)
    assert venue.cancel(name).outcome is CancelOutcome.UNCONFIRMED
    assert len(server.open_ids()) == 1


@pytest.mark.parametrize("name", ["a/../b", "?status=all", "#x", "ä b"])
def test_cancel_when_the_id_is_odd_asks_for_that_id_alone(server: AlpacaServer, venue: AlpacaVenue, name: str) -> None:
    venue.submit(limit_order(), go)
    venue.cancel(name)
    assert len(server.open_ids()) == 1


def test_cancel_all_when_answered_by_207_tells_every_order_s_own_outcome(
    server: AlpacaServer, venue: AlpacaVenue
) -> None:
    rows = [
        {"id": "a", "status": 200},
        {"id": "b", "status": 404, "body": {"code": 40410000, "message": "order not found"}},
        {"id": "c", "status": 422},
        {"id": "d", "status": 500},
    ]
    server.lie("DELETE /v2/orders", (207, json.dumps(rows)))
    final, unsure = CancelOutcome.ALREADY_FINAL, CancelOutcome.UNCONFIRMED
    told = [(r.venue_order_id, r.outcome) for r in venue.cancel_all()]
    assert told == [("a", CancelOutcome.REQUESTED), ("b", final), ("c", final), ("d", unsure)]


def test_cancel_all_when_it_works_reaches_foreign_orders_too(server: AlpacaServer, venue: AlpacaVenue) -> None:
    names = {venue.submit(limit_order(), go).venue_order_id, server.foreign_order()["id"]}
    assert {r.venue_order_id for r in venue.cancel_all()} == names
    assert venue.open_orders() == []
    assert venue.cancel_all() == []


def test_cancel_all_when_the_answer_is_lost_is_unavailable_and_sent_once(
    server: AlpacaServer, venue: AlpacaVenue
) -> None:
    venue.submit(limit_order(), go)
    server.lie("DELETE /v2/orders", 504)
    with pytest.raises(VenueUnavailable):
        venue.cancel_all()
    assert server.requests["DELETE /v2/orders"] == 1


def bracket(data: Path) -> dict[str, Any]:
    """A bracket from a paper account: the entry and the profit leg filled, the stop leg canceled."""
    found = json.loads((data / "alpaca/real_bracket_order_filled_TSLA_20230612a.json").read_text())
    order: dict[str, Any] = found["body"][0]
    return order


def test_orders_when_a_bracket_is_nested_stand_beside_their_legs(
    server: AlpacaServer, venue: AlpacaVenue, data: Path
) -> None:
    parent = bracket(data)
    server.orders[parent["id"]] = parent
    found = venue.orders_since(datetime(2023, 6, 12, tzinfo=UTC))
    assert [(o.side, o.type, o.state, str(o.filled_qty), o.avg_fill_price) for o in found] == [
        (Side.BUY, OrderType.LIMIT, OrderState.FILLED, "10", Decimal("246.15")),
        (Side.SELL, OrderType.LIMIT, OrderState.FILLED, "10", Decimal("247.009")),
        (Side.SELL, OrderType.STOP, OrderState.CANCELED, "0", None),
    ]
    assert [o.venue_order_id for o in found] == [parent["id"], *(leg["id"] for leg in parent["legs"])]


def test_open_orders_when_only_a_leg_works_lists_the_leg_alone(
    server: AlpacaServer, venue: AlpacaVenue, data: Path
) -> None:
    """The filled parent and the canceled leg cannot be canceled, so a stop must not wait for them."""
    parent = bracket(data)
    parent["legs"][0].update(status="held", filled_qty="0", filled_avg_price=None)
    server.lie("GET /v2/orders", json.dumps([parent]))
    (found,) = venue.open_orders()
    assert (found.venue_order_id, found.state) == (parent["legs"][0]["id"], OrderState.ACCEPTED)


def test_client_when_built_is_tamed(venue: AlpacaVenue) -> None:
    """alpaca-py's private names: where an upgrade renames them, a POST would be sent again."""
    for client in (venue._clients.trading, venue._clients.stocks, venue._clients.crypto):
        assert client._retry == 0
        assert client._retry_codes == []
        assert client._session.trust_env is False
        for scheme in ("http://x", "https://x"):
            adapter = client._session.get_adapter(scheme)
            assert isinstance(adapter, GuardedAdapter)
            assert isinstance(adapter, HTTPAdapter)
            assert adapter.max_retries.total == 0
            assert adapter.poolmanager.pool_classes_by_scheme == POOL_CLASSES
    assert call_timeout().total == CALL_TIMEOUT_SECONDS == 3.0
