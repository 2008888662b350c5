"""What other threads leave for the one that sends, and how that one takes it in."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import structlog

from shared.clock import Clock
from shared.errors import SixbotError, StoreUnreachable
from worker.core.types import OrderUpdate
from worker.trading.bots.fleet import Fleet
from worker.trading.bots.pipeline import Crossing, Decision
from worker.trading.desk import OrderDesk
from worker.trading.oversight import Oversight

Item = OrderUpdate | Decision | Crossing
MOST_WAITING = 10_000
"""Where the loop is held up for long, decisions are dropped and counted: by then they are too old to be carried out."""


class Inbox:
    """Pushed order updates, what the bots' pipelines found, and wakes; anybody puts, the trader's thread takes."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Item | None] = queue.SimpleQueue()

    def put(self, item: Item) -> None:
        self._queue.put(item)

    def offer(self, decision: Decision) -> bool:
        """Put it only while not too much waits; whether it was put."""
        if self._queue.qsize() >= MOST_WAITING:
            return False
        self._queue.put(decision)
        return True

    def wake(self) -> None:
        """Let the loop look now. Wakes do not pile up."""
        if self._queue.qsize() < 2:
            self._queue.put(None)

    def take(self, timeout: float) -> Item | None:
        """The next item, None for a wake. Raises queue.Empty where nothing came in that many seconds."""
        return self._queue.get(timeout=timeout)

    def present(self) -> Iterator[Item]:
        """What is there now, each taken when it is asked for; wakes are dropped."""
        for _ in range(self._queue.qsize()):
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return
            if item is not None:
                yield item


class Intake:
    """Hands what arrived to the desk and to the bots; the trader's thread calls everything here."""

    def __init__(
        self,
        inbox: Inbox,
        desk: OrderDesk,
        bots: Fleet,
        oversight: Oversight,
        clock: Clock,
        logger: structlog.stdlib.BoundLogger,
    ) -> None:
        self._inbox, self._desk, self._bots, self._oversight = inbox, desk, bots, oversight
        self._clock, self._logger = clock, logger

    def wait(self, seconds: float) -> None:
        """Until a wake or the end of the time; takes in what arrives meanwhile."""
        end = self._clock.monotonic() + seconds
        while True:
            try:
                item = self._inbox.take(max(end - self._clock.monotonic(), 0.001))
            except queue.Empty:
                return
            if item is None:
                return
            self._take(item)

    def wait_out(self, seconds: float, stopping: threading.Event) -> None:
        """The whole time, whatever arrives meanwhile; no longer than until ``stopping``."""
        end = self._clock.monotonic() + seconds
        while (left := end - self._clock.monotonic()) > 0 and not stopping.is_set():
            self.wait(left)

    def between(self) -> None:
        """Between the tickers of a cycle: a long one must delay neither the bots nor what was pushed."""
        for item in self._inbox.present():
            self._take(item)

    def _take(self, item: Item) -> None:
        if isinstance(item, OrderUpdate):
            self._update(item)
        else:
            self._bots.take(item)

    def _update(self, update: OrderUpdate) -> None:
        """One pushed update. What Redis cannot take now, the next reconciliation brings."""
        try:
            self._desk.take_update(update)
            self._oversight.soon()
        except StoreUnreachable:
            self._oversight.at_once()
        except SixbotError as error:
            self._logger.warning("update_not_taken", error=str(error))
            self._oversight.at_once()
        else:
            self._bots.act()
