"""The trader's side of the fence: which epoch it has seen and which orders are without their answer."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from shared.clock import Clock, rfc3339
from shared.documents import dump_json
from shared.errors import StoreError, StoreRefused
from shared.store import Store, translated_errors
from worker.failpoints import failpoint
from worker.trading.ports import Flight

# KEYS 1 lease, 2 epoch_ack. ARGV 1 owner, 2 the acknowledgement.
_ACKNOWLEDGE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
return 1
"""


class Fence:
    """Reads ``trading_epoch`` and ``trading_armed``; acknowledges a new epoch in ``epoch_ack:{account}``.

    ``acknowledge`` runs in the watching thread, so that a slow venue call never delays it. It is true even so: an id
    is in flight from before its gate call until its answer is taken in, or until the venue has said what became of it
    where there was no answer; and a gate call after the epoch rose fails.
    Only the ``owner`` of the lease speaks for the account: a second trader that waits for it knows nothing of what is
    in flight.
    """

    owner = ""

    def __init__(self, store: Store, account: str, clock: Clock) -> None:
        self._store, self._account, self._clock = store, account, clock
        self._write = store.client.register_script(_ACKNOWLEDGE)
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
    def in_flight(self, client_order_id: str) -> Iterator[Flight]:
        """Around gate call, send and answer of one order."""
        flight = Flight()
        with self._lock:
            self._in_flight.add(client_order_id)
        failpoint("fence.in_flight")
        try:
            yield flight
        finally:
            failpoint("fence.landed")
            with self._lock:
                if flight.unresolved:
                    self._unresolved |= {client_order_id}
                self._in_flight.discard(client_order_id)

    def unresolved(self, client_order_ids: Iterable[str]) -> None:
        """Orders whose fate at the venue is not known: they count as in flight until it is."""
        with self._lock:
            self._unresolved = frozenset(client_order_ids)

    def acknowledge(self) -> None:
        """Write the acknowledgement where the epoch or what is in flight changed. A Redis that is away costs it."""
        try:
            epoch = self.epoch()
            if epoch is None or not self.owner:
                return
            with self._lock:
                pending = frozenset(self._in_flight) | self._unresolved
            if self._acknowledged == (epoch, pending):
                return
            failpoint("fence.acknowledge")
            keys = self._store.keys
            told = {"epoch": epoch, "in_flight": sorted(pending), "at": rfc3339(self._clock.now())}
            with translated_errors():
                written = self._write(
                    keys=[keys.lease(self._account), keys.epoch_ack(self._account)], args=[self.owner, dump_json(told)]
                )
            failpoint("fence.acknowledged")
            self._acknowledged = (epoch, pending) if written else None
        except StoreError:
            self._acknowledged = None
