"""The jobs worker on demand: started when a job waits, ended when there has been none for a while.

An installation without reporters has a job only now and then: a model that somebody uploaded. The worker would cost
some 50 MB all day for that. Where another jobs worker is alive, on this host or elsewhere, this one is not started.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import redis

from shared.clock import Clock, rfc3339
from shared.errors import StoreError
from shared.jobs import Backlog, attendance, backlog
from shared.store import Store
from worker.supervisor.process import Child

LOOK_SECONDS = 1.0
STANDBY_TTL_SECONDS = 10


class JobsOnDemand:
    """``tick`` as often as you like; it looks once a second. ``start`` starts the worker and returns it."""

    def __init__(
        self,
        store: Store,
        queue: redis.Redis,
        clock: Clock,
        start: Callable[[], Child],
        tell: Callable[[str], None],
        idle_seconds: float,
    ) -> None:
        self._store, self._queue, self._clock, self._start, self._tell = store, queue, clock, start, tell
        self._idle_seconds = idle_seconds
        self._child: Child | None = None
        self._found = Backlog()
        self._next = self._busy_at = float("-inf")

    @property
    def state(self) -> str:
        """For the status line."""
        waits = f", {self._found.waiting} waiting" if self._found.waiting else ""
        if self._child is None:
            return f"jobs on demand{waits}"
        return f"jobs {'working' if self._found.running else 'ready'}{waits}"

    def tick(self) -> None:
        """A Redis that is away costs this look only."""
        now = self._clock.monotonic()
        if now < self._next:
            return
        self._next = now + LOOK_SECONDS
        try:
            self._found = backlog(self._queue, self._store, self._clock.now())
            self._act(now)
            self._announce()
        except StoreError:
            return

    def _act(self, now: float) -> None:
        child = self._child
        if child is not None and child.retired and child.pid is None:
            child = self._child = None
            self._tell("jobs has ended")
        wanted = bool(self._found.waiting or self._found.running)
        if wanted:
            self._busy_at = now
        if child is None and wanted and attendance(self._store) != "running":
            self._tell(f"jobs: {self._found.waiting} waiting, the jobs worker starts")
            self._child = self._start()
        elif child is not None and not child.retired and now - self._busy_at >= self._idle_seconds:
            self._tell(f"jobs: none for {self._idle_seconds:g} s, the jobs worker ends until there is one")
            child.retire()

    def _announce(self) -> None:
        """What tells a frontend that a job will be done though no worker runs."""
        document = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "state": self.state,
            "waiting": self._found.waiting,
            "running": self._found.running,
            "at": rfc3339(self._clock.now()),
        }
        self._store.put_json(self._store.keys.jobs_standby, document, ttl_seconds=STANDBY_TTL_SECONDS)
