"""The dead-man's switch is renewed while the loop goes round, and by nothing else."""

from __future__ import annotations

import threading

from shared.clock import ManualClock
from shared.errors import VenueUnavailable
from tests.builders import NOW
from tests.support import eventually
from worker.trading.dead_man import DeadManSwitch

PERIOD = 0.3


class SwitchVenue:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.down = False

    def cancel_all_after(self, seconds: float) -> None:
        self.asked.append(seconds)
        if self.down:
            raise VenueUnavailable("down")


def made(venue: SwitchVenue, told: list[str | None], clock: ManualClock | None = None) -> DeadManSwitch:
    switch = DeadManSwitch(venue, PERIOD, clock or ManualClock(NOW), told.append)  # type: ignore[arg-type]
    switch.start()
    return switch


def test_switch_when_the_loop_stands_still_is_not_renewed() -> None:
    venue = SwitchVenue()
    switch = made(venue, [])
    ran = threading.Event()
    ran.wait(3 * PERIOD)
    assert venue.asked == []
    switch.progress()
    eventually(lambda: venue.asked == [PERIOD], what="one renewal for one sign of progress")
    ran.wait(3 * PERIOD)
    assert venue.asked == [PERIOD]
    switch.close()


def test_switch_when_the_worker_drains_is_taken_back() -> None:
    venue = SwitchVenue()
    switch = made(venue, [])
    switch.progress()
    eventually(lambda: venue.asked, what="a renewal")
    switch.close()
    assert venue.asked[-1] == 0


def test_switch_when_another_trader_renews_it_by_now_is_left_alone() -> None:
    venue, told, clock = SwitchVenue(), list[str | None](), ManualClock(NOW)
    switch = made(venue, told, clock)
    switch.progress()
    eventually(lambda: told, what="a renewal")
    clock.advance(2 * PERIOD)
    switch.close()
    assert venue.asked == [PERIOD]


def test_switch_when_the_venue_cannot_be_asked_says_so_and_goes_on() -> None:
    venue, told = SwitchVenue(), list[str | None]()
    venue.down = True
    switch = made(venue, told)
    switch.progress()
    eventually(lambda: told and "down" in str(told[-1]), what="the error is told")
    venue.down = False
    switch.progress()
    eventually(lambda: told[-1] is None, what="that it works again")
    switch.close()
