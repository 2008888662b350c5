"""Alpaca through the real alpaca-py, against the protocol server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from shared.clock import SystemClock
from tests.contract.case import VenueCase
from tests.servers.alpaca import KEY, SECRET, AlpacaServer, alpaca_server
from worker.venues.alpaca import AlpacaVenue


def alpaca_venue(server: AlpacaServer, **options: bool) -> AlpacaVenue:
    """A venue that talks to the server."""
    return AlpacaVenue(
        KEY,
        SECRET,
        SystemClock(),
        trading_url=server.trading_url,
        data_url=server.data_url,
        stream_url=server.stream_url,
        **options,
    )


def minutes(count: int, price: float = 100.0) -> list[dict[str, object]]:
    """Bars of the last ``count`` complete minutes."""
    end = datetime.now(UTC).replace(second=0, microsecond=0)
    return [
        {
            "t": f"{end - timedelta(minutes=count - n):%Y-%m-%dT%H:%M:%SZ}",
            "o": price,
            "h": price + 0.5,
            "l": price - 0.5,
            "c": price + 0.1,
            "v": 1000,
            "n": 10,
            "vw": price,
        }
        for n in range(count)
    ]


@contextmanager
def alpaca_case(_directory: Path) -> Iterator[VenueCase]:
    with alpaca_server() as server:
        server.bars["AAPL"] = minutes(100)
        venue = alpaca_venue(server)
        yield VenueCase(
            venue,
            server.set_price,
            lambda name: sum(o["client_order_id"] == name for o in list(server.orders.values())),
            server.tickers,
        )
        venue.close()
