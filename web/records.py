"""Reading what workers wrote: whatever stands in a key, a page or an answer is never the worse for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

import redis

from shared.documents import parse_json
from shared.errors import DocumentError
from shared.store import MAX_RECORD_BYTES, Store, translated_errors

_REMEMBERED_BYTES = 64 * 1024


class Records:
    """Documents by key, read in one round trip, with the reason for each that cannot be read.

    ``found`` are answers to GETs of the keys, where somebody has asked already.
    """

    def __init__(self, store: Store, keys: Sequence[str], found: Sequence[Any] | None = None) -> None:
        if found is None:
            with translated_errors(), store.client.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.get(key)
                found = pipe.execute(raise_on_error=False)
        self.raw: dict[str, bytes | None] = {}
        self.value: dict[str, Any] = {}
        self.problems: dict[str, str] = {}
        for key, answer in zip(keys, found, strict=True):
            name = key.removeprefix(store.keys.prefix)
            self.raw[name], self.value[name] = None, None
            if isinstance(answer, redis.ResponseError):
                self.problems[name] = "another Redis type than a string"
            elif isinstance(answer, Exception):
                with translated_errors():
                    raise answer
            elif answer is not None:
                self._parse(name, cast("bytes", answer))

    def _parse(self, name: str, raw: bytes) -> None:
        try:
            self.value[name] = _remembered(raw) if len(raw) <= _REMEMBERED_BYTES else _judged(raw)
            self.raw[name] = raw
        except DocumentError as error:
            self.problems[name] = str(error)

    def mapping(self, name: str) -> Mapping[str, Any]:
        """A JSON object, or an empty one."""
        value = self.value[name]
        return value if isinstance(value, dict) else {}

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The objects of a JSON array, or none."""
        value = self.value[name]
        return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []

    def passed_through(self, names: Mapping[str, str]) -> bytes:
        """One JSON object whose fields are the stored bytes as they stand; null for what cannot be read."""
        parts = [json.dumps(field).encode() + b": " + (self.raw[name] or b"null") for field, name in names.items()]
        parts.append(b'"problems": ' + json.dumps(self.problems).encode())
        return b"{" + b", ".join(parts) + b"}"


def _judged(raw: bytes) -> Any:
    return parse_json(raw, MAX_RECORD_BYTES)


_remembered = lru_cache(maxsize=32)(_judged)
"""The same bytes are judged once: a page polls every second what changes every few. Nobody changes what it returns."""


def stream_rows(store: Store, key: str, count: int) -> list[dict[str, str]]:
    """The last entries of a stream, oldest first; none where the key is missing or mangled."""
    try:
        rows = cast("list[tuple[bytes, dict[bytes, bytes]]]", store.client.xrevrange(key, count=count))
    except redis.ResponseError:
        return []
    except redis.RedisError as error:
        with translated_errors():
            raise error
    return [
        {"id": i.decode(), **{n.decode(errors="replace"): v.decode(errors="replace") for n, v in f.items()}}
        for i, f in rows[::-1]
    ]


def hashes(store: Store, index: str, prefix: str, start: int, count: int) -> tuple[list[dict[str, str]], bool]:
    """Hashes named by ``count`` members of a set or a sorted set (newest first, from ``start``), and are there more?

    A member whose hash is gone or mangled is left out.
    """
    client = store.client
    try:
        kind = cast("bytes", client.type(index))
        if kind == b"set":
            ids = sorted(cast("set[bytes]", client.smembers(index)))[start : start + count + 1]
        elif kind == b"zset":
            ids = cast("list[bytes]", client.zrevrange(index, start, start + count))
        else:
            return [], False
        with client.pipeline(transaction=False) as pipe:
            for member in ids[:count]:
                pipe.hgetall(prefix + member.decode(errors="replace"))
            rows = pipe.execute(raise_on_error=False)
    except redis.RedisError as error:
        with translated_errors():
            raise error
    found = [
        {n.decode(errors="replace"): v.decode(errors="replace") for n, v in row.items()}
        for row in rows
        if isinstance(row, dict) and row
    ]
    return found, len(ids) > count
