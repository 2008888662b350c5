"""The venue's dead-man's switch, kept from firing only while the trading loop makes progress."""

from __future__ import annotations

import threading
from collections.abc import Callable

from shared.clock import Clock
from shared.errors import VenueError
from worker.venues.base import Venue

RENEWALS_PER_PERIOD = 3


class DeadManSwitch:
    """Renews ``cancel_all_after`` from a thread of its own, so that a slow venue does not hold up the loop.

    ``progress`` is the loop's sign; a period in which it did not come is not renewed, and the venue cancels by itself.
    ``tell`` gets why the venue could not be asked, and None once it could.
    """

    def __init__(self, venue: Venue, seconds: float, clock: Clock, tell: Callable[[str | None], None]) -> None:
        self._venue, self._seconds, self._clock, self._tell = venue, seconds, clock, tell
        self._renewed_at = float("-inf")
        self._progressed = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dead-man-switch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def progress(self) -> None:
        """The trading loop went round."""
        self._progressed.set()

    def close(self) -> None:
        """Take the switch back: a worker that drains leaves its protective orders at the venue.

        One that no longer renews it, because another trader does by now, leaves it alone.
        """
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        if self._clock.monotonic() - self._renewed_at < self._seconds:
            self._ask(0)

    def _run(self) -> None:
        while not self._closed.wait(self._seconds / RENEWALS_PER_PERIOD):
            if self._progressed.is_set():
                self._progressed.clear()
                self._ask(self._seconds)

    def _ask(self, seconds: float) -> None:
        try:
            self._venue.cancel_all_after(seconds)
        except VenueError as error:
            self._tell(f"the venue's dead-man's switch could not be renewed: {error}")
        else:
            self._renewed_at = self._clock.monotonic()
            self._tell(None)
