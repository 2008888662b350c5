"""An address that offers less than Alpaca does: what can be known without it is, and nothing is guessed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from shared.errors import VenueUnavailable
from tests.contract.cases_alpaca import minutes
from tests.servers.alpaca import AlpacaServer
from worker.venues.alpaca import AlpacaVenue

GONE = (404, "<html>Not Found</html>")
WORDS = [
    GONE,
    (404, '{"detail": "Not Found"}'),
    (404, '{"code": 404, "message": "Not Found"}'),
    (404, '{"code": 40410000, "message": "endpoint not found."}'),
]


@pytest.mark.parametrize("gone", WORDS)
def test_fills_when_there_is_no_endpoint_are_none_and_no_failure(
    server: AlpacaServer, venue: AlpacaVenue, gone: tuple[int, str]
) -> None:
    server.lie("GET /v2/account/activities/FILL", gone)
    assert venue.fills_since(datetime.now(UTC) - timedelta(days=1)) == []


@pytest.mark.parametrize("gone", WORDS)
def test_order_when_there_is_no_endpoint_to_ask_for_it_is_not_taken_for_absent(
    server: AlpacaServer, venue: AlpacaVenue, gone: tuple[int, str]
) -> None:
    server.lie("GET /v2/orders:by_client_order_id", gone)
    with pytest.raises(VenueUnavailable):
        venue.order_by_client_id("sbe1r0123456789")


@pytest.mark.parametrize("gone", WORDS)
def test_clock_when_there_is_no_endpoint_is_the_calendar_of_new_york(
    server: AlpacaServer, venue: AlpacaVenue, gone: tuple[int, str]
) -> None:
    server.lie("GET /v2/clock", gone, gone)
    told = venue.clock()
    assert told.next_open is not None
    assert told.next_close is not None
    assert told.is_open == (told.next_close < told.next_open)
    assert venue.clock().next_open == told.next_open
    venue.clock()
    server.lie("GET /v2/clock", gone)
    with pytest.raises(VenueUnavailable):
        venue.clock()


def test_instrument_when_there_is_no_endpoint_is_a_plain_share_and_never_a_coin(
    server: AlpacaServer, venue: AlpacaVenue
) -> None:
    server.lie("GET /v2/assets/AAPL", GONE)
    assert venue.instrument("AAPL").lot_size == 1
    server.lie("GET /v2/assets/BTC/USD", GONE)
    with pytest.raises(VenueUnavailable):
        venue.instrument("BTC/USD")


def test_last_price_when_there_is_no_endpoint_is_the_current_bar_or_none(
    server: AlpacaServer, venue: AlpacaVenue
) -> None:
    server.lie("GET /v2/stocks/trades/latest", GONE, GONE)
    server.bars["AAPL"] = minutes(5, 100.0)
    last = venue.last_price("AAPL")
    assert last.price == Decimal("100.1")
    server.bars["AAPL"] = minutes(60)[:30]
    with pytest.raises(VenueUnavailable):
        venue.last_price("AAPL")
