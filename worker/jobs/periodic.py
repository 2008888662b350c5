"""A job every so often, one at a time: a slow one is not joined by the next."""

from __future__ import annotations

from collections.abc import Callable

import redis

from shared.clock import Clock
from shared.jobs import enqueue
from worker.jobs.deliveries import RQDeliveries
from worker.reporters.forwarder import Fate


class Periodic:
    """Enqueues the job ``name``, from the start on. Raises StoreError, and then tries at the next turn."""

    def __init__(
        self, name: str, seconds: float, connection: redis.Redis, clock: Clock, is_leader: Callable[[], bool]
    ) -> None:
        self._name, self._seconds, self._connection = name, seconds, connection
        self._records, self._clock, self._is_leader = RQDeliveries(connection), clock, is_leader
        self._next = float("-inf")

    def __call__(self) -> None:
        now = self._clock.monotonic()
        if now < self._next or not self._is_leader():
            return
        job_id = f"periodic-{self._name}"
        if self._records.fate(job_id).fate is not Fate.PENDING:
            self._records.forget(job_id)
            enqueue(self._connection, self._name, job_id=job_id)
        self._next = now + self._seconds
