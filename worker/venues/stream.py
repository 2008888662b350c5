"""A websocket that comes back by itself: one thread, back-off with a ceiling, a generation that tells of gaps."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0
OPEN_SECONDS = 3.0
PING_SECONDS = 10.0


class ReconnectingStream:
    """See ``venues.base.UpdateStream``. ``on_text`` runs in the stream's thread; what it raises costs one message."""

    def __init__(self, url: str, headers: Mapping[str, str], on_text: Callable[[str], None]) -> None:
        self._url, self._headers, self._on_text = url, dict(headers), on_text
        self._closing = threading.Event()
        self._connection: ClientConnection | None = None
        self._generation = 0
        self._thread = threading.Thread(target=self._run, name="order-updates", daemon=True)
        self._logger = logging.getLogger("venue.stream")

    def start(self) -> None:
        self._thread.start()

    @property
    def connected(self) -> bool:
        return self._connection is not None

    @property
    def generation(self) -> int:
        return self._generation

    def close(self) -> None:
        self._closing.set()
        connection = self._connection
        if connection is not None:
            connection.close()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._closing.is_set():
            try:
                with connect(
                    self._url,
                    additional_headers=self._headers,
                    open_timeout=OPEN_SECONDS,
                    close_timeout=0.5,
                    ping_interval=PING_SECONDS,
                    ping_timeout=PING_SECONDS,
                    proxy=None,
                ) as connection:
                    self._connection, pause = connection, FIRST_PAUSE_SECONDS
                    self._generation += 1
                    self._listen(connection)
            except (OSError, WebSocketException, TimeoutError) as error:
                self._logger.info("stream lost: %s", error)
            finally:
                self._connection = None
            self._closing.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _listen(self, connection: ClientConnection) -> None:
        for message in connection:
            if self._closing.is_set():
                return
            try:
                self._on_text(message if isinstance(message, str) else message.decode())
            except (ValueError, KeyError, TypeError, ArithmeticError) as error:
                self._logger.warning("an update that makes no sense: %r", error)
