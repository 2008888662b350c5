"""The fence: the epoch is raised once per stop, by whichever account's run comes first, while all go on to cancel."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import redis
import structlog

from shared.errors import StoreError, StoreUnreachable
from worker.emergency.fence_line import FenceLine
from worker.emergency.memory import MemoryFile
from worker.failpoints import failpoint


class Fencing:
    """The fence of one stop, raised once however many ask for it."""

    def __init__(
        self, leave: Callable[[], bool], pool: ThreadPoolExecutor, finish: Callable[[bool], int | None]
    ) -> None:
        self._leave, self._pool, self._finish = leave, pool, finish
        self._lock = threading.Lock()
        self._has_left: bool | None = None
        self._raised: Future[int | None] | None = None

    def begin(self) -> None:
        """Let it leave, in this very thread where a line stands ready; waits for nothing."""
        with self._lock:
            self._begin()

    def ended(self) -> Future[int | None]:
        """The epoch that comes of it, None where Redis does not answer."""
        with self._lock:
            self._begin()
            if self._raised is None:
                self._raised = self._pool.submit(self._finish, bool(self._has_left))
            return self._raised

    def _begin(self) -> None:
        if self._has_left is None:
            self._has_left = self._leave()
            if not self._has_left:
                self._raised = self._pool.submit(self._finish, False)


class Fencer:
    """Makes fences. ``later`` takes what Redis must be told once it answers, ``on_late`` hears that it was."""

    def __init__(
        self,
        line: FenceLine,
        memory: MemoryFile,
        logger: structlog.stdlib.BoundLogger,
        later: Callable[[Callable[[], None]], None],
        on_late: Callable[[], None],
    ) -> None:
        self.line, self._memory, self._logger = line, memory, logger
        self._later, self._on_late = later, on_late
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="fence")

    def new(self) -> Fencing:
        """One that nobody has raised yet."""
        return Fencing(self._leave, self._pool, self._finish)

    def above_all(self) -> int:
        """Disarm and raise the epoch above every one that was given. Raises StoreError."""
        return self.line.raise_epoch(self._memory.memory.highest_epoch + 1)

    def epoch_to_arm(self, *, anew: bool) -> int | None:
        """The epoch in force. One that is missing or below one that was given is raised where trading begins anew.

        Where trading goes on it is None then: Redis was emptied or came back old since the look, and a raise would hide
        that from the next one. Raises StoreError.
        """
        epoch = self.line.epoch()
        if epoch is not None and epoch >= max(self._memory.memory.highest_epoch, 1):
            return epoch
        return self.above_all() if anew else None

    def _leave(self) -> bool:
        failpoint("fence.raise")
        return self.line.begin(self._memory.memory.highest_epoch + 1)

    def _finish(self, has_left: bool) -> int | None:
        try:
            epoch = self._answer() if has_left else self.above_all()
        except StoreError as error:
            self._logger.warning("not_fenced", error=str(error))
            self._later(self._raise_late)
            return None
        failpoint("fence.raised")
        self._memory.change(highest_epoch=epoch)
        failpoint("fence.remembered")
        return epoch

    def _answer(self) -> int:
        """Raises StoreError. A line that was cut is no reason not to ask once more; one that is mute is."""
        try:
            return self.line.end()
        except StoreUnreachable as error:
            if isinstance(error.__cause__, redis.TimeoutError):
                raise
            return self.above_all()

    def _raise_late(self) -> None:
        """Redis was away when the stop was carried out; it is back. Raises StoreError."""
        self._memory.change(highest_epoch=self.above_all())
        self._on_late()

    def restore(self) -> None:
        """A Redis that came back old or empty gets an epoch above all that were. Raises StoreError."""
        epoch = self.line.epoch()
        if epoch is None or epoch < self._memory.memory.highest_epoch:
            self._raise_late()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.line.close()
