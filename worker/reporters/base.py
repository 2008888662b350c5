"""The reporter port: whoever tells what happened to somebody outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Report:
    """What is told at once. ``lines`` are for people, ``events`` the same for programs, oldest first.

    ``id`` is the same at every attempt, so that a receiver can tell a repeated report from a new one.
    """

    id: str
    time: str
    lines: tuple[str, ...]
    events: tuple[Mapping[str, str], ...] = ()

    def document(self) -> dict[str, Any]:
        """As JSON: all that a job holds."""
        return {"id": self.id, "time": self.time, "lines": list(self.lines), "events": [dict(e) for e in self.events]}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Report:
        """The inverse. Raises ValueError where it is no report."""
        try:
            return cls(
                str(document["id"]),
                str(document["time"]),
                tuple(str(line) for line in document["lines"]),
                tuple({str(k): str(v) for k, v in event.items()} for event in document["events"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a report: {type(error).__name__} {error}") from None


class Progress(Protocol):
    """How many parts of a report have arrived, kept where a retry finds it."""

    def get(self) -> int: ...

    def set(self, parts: int) -> None: ...


class NoProgress:
    """For a report that is told in one go."""

    def __init__(self) -> None:
        self._parts = 0

    def get(self) -> int:
        return self._parts

    def set(self, parts: int) -> None:
        self._parts = parts


class Reporter(Protocol):
    """One way out. Bounded in time by its own timeouts; nothing that it raises names a secret."""

    def report(self, report: Report, progress: Progress) -> None:
        """Deliver it, from the part that ``progress`` tells.

        Raises ReportRefused (it will never be taken), ReportDelayed (not before so many seconds) or ReportFailed (all
        else: try again; it may have arrived).
        """
