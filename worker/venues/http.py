"""HTTP to a venue: what is sent is sent once, and not before a guard has let it go.

``guarded`` runs a SendGuard as the last statement before the first byte of the request is written, in the thread that
writes it and after the connection stands. No retry, no redirect, 3 s for connecting and reading together.
"""

from __future__ import annotations

import socket
import threading
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


class GuardedConnection(HTTPConnection):
    """Plain HTTP."""

    def send(self, data: Any) -> None:
        _before_write(self)
        super().send(data)


class GuardedTLSConnection(HTTPSConnection):
    """The same over TLS."""

    def send(self, data: Any) -> None:
        _before_write(self)
        super().send(data)


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
