"""The clock of a market data source, told from what it sends: receive clocks may run ahead of the venue's or behind."""

from __future__ import annotations

from collections import deque

from worker.core.trades import MINUTE, SECOND

UNSET = 1 << 62


class VenueClock:
    """``received_at`` less the smallest ``received_at − venue_time`` of the last minute.

    All builders of a source share one, so that a quiet symbol knows the time from a busy one. It only ever moves on,
    and its lag changes only with trades, so that asking for the time changes nothing. The minute is counted in whole
    seconds; where it is empty the last known lag stands in. ``CandleBuilder.on_trade`` works on the fields themselves.
    """

    __slots__ = ("_seconds", "least", "reached", "restarts", "second_end", "second_least")

    def __init__(self) -> None:
        self.restarts = -1
        self._seconds: deque[tuple[int, int]] = deque()
        self.restart()

    def restart(self) -> None:
        """Forget every lag: somebody has set a clock."""
        self.least = self.second_least = UNSET
        self.reached = self.second_end = -UNSET
        self._seconds.clear()
        self.restarts += 1

    def now(self, received_at: int) -> int | None:
        """Venue time in microseconds at our ``received_at``; None before the first trade."""
        if self.least == UNSET:
            return None
        self.reached = max(self.reached, received_at - self.least)
        return self.reached

    def roll(self, received_at: int) -> None:
        """Begin another second of receiving: lags older than a minute count no more."""
        seconds = self._seconds
        if self.second_least != UNSET:
            while seconds and seconds[-1][1] >= self.second_least:
                seconds.pop()
            seconds.append((self.second_end, self.second_least))
        self.second_end = received_at - received_at % SECOND + SECOND
        while seconds and seconds[0][0] <= self.second_end - MINUTE:
            seconds.popleft()
        self.second_least = UNSET
        if seconds:
            self.least = seconds[0][1]

    def observe(self, lag: int) -> None:
        """A lag smaller than any other of this second, ``second_least``."""
        self.second_least = lag
        if lag < self.least or not self._seconds:
            self.least = lag
