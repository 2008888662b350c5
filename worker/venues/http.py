"""HTTP to a venue: what is sent is sent once, and not before a guard has let it go.

``guarded`` runs a SendGuard as the last statement before the first byte of the request is written, in the thread that
writes it and after the connection stands. No retry, no redirect, 3 s for connecting and the whole answer together: a
socket's own timeout begins anew with every byte, so that an answer that drips would never end.
"""

from __future__ import annotations

import http.client
import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from worker.venues.base import CALL_TIMEOUT_SECONDS, SendGuard

_SOCKET_OPTIONS = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]


class Sending(threading.local):
    """What this thread is about to send: its guard, and whether any byte has left."""

    guard: SendGuard | None = None
    started: bool = False


_sending = Sending()


@contextmanager
def guarded(guard: SendGuard) -> Iterator[Sending]:
    """Guard the one request made inside; ``started`` on the yielded object tells whether a byte of it was written."""
    _sending.guard, _sending.started = guard, False
    try:
        yield _sending
    finally:
        _sending.guard = None


def _before_write(connection: Any) -> None:
    """Connect first, then ask the guard once, then let the bytes go."""
    guard = _sending.guard
    if guard is None or _sending.started:
        return
    if connection.sock is None:
        connection.connect()
    guard()
    _sending.started = True


class _Timed(io.RawIOBase):
    """A socket's stream that must be read to its end before a deadline. Raises TimeoutError."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw, self._sock = raw, sock
        timeout = sock.gettimeout()
        self._deadline = None if timeout is None else time.monotonic() + timeout

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._deadline is not None:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the answer is not complete in time")
            self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class TimedResponse(http.client.HTTPResponse):
    """The timeout that the socket has when the answer is awaited holds for all of the answer."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        stream: Any = self.fp
        self.fp = io.BufferedReader(_Timed(stream.detach(), sock))


class GuardedConnection(HTTPConnection):
    """Plain HTTP; named in errors by its address."""

    response_class = TimedResponse

    def send(self, data: Any) -> None:
        _before_write(self)
        super().send(data)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class GuardedTLSConnection(HTTPSConnection):
    """The same over TLS."""

    response_class = TimedResponse

    def send(self, data: Any) -> None:
        _before_write(self)
        super().send(data)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class GuardedPool(HTTPConnectionPool):
    ConnectionCls = GuardedConnection


class GuardedTLSPool(HTTPSConnectionPool):
    ConnectionCls = GuardedTLSConnection


POOL_CLASSES = {"http": GuardedPool, "https": GuardedTLSPool}


def call_timeout() -> urllib3.Timeout:
    """Connecting and waiting for the answer together."""
    return urllib3.Timeout(total=CALL_TIMEOUT_SECONDS)


def pool_manager(connections: int) -> urllib3.PoolManager:
    """A thread-safe manager of kept-alive connections with our rules."""
    manager = urllib3.PoolManager(
        num_pools=4,
        maxsize=connections,
        retries=False,
        timeout=call_timeout(),
        socket_options=_SOCKET_OPTIONS,
    )
    manager.pool_classes_by_scheme = POOL_CLASSES
    return manager
