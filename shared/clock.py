"""Time as an argument: every component that needs it gets a Clock, so that replay and tests can turn the hands."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo


class Clock(Protocol):
    """Wall time in UTC for what is written down, monotonic seconds for what is measured."""

    def now(self) -> datetime:
        """Aware datetime in UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that stands still until it is set: replay and tests."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._now.timestamp()

    def set(self, now: datetime) -> None:
        self._now = now

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


def rfc3339(moment: datetime) -> str:
    """``2025-09-21T15:30:00.123Z``: UTC, milliseconds only where there are any."""
    utc = moment.astimezone(UTC).replace(tzinfo=None)
    return utc.isoformat(timespec="milliseconds" if utc.microsecond else "seconds") + "Z"


def parse_rfc3339(text: str) -> datetime:
    """The inverse, for any RFC 3339 offset and up to nanoseconds (cut to microseconds). Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"a time without zone: {text!r}")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"a time outside the calendar: {text!r}") from error


@dataclass(frozen=True, slots=True)
class TradingDay:
    """One day of counters: its name and its bounds in Unix seconds (start included, end excluded)."""

    name: str
    start: int
    end: int


class TradingCalendar:
    """Cuts time into trading days, midnight to midnight in one zone (``TRADING_DAY_TZ``)."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._last: TradingDay | None = None

    def day_of(self, moment: datetime) -> TradingDay:
        stamp = moment.timestamp()
        last = self._last
        if last is not None and last.start <= stamp < last.end:
            return last
        local: date = moment.astimezone(self._zone).date()
        start, end = (
            int(datetime(d.year, d.month, d.day, tzinfo=self._zone).timestamp())
            for d in (local, local + timedelta(days=1))
        )
        self._last = TradingDay(local.isoformat(), start, end)
        return self._last
