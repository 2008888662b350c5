"""Redis, with the promises the rest relies on: nothing retries by itself, every failure is one of two errors.

StoreUnreachable: no answer in time, a write may have happened. StoreRefused: an answer, and nothing was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.documents import (
    D,
    Reading,
    RiskSettings,
    TradingSettings,
    dump_json,
    parse_json,
)
from shared.errors import DocumentError, StoreRefused, StoreUnreachable
from shared.keys import STREAM_LIMITS, Keys

T = TypeVar("T")

TIMEOUT_SECONDS = 1.0
MAX_RECORD_BYTES = 4 * 1024 * 1024
_ATTEMPTS_OF_A_TRANSACTION = 50

# The audit entry comes first: where it is refused, nothing is written.
# KEYS: document, audit. ARGV: "1" where bytes are expected, those bytes, new bytes, audit length, audit field, value…
_COMPARE_AND_SET = """
local found = redis.call('GET', KEYS[1])
if ARGV[1] == '1' then
  if found ~= ARGV[2] then return 0 end
elseif found then
  return 0
end
if #ARGV > 4 then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', unpack(ARGV, 5))
end
redis.call('SET', KEYS[1], ARGV[3])
return 1
"""


def connect(url: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> redis.Redis:
    """A client that fails once and at once: no retries (a retried append is a duplicate), bounded sockets."""
    return redis.Redis.from_url(
        url,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        decode_responses=False,
    )


@contextmanager
def translated_errors() -> Iterator[None]:
    """Map redis-py's exceptions to ours; a WatchError passes, since it is an answer and no failure."""
    try:
        yield
    except redis.WatchError:
        raise
    except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
        raise StoreUnreachable(f"Redis does not answer: {error}") from error
    except redis.RedisError as error:
        raise StoreRefused(f"Redis refused: {error}") from error


class Store:
    """The documents and records under one prefix."""

    def __init__(self, client: redis.Redis, keys: Keys | None = None) -> None:
        self.client = client
        self.keys = keys or Keys()
        self._compare_and_set = client.register_script(_COMPARE_AND_SET)

    # -- documents that people write ------------------------------------------------------------------------------

    def read_raw(self, key: str) -> bytes | None:
        """The bytes of a string key. Raises StoreRefused on another Redis type."""
        with translated_errors():
            return cast("bytes | None", self.client.get(key))

    def read_settings(self, good: TradingSettings) -> Reading[TradingSettings]:
        """``trading_settings`` as it stands. A missing document is an error too: it means OFF."""
        return self._reading(self.keys.trading_settings, TradingSettings, good)

    def read_risk(self, good: RiskSettings) -> Reading[RiskSettings]:
        """``risk_settings`` as it stands; missing means the defaults, with the two switches as they are in force."""
        return self._reading(self.keys.risk_settings, RiskSettings, good)

    def _reading(self, key: str, model: type[D], good: D) -> Reading[D]:
        try:
            raw = self.read_raw(key)
        except StoreRefused as error:
            if "WRONGTYPE" not in str(error):
                raise
            return wrong_type(key, good)
        return judge(raw, model, good)

    def write_document(
        self, key: str, expected: bytes | None, new: bytes, audit: Mapping[str, str] | None = None
    ) -> bool:
        """Compare-and-set on exact bytes (None: the key must be missing), with its audit entry, atomically.

        False: another writer was first and nothing was written.
        """
        fields = [part for pair in (audit or {}).items() for part in pair]
        with translated_errors():
            return bool(
                self._compare_and_set(
                    keys=[key, self.keys.audit],
                    args=[
                        "0" if expected is None else "1",
                        expected or b"",
                        new,
                        STREAM_LIMITS["audit"] if fields else 0,
                        *fields,
                    ],
                )
            )

    # -- records that workers write -------------------------------------------------------------------------------

    def get_json(self, key: str) -> Any:
        """A document of ours, or None where it is missing or mangled (its next writer replaces it)."""
        try:
            raw = self.read_raw(key)
            return None if raw is None else parse_json(raw, MAX_RECORD_BYTES)
        except (StoreRefused, DocumentError):
            return None

    def put_json(self, key: str, value: object, ttl_seconds: int | None = None) -> None:
        """Replace a document of ours, whatever stood there."""
        with translated_errors():
            self.client.set(key, dump_json(value), ex=ttl_seconds)

    def transact(self, keys: list[str], step: Callable[[redis.client.Pipeline], T]) -> T:
        """Optimistic transaction: ``step`` reads from the pipeline, calls ``multi()``, queues writes; returns a value.

        Runs again until nobody touched the watched keys in between. ``step`` must be repeatable. Raises StoreRefused
        where it was disturbed fifty times.
        """
        for _ in range(_ATTEMPTS_OF_A_TRANSACTION):
            with translated_errors(), self.client.pipeline(transaction=True) as pipe:
                try:
                    pipe.watch(*keys)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
                    result = step(pipe)
                    pipe.execute()
                except redis.WatchError:
                    continue
                return result
        raise StoreRefused(f"{keys[0]} was changed by others {_ATTEMPTS_OF_A_TRANSACTION} times in a row")

    def merge_json(self, key: str, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> bool:
        """Read-modify-write one JSON object of ours; ``change`` gets {} where it is missing or mangled.

        ``change`` returning None leaves it; returns whether it was written.
        """

        def step(pipe: redis.client.Pipeline) -> bool:
            try:
                raw = cast("bytes | None", pipe.get(key))
                found = parse_json(raw, MAX_RECORD_BYTES) if raw is not None else {}
            except (DocumentError, redis.ResponseError):
                found = {}
            new = change(dict(found) if isinstance(found, dict) else {})
            pipe.multi()
            if new is not None:
                pipe.set(key, dump_json(new))
            return new is not None

        return self.transact([key], step)

    def add_event(self, stream: str, fields: Mapping[str, str]) -> None:
        """Append to one of the bounded streams (its key's name decides the bound)."""
        with translated_errors():
            self.client.xadd(
                stream,
                cast("Any", dict(fields)),
                maxlen=STREAM_LIMITS[stream.removeprefix(self.keys.prefix)],
                approximate=True,
            )


def wrong_type(key: str, good: D) -> Reading[D]:
    """The judgement of a document whose key holds something else than a string."""
    return Reading(None, good, DocumentError("document", f"{key} holds another Redis type than a string"))


def judge(raw: bytes | None, model: type[D], good: D) -> Reading[D]:
    """The one judgement of a settings document, from its bytes and the last good values."""
    if raw is None and model is RiskSettings and isinstance(good, RiskSettings):
        kept = RiskSettings(emergency_stop_active=good.emergency_stop_active, reduce_only=good.reduce_only)
        return Reading(None, cast("D", kept))
    if raw is None:
        return Reading(None, good, DocumentError("document", "trading_settings is missing, which means OFF"))
    try:
        return Reading(raw, model.parse(raw, good))
    except DocumentError as error:
        return Reading(raw, good, error)
