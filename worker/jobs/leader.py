"""One jobs worker forwards and listens, however many run: a lease that lapses by itself."""

from __future__ import annotations

from typing import cast

from redis.client import Pipeline

from shared.store import Store

TTL_SECONDS = 6


class Leadership:
    """``jobs:leader``. ``held`` is what the last renewal found; another thread may read it."""

    def __init__(self, store: Store, owner: str) -> None:
        self._store, self._owner = store, owner.encode()
        self.held = False

    def renew(self) -> None:
        """Take it where it is free, keep it where it is ours.

        Raises StoreError, and then it stays as it was: who listened goes on listening while Redis is away.
        """
        self.held = self._store.transact([self._store.keys.jobs_leader], self._step)

    def _step(self, pipe: Pipeline) -> bool:
        key = self._store.keys.jobs_leader
        found = cast("bytes | None", pipe.get(key))
        pipe.multi()
        if found not in (None, self._owner):
            return False
        pipe.set(key, self._owner, ex=TTL_SECONDS)
        return True

    def release(self) -> None:
        """Leave it to the next one at once. Raises StoreError."""

        def step(pipe: Pipeline) -> None:
            mine = pipe.get(self._store.keys.jobs_leader) == self._owner
            pipe.multi()
            if mine:
                pipe.delete(self._store.keys.jobs_leader)

        self.held = False
        self._store.transact([self._store.keys.jobs_leader], step)
