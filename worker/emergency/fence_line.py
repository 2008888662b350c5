"""``trading_epoch`` and ``trading_armed`` as the emergency worker writes them, over a line kept for a stop."""

from __future__ import annotations

import threading

import redis

from shared.errors import StoreRefused, StoreUnreachable
from shared.keys import ARMED_TTL_SECONDS
from shared.store import Store, translated_errors
from worker.line import Line

LARGEST_EPOCH = 2**52

# KEYS 1 trading_armed, 2 trading_epoch. ARGV 1 the least epoch that may come of it.
_FENCE = """
redis.call('DEL', KEYS[1])
local now = redis.pcall('GET', KEYS[2])
local value = 0
if type(now) == 'string' then value = tonumber(now) or 0 end
if value ~= value or value < 0 or value >= 4503599627370496 then value = 0 end
local least = tonumber(ARGV[1])
value = math.max(value + 1, least)
redis.call('SET', KEYS[2], string.format('%.0f', value))
return string.format('%.0f', value)
"""


class FenceLine:
    """Arms, disarms and raises the epoch."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._raise = store.client.register_script(_FENCE)
        self._line = Line(store.client)
        self._in_use = threading.Lock()

    def epoch(self) -> int | None:
        """``trading_epoch``; None where it is missing or mangled. Raises StoreUnreachable."""
        try:
            return whole_number(self._store.read_raw(self._store.keys.trading_epoch))
        except StoreRefused:
            return None

    def arm(self, epoch: int) -> None:
        """Allow this epoch for three seconds. Raises StoreError."""
        with translated_errors():
            self._store.client.set(self._store.keys.trading_armed, str(epoch), ex=ARMED_TTL_SECONDS)

    def disarm(self) -> None:
        """Raises StoreError."""
        with translated_errors():
            self._store.client.delete(self._store.keys.trading_armed)

    def raise_epoch(self, least: int) -> int:
        """Disarm and raise the epoch above all that was and to at least ``least``. Raises StoreError."""
        keys = self._store.keys
        with translated_errors():
            self._store.client.delete(keys.trading_armed)  # allowed even on a full server
            return int(self._raise(keys=[keys.trading_armed, keys.trading_epoch], args=[least]))

    def begin(self, least: int) -> bool:
        """Let the commands of ``raise_epoch`` leave over the line kept for them, and wait for nothing.

        True: ``end`` must follow, from any thread. False: nothing has left, since the line is down or in use.
        """
        if not self._in_use.acquire(blocking=False):
            return False
        keys = self._store.keys
        fence = ("EVAL", _FENCE, 2, keys.trading_armed, keys.trading_epoch, least)
        try:
            if self._line.is_up:
                self._line.send(self._line.pack([("DEL", keys.trading_armed), fence]))
                return True
        except (redis.RedisError, OSError):
            self._line.close()
        self._in_use.release()
        return False

    def end(self) -> int:
        """The epoch that ``begin`` has led to. Raises StoreError: it may have been raised or not."""
        try:
            with translated_errors():
                for answer in (answers := self._line.read(2)):
                    if isinstance(answer, Exception):
                        raise answer
                return int(answers[1])
        except StoreUnreachable:
            self._line.close()
            raise
        finally:
            self._in_use.release()

    def keep(self) -> None:
        """Open the line, or see that it still answers. Raises StoreError."""
        if not self._in_use.acquire(blocking=False):
            return
        try:
            with translated_errors():
                self._line.open()
                self._line.send(self._line.pack([("PING",)]))
                self._line.read(1)
        except StoreUnreachable:
            self._line.close()
            raise
        finally:
            self._in_use.release()

    def close(self) -> None:
        self._line.close()


def whole_number(raw: object) -> int | None:
    """What an epoch's key holds; None too for what a script's numbers, which are doubles, cannot count on from."""
    try:
        number = int(raw) if isinstance(raw, bytes) else -1
    except ValueError:
        return None
    return number if 0 <= number < LARGEST_EPOCH else None
