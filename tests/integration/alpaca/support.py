"""What the tests of the Alpaca adapter send, and where nobody or nobody talkative listens."""

from __future__ import annotations

import json
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

from shared.clock import SystemClock
from tests.servers.alpaca import KEY, SECRET
from worker.core import ids
from worker.core.types import Effect, OrderRequest, OrderType, Side
from worker.venues.alpaca import AlpacaVenue

ORDERS = "POST /v2/orders"


def go() -> None:
    """A guard that lets the order go."""


def limit_order(**changes: object) -> OrderRequest:
    """A buy that rests far below the market."""
    values: dict[str, object] = {
        "client_order_id": ids.mint(Effect.ENTRY, 1, secrets.token_hex(7)),
        "ticker": "AAPL",
        "side": Side.BUY,
        "qty": Decimal(2),
        "type": OrderType.LIMIT,
        "limit_price": Decimal("50.00"),
    }
    return OrderRequest(**(values | changes))  # type: ignore[arg-type]


def error(code: int, message: str) -> str:
    """Alpaca's own error body."""
    return json.dumps({"code": code, "message": message})


def lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


@contextmanager
def listener() -> Iterator[tuple[socket.socket, AlpacaVenue]]:
    """A bare socket that accepts connections and says nothing, with a venue that takes it for Alpaca."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        venue = venue_at(listening.getsockname()[1])
        yield listening, venue
        venue.close()


def venue_at(port: int) -> AlpacaVenue:
    """A venue whose trading and data addresses are a port on loopback."""
    url = f"http://127.0.0.1:{port}"
    return AlpacaVenue(KEY, SECRET, SystemClock(), trading_url=url, data_url=url, stream_url=f"{url}/stream")


@contextmanager
def dripping(body: str, *, headers_first: bool = False) -> Iterator[AlpacaVenue]:
    """A venue whose peer answers one request byte by byte, ten a second for 20 s, and then with all the rest."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body) + 200}\r\n"
    at_once, slow, rest = (f"{head}\r\n", " " * 200, body) if headers_first else ("", head + "X-Long: ", "")
    slow = slow.ljust(200, "x")
    rest = rest or f"\r\n\r\n{' ' * 200}{body}"
    left = threading.Event()

    def serve() -> None:
        with suppress(OSError):
            peer, _ = listening.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(at_once.encode())
                for byte in slow.encode():
                    if left.wait(0.1):
                        return
                    peer.sendall(bytes([byte]))
                peer.sendall(rest.encode())

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        venue = venue_at(listening.getsockname()[1])
        try:
            yield venue
        finally:
            venue.close()
            left.set()
            thread.join(30)
