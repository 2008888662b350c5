"""A change of many keys at once in two round trips: watch and read, then write all of it, or nothing.

A MULTI goes on after a command that fails, because a key holds another type, say; so the writes are one script, which
looks at all of that first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any, TypeVar

import redis

from shared.errors import StoreRefused
from shared.store import translated_errors
from worker.line import Command, Word, packed, read_answers

T = TypeVar("T")

ATTEMPTS = 50


class Writes:
    """What a change writes, in order. Nothing is sent before ``Transaction.commit``."""

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.types: dict[str, str] = {}

    def hset(self, key: str, fields: Mapping[str, str]) -> None:
        if fields:
            self._add("hash", "HSET", key, *(word for pair in fields.items() for word in pair))

    def hdel(self, key: str, field: str) -> None:
        self._add("hash", "HDEL", key, field)

    def hincrby(self, key: str, field: str, amount: int) -> None:
        self._add("hash", "HINCRBY", key, field, amount)

    def sadd(self, key: str, member: str) -> None:
        self._add("set", "SADD", key, member)

    def srem(self, key: str, member: str) -> None:
        self._add("set", "SREM", key, member)

    def zadd(self, key: str, member: str, score: float) -> None:
        self._add("zset", "ZADD", key, repr(score), member)

    def zrem(self, key: str, member: str) -> None:
        self._add("zset", "ZREM", key, member)

    def set(self, key: str, value: bytes) -> None:
        """Replaces whatever stood there."""
        self.commands.append(("SET", key, value))

    def expire(self, key: str, seconds: int) -> None:
        self.commands.append(("EXPIRE", key, seconds))

    def xadd(self, key: str, fields: Mapping[str, str], length: int) -> None:
        """Left out where the key holds another type: an event is no part of the book. It must come first."""
        words = (word for pair in fields.items() for word in pair)
        self.commands.append(("XADD", key, "MAXLEN", "~", length, "*", *words))

    def _add(self, kind: str, name: str, key: str, *words: Word) -> None:
        self.types[key] = kind
        self.commands.append((name, key, *words))

    def script(self) -> Command:
        """The one command that writes all of it."""
        words = (word for command in self.commands for word in (len(command), *command))
        return ("EVAL", _WRITE, len(self.types), *self.types, *self.types.values(), *words)


_WRITE = files("worker.trading").joinpath("write.lua").read_text()


class Transaction:
    """One attempt over one connection. Raises redis-py's exceptions."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._watching = False

    def read(self, watched: Iterable[str], *commands: Command) -> list[Any]:
        """Watch, then read, in one round trip; a refusal stands where the answer would."""
        self._watching = True
        watching, *answers = self._ask([("WATCH", *watched), *commands])
        answered(watching)
        return answers

    def commit(self, writes: Writes) -> None:
        """Raises WatchError where a watched key was touched; then nothing is written, nor after a refusal."""
        if not writes.commands:
            self.forget()
            return
        answers = self._ask([("MULTI",), writes.script(), ("EXEC",)])
        self._watching = False
        done = answers[2]
        if done is None:
            raise redis.WatchError("a watched key was touched")
        for answer in (done, *(done if isinstance(done, list) else ())):
            if isinstance(answer, Exception):
                raise answer

    def forget(self) -> None:
        """Watch nothing any more."""
        if self._watching:
            self._ask([("UNWATCH",)])
            self._watching = False

    def _ask(self, commands: Sequence[Command]) -> list[Any]:
        self._connection.send_packed_command([packed(commands)], check_health=False)
        return read_answers(self._connection, len(commands))


def transact(client: redis.Redis, step: Callable[[Transaction], T], what: str) -> T:
    """Repeat a step that reads and commits until nobody disturbs it; it must be repeatable. Raises StoreError."""
    with translated_errors():
        connection: Any = client.connection_pool.get_connection()
    try:
        for _ in range(ATTEMPTS):
            attempt = Transaction(connection)
            try:
                with translated_errors():
                    result = step(attempt)
                    attempt.forget()
                    return result
            except redis.WatchError:
                continue
            except BaseException:
                connection.disconnect()  # nobody knows what it still watches, or which answers are on their way
                raise
        raise StoreRefused(f"{what} was changed by others {ATTEMPTS} times in a row")
    finally:
        client.connection_pool.release(connection)


def answered(answer: Any) -> Any:
    """The answer, or raise what it is. Raises redis.ResponseError."""
    if isinstance(answer, Exception):
        raise answer
    return answer


def mapping(answer: Any) -> dict[bytes, bytes]:
    """A hash, in whichever form the protocol brings it. Raises redis.ResponseError."""
    found = answered(answer)
    return found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
