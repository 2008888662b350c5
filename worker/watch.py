"""Waking on a written key: keyspace notifications where Redis offers them, a poll where not.

A hint to look, never the record.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import redis

from shared.store import connect

POLL_SECONDS = 0.25


class KeyWatcher:
    """A thread that calls ``on_change`` at every write of the watched keys, and at least every ``POLL_SECONDS``.

    The callee looks for itself what changed. Redis being away ends no watcher: it keeps polling and listens again.
    """

    def __init__(self, url: str, keys: Sequence[str], on_change: Callable[[], None]) -> None:
        self._url, self._keys, self._on_change = url, tuple(keys), on_change
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="key-watcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2 * POLL_SECONDS + 1)

    def _run(self) -> None:
        while not self._stop.is_set():
            client = connect(self._url, timeout_seconds=POLL_SECONDS)
            try:
                self._listen(client)
            except (redis.RedisError, OSError):
                self._on_change()
                self._stop.wait(POLL_SECONDS)
            finally:
                client.close()

    def _listen(self, client: redis.Redis) -> None:
        database = client.get_connection_kwargs().get("db", 0)
        with client.pubsub(ignore_subscribe_messages=True) as channel:  # type: ignore[no-untyped-call]
            channel.subscribe(*(f"__keyspace@{database}__:{key}" for key in self._keys))
            while not self._stop.is_set():
                channel.get_message(timeout=POLL_SECONDS)
                self._on_change()
