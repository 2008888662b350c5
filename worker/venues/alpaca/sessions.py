"""The sessions of New York's exchanges, where the venue has no clock of its own to ask."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from worker.core.types import MarketClock

BEFORE, AFTER = timedelta(days=10), timedelta(days=20)
"""What is read around a day; no break between two sessions is as long."""


def market_clock(now: datetime) -> MarketClock:
    """As ``exchange_calendars`` has it: half days, holidays and both changes of the hour included."""
    hours = _sessions(now.astimezone(UTC).date())
    is_open = any(opens <= now < closes for opens, closes in hours)
    return MarketClock(
        now,
        is_open,
        next_open=min(opens for opens, _ in hours if opens > now),
        next_close=min(closes for _, closes in hours if closes > now),
    )


@lru_cache(maxsize=1)
def _sessions(day: date) -> tuple[tuple[datetime, datetime], ...]:
    from exchange_calendars import get_calendar

    calendar = get_calendar("XNYS", start=(day - BEFORE).isoformat(), end=(day + AFTER).isoformat())
    schedule = calendar.schedule
    return tuple(
        (opens.to_pydatetime(), closes.to_pydatetime())
        for opens, closes in zip(schedule["open"], schedule["close"], strict=True)
    )
