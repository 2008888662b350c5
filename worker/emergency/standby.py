"""A thread that already runs and waits for its work: starting one takes a good part of the time that a stop has."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class Standby:
    """One thread in waiting. Whoever needs another before ``ready`` was called again gets a fresh one: work never
    waits for work."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._changing = threading.Lock()
        self._waiting: tuple[threading.Thread, queue.SimpleQueue[Callable[[], None]]] | None = None

    def ready(self) -> None:
        """Have a thread wait; costs nothing where one does."""
        with self._changing:
            if self._waiting is None:
                self._waiting = self._started()

    def run(self, work: Callable[[], None]) -> threading.Thread:
        """The thread that does the work, from now on."""
        with self._changing:
            waiting, self._waiting = self._waiting, None
        thread, inbox = waiting or self._started()
        inbox.put(work)
        return thread

    def close(self) -> None:
        """The thread that waits ends."""
        with self._changing:
            if self._waiting is not None:
                self._waiting[1].put(lambda: None)
                self._waiting = None

    def _started(self) -> tuple[threading.Thread, queue.SimpleQueue[Callable[[], None]]]:
        inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        thread = threading.Thread(target=lambda: inbox.get()(), name=self._name, daemon=True)
        thread.start()
        return thread, inbox
