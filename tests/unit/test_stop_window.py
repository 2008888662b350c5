"""How long a stop waits for what a trader may still have on its way, by what came of ending that trader."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import cast

import pytest

from shared.clock import ManualClock
from shared.store import Store
from tests.builders import NOW
from worker.emergency import window
from worker.emergency.state import StopState
from worker.emergency.switch import Cause
from worker.emergency.trader import Acknowledgement, TraderProcess
from worker.emergency.window import InFlightWindow
from worker.venues.base import Venue


class MuteTrader:
    """Runs, says nothing, and is ended or not."""

    def __init__(self, told: str, *, is_over: bool) -> None:
        self.told, self.is_over, self.kills = told, is_over, 0

    def runs(self) -> bool:
        return not (self.is_over and self.kills)

    def acknowledgement(self) -> Acknowledgement | None:
        return None

    def kill(self) -> tuple[str, bool]:
        self.kills += 1
        return self.told, self.is_over


@pytest.mark.parametrize(
    ("told", "is_over", "seconds"),
    [("killed process 1", True, window.AFTER_KILL_SECONDS), ("process 1 could not be killed: EPERM", False, None)],
)
def test_window_when_the_trader_is_mute_ends_by_what_came_of_killing_it(
    told: str, is_over: bool, seconds: float | None
) -> None:
    """One that could not be killed may send as long as any: a second after the attempt would be no proof."""
    clock = ManualClock(NOW)
    state = StopState("s1", Cause("emergency_stop", "test"), "cancel_all", NOW)
    trader = cast("TraderProcess", MuteTrader(told, is_over=is_over))
    waiting = InFlightWindow(state, cast("Venue", None), trader, clock, clock.monotonic())
    waiting.begin()
    clock.advance(window.ACKNOWLEDGE_SECONDS - 0.01)
    assert not waiting.is_over(7)
    clock.advance(0.02)
    assert not waiting.is_over(7)
    assert state.trader == told
    waited = window.ACKNOWLEDGE_SECONDS + 0.01
    end = waited + seconds if seconds is not None else window.IN_FLIGHT_SECONDS
    clock.advance(end - waited - 0.01)
    assert not waiting.is_over(7)
    clock.advance(0.02)
    assert waiting.is_over(7)
    assert state.trader == told


def test_kill_when_the_lock_is_held_and_does_not_say_by_whom_is_not_over(tmp_path: Path, store: Store) -> None:
    """Taken for "no trader runs", the stop would be proven while one trades."""
    path = tmp_path / "account-default.lock"
    path.write_text("no json")
    trader = TraderProcess(store, "default", tmp_path)
    assert trader.kill() == ("no trader holds the lock", True)
    held = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        told, is_over = trader.kill()
    finally:
        os.close(held)
    assert (told.endswith("does not say which process holds it"), is_over) == (True, False)
