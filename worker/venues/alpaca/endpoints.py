"""Addresses that speak Alpaca's protocol without all of its endpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from worker.venues.alpaca import wire

T = TypeVar("T")


class Endpoints:
    """Remembers which endpoints an address has offered, so that a 404 is told from one that was never there."""

    def __init__(self) -> None:
        self._offered: set[str] = set()

    def ask(self, name: str, ask: Callable[[], T], otherwise: Callable[[], T]) -> T:
        """An answer, or what does without it where the address has never offered this endpoint.

        Once it has, a 404 is a failure like any other. Raises VenueUnavailable.
        """
        try:
            answer = ask()
        except wire.NoSuchEndpoint:
            if name in self._offered:
                raise
            return otherwise()
        self._offered.add(name)
        return answer
