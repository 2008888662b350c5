"""The trader's side of the fence: which epoch it has seen and which orders are without their answer."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from shared.clock import Clock, rfc3339
from shared.errors import StoreError, StoreRefused
from shared.store import Store
from worker.failpoints import failpoint


class Fence:
    """Reads ``trading_epoch`` and ``trading_armed``; acknowledges a new epoch in ``epoch_ack:{account}``.

    ``acknowledge`` runs in the watching thread, so that a slow venue call never delays it. It is true even so: an id
    is in flight from before its gate call until its answer is taken in, and a gate call after the epoch rose fails.
    """

    def __init__(self, store: Store, account: str, clock: Clock) -> None:
        self._store, self._account, self._clock = store, account, clock
        self._lock = threading.Lock()
        self._in_flight: set[str] = set()
        self._unresolved: frozenset[str] = frozenset()
        self._acknowledged: tuple[int, frozenset[str]] | None = None

    def epoch(self) -> int | None:
        """The epoch in force; None where there is none, which allows nothing. Raises StoreUnreachable."""
        return self._integer(self._store.keys.trading_epoch)

    def armed_epoch(self) -> int | None:
        """The epoch for which trading is armed now. Raises StoreUnreachable."""
        return self._integer(self._store.keys.trading_armed)

    def _integer(self, key: str) -> int | None:
        try:
            raw = self._store.read_raw(key)
            return None if raw is None else int(raw)
        except (ValueError, StoreRefused):
            return None

    @contextmanager
    def in_flight(self, client_order_id: str) -> Iterator[None]:
        """Around gate call, send and answer of one order."""
        with self._lock:
            self._in_flight.add(client_order_id)
        failpoint("fence.in_flight")
        try:
            yield
        finally:
            failpoint("fence.landed")
            with self._lock:
                self._in_flight.discard(client_order_id)

    def unresolved(self, client_order_ids: Iterable[str]) -> None:
        """Orders whose fate at the venue is not known: they count as in flight until it is."""
        with self._lock:
            self._unresolved = frozenset(client_order_ids)

    def acknowledge(self) -> None:
        """Write the acknowledgement where the epoch or what is in flight changed. A Redis that is away costs it."""
        try:
            epoch = self.epoch()
            if epoch is None:
                return
            with self._lock:
                pending = frozenset(self._in_flight) | self._unresolved
            if self._acknowledged == (epoch, pending):
                return
            failpoint("fence.acknowledge")
            self._store.put_json(
                self._store.keys.epoch_ack(self._account),
                {"epoch": epoch, "in_flight": sorted(pending), "at": rfc3339(self._clock.now())},
            )
            failpoint("fence.acknowledged")
            self._acknowledged = (epoch, pending)
        except StoreError:
            self._acknowledged = None
