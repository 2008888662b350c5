"""The simulated venue's client: an answer that makes no sense is never an empty list."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from shared.clock import SystemClock
from shared.errors import VenueUnavailable
from tests.support import free_port
from worker.venues.base import PartlyRead
from worker.venues.simulated.client import SimulatedVenue

ORDER = {
    "venue_order_id": "v1",
    "client_order_id": "sbe1r0123456789",
    "ticker": "AAPL",
    "side": "buy",
    "qty": "1",
    "state": "ACCEPTED",
    "type": "limit",
    "filled_qty": "0",
    "avg_fill_price": None,
    "limit_price": "1",
    "created_at": None,
    "updated_at": None,
    "reason": "",
}


@contextmanager
def answering(body: str) -> Iterator[SimulatedVenue]:
    """A venue whose every answer is this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_DELETE = do_GET

        def log_message(self, *_: Any) -> None:
            """Nothing on stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        venue = SimulatedVenue(f"http://127.0.0.1:{server.server_port}", "t", SystemClock())
        try:
            yield venue
        finally:
            venue.close()
            server.shutdown()


@pytest.mark.parametrize("body", ["{}", '""', "null", "0", '{"orders": []}', "false"])
def test_list_when_the_answer_is_no_list_is_unavailable(body: str) -> None:
    """Two empty lists are the proof of a stop: an object without rows would be one."""
    with answering(body) as venue:
        since = datetime(2026, 1, 1, tzinfo=UTC)
        asks = (venue.open_orders, venue.positions, venue.cancel_all, lambda: venue.fills_since(since))
        for ask in (*asks, lambda: venue.orders_since(since)):
            with pytest.raises(VenueUnavailable):
                ask()


@pytest.mark.parametrize(
    "change",
    [{"state": "NOT_SENT"}, {"state": "UNKNOWN"}, {"filled_qty": "-1"}, {"qty": "0"}, {"qty": "NaN"}, {"side": "hold"}],
    ids=str,
)
def test_order_when_no_venue_would_tell_it_is_not_read_and_the_others_are(change: dict[str, str]) -> None:
    with answering(json.dumps([ORDER, {**ORDER, "venue_order_id": "v2", **change}])) as venue:
        with pytest.raises(PartlyRead) as caught:
            venue.open_orders()
        assert [o.venue_order_id for o in caught.value.found] == ["v1"]


def test_venue_when_nobody_listens_is_named_by_its_address() -> None:
    """The text stands in ``trading_status.last_error``: no place for the names of our classes."""
    port = free_port()
    venue = SimulatedVenue(f"http://127.0.0.1:{port}", "t", SystemClock())
    with pytest.raises(VenueUnavailable, match=f"does not answer: 127.0.0.1:{port}: "):
        venue.open_orders()
    venue.close()
