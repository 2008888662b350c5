"""Sessions by the calendar: when the venue has no clock, a holiday must not look like a trading day."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from worker.venues.alpaca.sessions import market_clock

NEW_YORK = ZoneInfo("America/New_York")


def local(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=NEW_YORK)


@pytest.mark.parametrize(
    ("now", "is_open", "opens", "closes"),
    [
        ("2026-03-06T09:29:59", False, "2026-03-06T09:30", "2026-03-06T16:00"),
        ("2026-03-06T09:30:00", True, "2026-03-09T09:30", "2026-03-06T16:00"),  # an hour less until Monday's
        ("2026-03-08T12:00:00", False, "2026-03-09T09:30", "2026-03-09T16:00"),
        ("2026-03-09T15:59:59", True, "2026-03-10T09:30", "2026-03-09T16:00"),
        ("2026-10-30T16:00:00", False, "2026-11-02T09:30", "2026-11-02T16:00"),  # an hour more
        ("2026-11-26T11:00:00", False, "2026-11-27T09:30", "2026-11-27T13:00"),  # Thanksgiving, and the half day
        ("2026-11-27T12:59:59", True, "2026-11-30T09:30", "2026-11-27T13:00"),
        ("2026-11-27T13:00:00", False, "2026-11-30T09:30", "2026-11-30T16:00"),
        ("2026-12-31T20:00:00", False, "2027-01-04T09:30", "2027-01-04T16:00"),
    ],
)
def test_clock_when_told_by_the_calendar_knows_half_days_holidays_and_changes_of_the_hour(
    now: str, *, is_open: bool, opens: str, closes: str
) -> None:
    clock = market_clock(local(now))
    assert (clock.is_open, clock.next_open, clock.next_close) == (is_open, local(opens), local(closes))
