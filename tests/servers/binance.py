"""Binance's market streams on loopback: real frames, and everything that can go wrong with them.

``requests`` holds what clients asked for, ``paths`` the addresses they came to, ``pongs`` their answers to pings.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve


class BinanceServer:
    """All methods may be called from the test's thread."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.pongs = 0
        self.mute = False
        self.refuse: HTTPStatus | None = None
        self._open: set[ServerConnection] = set()
        self._lock = threading.Lock()
        self._server: Server = serve(
            *(self._serve, "127.0.0.1", 0),
            ssl=tls,
            compression=None,
            process_request=self._judge,
            close_timeout=0.2,
        )
        port = self._server.socket.getsockname()[1]
        self.url = f"ws://127.0.0.1:{port}" if tls is None else f"wss://localhost:{port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def connections(self) -> int:
        """Open now, with a subscription acknowledged where the server is not mute."""
        with self._lock:
            return len(self._open)

    def send(self, *frames: bytes | str) -> None:
        """To every client, as text."""
        with self._lock:
            clients = list(self._open)
        for client in clients:
            with suppress(ConnectionClosed):
                for frame in frames:
                    client.send(frame, text=True)

    def trade(self, number: int, price: float | str, at_ms: int, **fields: object) -> None:
        """One wrapped trade of BTCUSDT."""
        self.send(trade_frame(number, price, at_ms, **fields))

    def ping(self) -> None:
        for client in list(self._open):
            answered = client.ping()
            threading.Thread(target=self._await, args=(answered,), daemon=True).start()

    def _await(self, answered: threading.Event) -> None:
        self.pongs += bool(answered.wait(30))

    def drop(self, code: int | None = None) -> None:
        """End every connection: without a word, or with a close code."""
        for client in list(self._open):
            if code is None:
                client.socket.close()
            client.close(code or 1001, "go away")

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join(30)

    def _judge(self, _connection: ServerConnection, request: Request) -> Response | None:
        self.paths.append(request.path)
        if self.refuse is not None:
            return _connection.respond(self.refuse, "<html><body>not now</body></html>")
        return None

    def _serve(self, client: ServerConnection) -> None:
        if self.mute:
            with self._lock:
                self._open.add(client)
        try:
            for message in client:
                asked = json.loads(message)
                self.requests.append(asked)
                if not self.mute:
                    client.send(json.dumps({"result": None, "id": asked["id"]}))
                    with self._lock:
                        self._open.add(client)
        except ConnectionClosed:
            return
        finally:
            with self._lock:
                self._open.discard(client)


def trade_frame(number: int, price: float | str, at_ms: int, **fields: object) -> str:
    """As the futures' combined stream sends it; ``fields`` replace or add."""
    row = {"e": "trade", "E": at_ms, "T": at_ms, "s": "BTCUSDT", "t": number, "p": str(price), "q": "0.5"}
    return json.dumps({"stream": "btcusdt@trade", "data": {**row, "X": "MARKET", "m": False, **fields}})


@contextmanager
def binance_server(tls: ssl.SSLContext | None = None) -> Iterator[BinanceServer]:
    server = BinanceServer(tls)
    try:
        yield server
    finally:
        server.stop()
