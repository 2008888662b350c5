"""The fence: the epoch is raised once per stop, by whichever account's run comes first, while all go on to cancel."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import structlog

from shared.errors import StoreError
from worker.emergency.keys import EmergencyKeys
from worker.emergency.latch import MemoryFile
from worker.failpoints import failpoint


class Fencing:
    """The fence of one stop. ``raise_epoch`` returns the epoch, or None where Redis does not answer."""

    def __init__(self, pool: ThreadPoolExecutor, raise_epoch: Callable[[], int | None]) -> None:
        self._pool, self._raise_epoch = pool, raise_epoch
        self._lock = threading.Lock()
        self._raised: Future[int | None] | None = None

    def start(self) -> Future[int | None]:
        """Raise it now, unless that is under way; the epoch that comes of it."""
        with self._lock:
            if self._raised is None:
                self._raised = self._pool.submit(self._raise_epoch)
            return self._raised


class Fencer:
    """Makes fences. ``later`` takes what Redis must be told once it answers, ``on_late`` hears that it was."""

    def __init__(
        self,
        keys: EmergencyKeys,
        memory: MemoryFile,
        logger: structlog.stdlib.BoundLogger,
        later: Callable[[Callable[[], None]], None],
        on_late: Callable[[], None],
    ) -> None:
        self._keys, self._memory, self._logger = keys, memory, logger
        self._later, self._on_late = later, on_late
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="fence")

    def new(self) -> Fencing:
        """One that nobody has raised yet."""
        return Fencing(self._pool, self._raise)

    def above_all(self) -> int:
        """Disarm and raise the epoch above every one that was given. Raises StoreError."""
        return self._keys.raise_epoch(self._memory.memory.highest_epoch + 1)

    def _raise(self) -> int | None:
        failpoint("fence.raise")
        try:
            epoch = self.above_all()
        except StoreError as error:
            self._logger.warning("not_fenced", error=str(error))
            self._later(self._raise_late)
            return None
        failpoint("fence.raised")
        self._memory.change(highest_epoch=epoch)
        failpoint("fence.remembered")
        return epoch

    def _raise_late(self) -> None:
        """Redis was away when the stop was carried out; it is back. Raises StoreError."""
        self._memory.change(highest_epoch=self.above_all())
        self._on_late()

    def restore(self) -> None:
        """A Redis that came back old or empty gets an epoch above all that were. Raises StoreError."""
        epoch = self._keys.epoch()
        if epoch is None or epoch < self._memory.memory.highest_epoch:
            self._raise_late()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
