"""How long a stop waits for what a trader may still have on its way, by what came of ending that trader."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest

from shared.clock import ManualClock
from shared.store import Store
from tests.builders import NOW
from worker.emergency import stop
from worker.emergency.fencing import Fencing
from worker.emergency.standby import Standby
from worker.emergency.state import StopState
from worker.emergency.stop import StopRun
from worker.emergency.switch import Cause
from worker.emergency.trader import Acknowledgement, TraderProcess
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


def run_of(trader: MuteTrader, clock: ManualClock) -> StopRun:
    nothing: Mapping[str, str] = {}
    run = StopRun(
        StopState("s1", Cause("emergency_stop", "test"), "cancel_all", NOW),
        cast("Venue", None),
        cast("TraderProcess", trader),
        Standby("test"),
        cast("ThreadPoolExecutor", None),
        clock,
        Fencing(lambda: True, cast("ThreadPoolExecutor", None), lambda _left: 1),
        lambda _state: None,
        lambda _name: None,
        lambda: nothing,
        lambda _state, _abandoned: None,
        clock.monotonic(),
    )
    run._epoch, run._trader_ran = 7, True
    return run


@pytest.mark.parametrize(
    ("told", "is_over", "seconds"),
    [("killed process 1", True, stop.AFTER_KILL_SECONDS), ("process 1 could not be killed: EPERM", False, None)],
)
def test_window_when_the_trader_is_mute_ends_by_what_came_of_killing_it(
    told: str, is_over: bool, seconds: float | None
) -> None:
    """One that could not be killed may send as long as any: a second after the attempt would be no proof."""
    clock = ManualClock(NOW)
    run = run_of(MuteTrader(told, is_over=is_over), clock)
    clock.advance(stop.ACKNOWLEDGE_SECONDS - 0.01)
    assert not run._window_is_over()
    clock.advance(0.02)
    assert not run._window_is_over()
    assert run.state.trader == told
    waited = stop.ACKNOWLEDGE_SECONDS + 0.01
    end = waited + seconds if seconds is not None else stop.IN_FLIGHT_SECONDS
    clock.advance(end - waited - 0.01)
    assert not run._window_is_over()
    clock.advance(0.02)
    assert run._window_is_over()
    assert run.state.trader == told


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
