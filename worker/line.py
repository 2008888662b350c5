"""A connection to Redis of one's own, kept open: what must leave at once waits for no pool and no handshake."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import redis

Word = str | bytes | int | float
Command = tuple[Word, ...]

_LENGTHS = [b"$%d\r\n" % length for length in range(256)]


def packed(commands: Sequence[Command]) -> bytes:
    """Commands as they go over the wire. redis-py takes four times as long, which of a gate call was a fifth."""
    out: list[bytes] = []
    for words in commands:
        out.append(b"*%d\r\n" % len(words))
        for word in words:
            kind = type(word)
            if kind is bytes:
                raw: bytes = word  # type: ignore[assignment]
            else:
                raw = word.encode() if isinstance(word, str) else repr(word).encode()
            length = len(raw)
            out += (_LENGTHS[length] if length < 256 else b"$%d\r\n" % length, raw, b"\r\n")
    return b"".join(out)


def read_answers(connection: Any, count: int) -> list[Any]:
    """As many answers from a connection of redis-py's; a refusal of a single command is one of them."""
    answers: list[Any] = []
    for _ in range(count):
        try:
            answers.append(connection.read_response())
        except redis.ResponseError as refusal:
            answers.append(refusal)
    return answers


class Line:
    """Not thread-safe. Every method but ``is_up`` raises redis-py's exceptions, and leaves a broken line closed."""

    def __init__(self, client: redis.Redis) -> None:
        self._connection: Any = client.connection_pool.make_connection()

    def pack(self, commands: Sequence[Command]) -> Sequence[bytes]:
        """Commands as they go over the wire."""
        return [packed(commands)]

    @property
    def is_up(self) -> bool:
        """Whether it stands, as far as this side knows; asks nobody."""
        try:
            return bool(self._connection.is_connected) and not self._connection.can_read(timeout=0)
        except (redis.RedisError, OSError):
            return False

    def open(self) -> None:
        """Connect, where it does not stand."""
        if not self.is_up:
            self._connection.disconnect()
            self._connection.connect()

    def send(self, packed: Sequence[bytes]) -> None:
        """Into the socket; the answers are read later."""
        self._connection.send_packed_command(packed, check_health=False)

    def read(self, count: int) -> list[Any]:
        """See ``read_answers``."""
        return read_answers(self._connection, count)

    def cut(self) -> None:
        """From another thread: whoever waits on the line is told that it is broken."""
        wire = self._connection._get_socket()
        if wire is not None:
            with suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._connection.disconnect()
