"""Alpaca's market data stream on loopback: msgpack frames, sign-in, subscription, its errors, and silence.

``asked`` holds what clients sent, in order; ``say`` scripts what the next sign-ins or subscriptions are told instead.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import msgpack
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request
from websockets.sync.server import Server, ServerConnection, serve

KEY, SECRET = "test-key", "test-secret"


def error(code: int, words: str) -> list[dict[str, Any]]:
    return [{"T": "error", "code": code, "msg": words}]


class AlpacaStreamServer:
    """All methods may be called from the test's thread. With ``text`` it speaks and reads JSON only."""

    def __init__(self, *, text: bool = False) -> None:
        self._text = text
        self.asked: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.at_sign_in: deque[list[dict[str, Any]]] = deque()
        self.at_subscribe: deque[list[dict[str, Any]]] = deque()
        self._open: set[ServerConnection] = set()
        self._server: Server = serve(
            self._serve, "127.0.0.1", 0, compression=None, process_request=self._note, close_timeout=0.2
        )
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def subscribers(self) -> int:
        return len(self._open)

    def send(self, *messages: Mapping[str, Any]) -> None:
        self.send_raw(self._frame([dict(m) for m in messages]))

    def send_raw(self, frame: bytes | str) -> None:
        for client in list(self._open):
            with suppress(ConnectionClosed):
                client.send(frame)

    def trade(self, symbol: str, number: int, price: float, at_us: int, **fields: object) -> None:
        stamp = msgpack.Timestamp(at_us // 1_000_000, at_us % 1_000_000 * 1000)
        self.send({"T": "t", "S": symbol, "i": number, "x": "V", "p": price, "s": 100, "t": stamp, **fields})

    def _frame(self, rows: object) -> bytes | str:
        return json.dumps(rows) if self._text else msgpack.packb(rows)

    def drop(self) -> None:
        for client in list(self._open):
            client.close(1001, "go away")

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join(30)

    def _note(self, _connection: ServerConnection, request: Request) -> None:
        self.paths.append(request.path)

    def _serve(self, client: ServerConnection) -> None:
        try:
            client.send(self._frame([{"T": "success", "msg": "connected"}]))
            for message in client:
                asked = json.loads(message) if self._text else msgpack.unpackb(message)
                self.asked.append(asked)
                if asked["action"] == "auth":
                    if not self._sign_in(client, asked):
                        return
                elif self.at_subscribe:
                    client.send(self._frame(self.at_subscribe.popleft()))
                else:
                    client.send(self._frame([{"T": "subscription", "trades": asked.get("trades", [])}]))
                    self._open.add(client)
        except ConnectionClosed:
            return
        finally:
            self._open.discard(client)

    def _sign_in(self, client: ServerConnection, asked: Mapping[str, Any]) -> bool:
        answer = [{"T": "success", "msg": "authenticated"}]
        if self.at_sign_in:
            answer = self.at_sign_in.popleft()
        elif (asked.get("key"), asked.get("secret")) != (KEY, SECRET):
            answer = error(402, "auth failed")
        client.send(self._frame(answer))
        return answer[0]["T"] == "success"


@contextmanager
def alpaca_stream_server() -> Iterator[AlpacaStreamServer]:
    server = AlpacaStreamServer()
    try:
        yield server
    finally:
        server.stop()
