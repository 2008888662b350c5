"""An Alpaca on loopback and a venue that talks to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.cases_alpaca import alpaca_venue
from tests.servers.alpaca import AlpacaServer, alpaca_server
from worker.venues.alpaca import AlpacaVenue


@pytest.fixture
def server() -> Iterator[AlpacaServer]:
    with alpaca_server() as found:
        yield found


@pytest.fixture
def venue(server: AlpacaServer) -> Iterator[AlpacaVenue]:
    found = alpaca_venue(server)
    yield found
    found.close()
