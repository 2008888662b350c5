"""How long, in all, held quantity stood without a working exit or without anybody to keep its stop-loss."""

from __future__ import annotations

from collections.abc import Iterable

from worker.core import protection
from worker.core.bot_position import BotPosition


class Exposure:
    """Seconds of one bot. ``watching``: prices arrive, so that a stop-loss which the venue lacks is watched here."""

    def __init__(self) -> None:
        self.watching = False
        self._seconds = 0.0

    def look(self, position: BotPosition, now: float) -> None:
        """Begin or end to count, after anything changed about a position."""
        exposed = protection.is_exposed(position, watching=self.watching)
        if exposed and position.uncovered_since is None:
            position.uncovered_since = now
        elif not exposed:
            self.end(position, now)

    def end(self, position: BotPosition, now: float) -> None:
        """A position is covered, or no more."""
        if position.uncovered_since is not None:
            self._seconds += max(now - position.uncovered_since, 0.0)
            position.uncovered_since = None

    def drop(self, positions: Iterable[BotPosition], now: float) -> None:
        """All of them are forgotten, to be told of anew."""
        self._seconds = self.seconds(positions, now)

    def seconds(self, positions: Iterable[BotPosition], now: float) -> float:
        """So far, what is still counted included."""
        return self._seconds + sum(now - p.uncovered_since for p in positions if p.uncovered_since is not None)
