"""The reporters on this side of the wire: the ``events`` stream itself, and standard output."""

from __future__ import annotations

import json
from typing import TextIO

from shared.errors import ReportFailed, StoreError
from shared.store import Store
from worker.reporters.base import Progress, Report


class RedisReporter:
    """Appends to ``events``. Workers write the entries of orders there themselves, with the change that they tell."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def report(self, report: Report, progress: Progress) -> None:
        try:
            for event in report.events[progress.get() :]:
                self._store.add_event(self._store.keys.events, {"time": report.time, **event})
                progress.set(progress.get() + 1)
        except StoreError as error:
            raise ReportFailed(str(error)) from None


class StdoutReporter:
    """One JSON object a line: every event, and every line that is no event's."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def report(self, report: Report, progress: Progress) -> None:
        rows = [{"event": "report", "time": report.time, "line": line} for line in report.lines]
        try:
            for row in [*rows, *report.events]:
                self._stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            self._stream.flush()
        except (OSError, ValueError) as error:
            raise ReportFailed(f"standard output: {error}") from None
        progress.set(1)
