"""Commands to Redis as bytes."""

from __future__ import annotations

from redis.connection import Connection

from worker.core.types import Side
from worker.line import Command, packed


def test_packed_when_words_are_of_every_kind_is_what_redis_py_sends() -> None:
    commands: list[Command] = [
        ("SET", "clé", b"\x00\r\n", 12, -3, 0.25, Side.BUY.value),
        ("HSET", "long", "x" * 70_000, "", Side.SELL, "é" * 200),
    ]
    assert packed(commands) == b"".join(Connection().pack_commands(commands))
