"""What one process makes of several accounts: its heartbeat, its memory of stops, its report."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.clock import ManualClock
from shared.errors import StoreUnreachable
from shared.store import Store
from tests.builders import NOW
from worker.emergency.look import account_part
from worker.emergency.memory import Memory, MemoryFile, inherit, memory_path, read_memories
from worker.emergency.report import StopReport
from worker.emergency.state import StopState
from worker.emergency.switch import Cause
from worker.runtime import Heartbeat
from worker.trading.pulse import ProcessPulse

STOP = Cause("emergency_stop", "trading_settings", "enabled is not true")


def beats(store: Store, clock: ManualClock, *accounts: str) -> tuple[ProcessPulse, Callable[[], Any]]:
    heartbeat = Heartbeat("trading", store, clock, host="here")
    pulse = ProcessPulse(heartbeat, accounts, clock)
    for own in pulse.accounts.values():
        own.serving = True
    return pulse, lambda: store.get_json("heartbeat:trading:here")


def test_heartbeat_when_one_account_of_two_hangs_is_not_written_any_more(store: Store) -> None:
    """A thread that hangs must be seen, however well the others do."""
    clock = ManualClock(NOW)
    pulse, beat = beats(store, clock, "default", "b")
    for own in pulse.accounts.values():
        own.beat()
    pulse.tend()
    assert set(beat()["accounts"]) == {"default", "b"}
    store.client.delete("heartbeat:trading:here")
    for _ in range(10):
        clock.advance(1)
        pulse.accounts["default"].beat()
        pulse.tend()
    assert beat() is None
    pulse.accounts["b"].beat()
    pulse.tend()
    assert beat() is not None


def test_heartbeat_when_an_account_asks_for_a_halt_tells_it_at_once_and_whose_it_is(store: Store) -> None:
    pulse, beat = beats(store, ManualClock(NOW), "default", "b")
    for own in pulse.accounts.values():
        own.beat()
    pulse.tend()
    pulse.accounts["b"].extra["halt"] = {"reason": "risk_limit"}
    pulse.accounts["b"].beat(force=True)
    pulse.tend()
    found = [beat()]
    assert "halt" not in found[0]
    assert (account_part(found, "b") or {})["halt"] == {"reason": "risk_limit"}
    assert "halt" not in (account_part(found, "default") or {})


def test_heartbeat_when_another_process_trades_an_account_does_not_speak_for_it(store: Store) -> None:
    pulse, beat = beats(store, ManualClock(NOW), "default", "b")
    pulse.accounts["b"].serving = False
    for own in pulse.accounts.values():
        own.beat()
    pulse.tend()
    assert account_part([beat()], "b") is None
    assert account_part([beat(), {"accounts": {"b": {}}}], "b") is not None


# -- memories ---------------------------------------------------------------------------------------------------------


def files(run: Path) -> list[MemoryFile]:
    return [MemoryFile(memory_path(run, name)) for name in ("default", "b")]


def test_memory_when_a_worker_for_one_account_has_latched_counts_for_one_that_guards_all(tmp_path: Path) -> None:
    alone = MemoryFile(memory_path(tmp_path, "b"))
    alone.change(highest_epoch=9, latch={"reason": "emergency_stop"}, active=True)
    alone.close()
    first, other = files(tmp_path)
    inherit(first, [other], read_memories(tmp_path))
    held = first.memory
    assert (held.highest_epoch, held.latch, held.active) == (9, {"reason": "emergency_stop"}, True)
    first.change(latch=None)
    for file in (first, other):
        file.close()
    first, other = files(tmp_path)
    inherit(first, [other], read_memories(tmp_path))
    assert first.memory.latch is None, "what was lifted does not come back from another account's file"
    for file in (first, other):
        file.close()


def test_memory_when_it_is_from_before_accounts_is_read_as_it_stands(tmp_path: Path) -> None:
    """An update in the middle of a latched stop leaves it latched."""
    path = memory_path(tmp_path, "default")
    path.write_text('{"highest_epoch": 4, "latch": {"reason": "redis_lost"}, "proven": false, "account": "default"}')
    first, other = files(tmp_path)
    inherit(first, [other], read_memories(tmp_path))
    assert (first.memory.highest_epoch, first.memory.proven) == (4, False)
    assert first.memory.latch == {"reason": "redis_lost"}
    assert other.memory == Memory()
    for file in (first, other):
        file.close()


# -- the report -------------------------------------------------------------------------------------------------------


def part(state: str, *, found: int = 0, first: float | None = None, held: int | None = 0) -> StopState:
    made = StopState("a1", STOP, "cancel_all", NOW, state=state, first_cancel_ms=first, positions_open=held)
    made.found = {f"v{number}" for number in range(found)}
    made.finished_at = NOW + timedelta(seconds=found) if state == "STOPPED" else None
    return made


@pytest.mark.parametrize(
    ("states", "whole"),
    [
        (("STOPPED", "STOPPED"), "STOPPED"),
        (("STOPPED", "STOPPING"), "STOPPING"),
        (("STOPPED", "NOT_PROVEN"), "NOT_PROVEN"),
        (("STOPPING", "NOT_PROVEN"), "NOT_PROVEN"),
    ],
)
def test_report_when_accounts_differ_says_stopped_only_where_all_are(states: tuple[str, str], whole: str) -> None:
    written: list[Mapping[str, Any]] = []
    report = StopReport(written.append, lambda _: None, lambda _: None)
    for name, state in zip(("default", "b"), states, strict=True):
        report.put(name, "simulated", made := part(state, found=2, first=3.0))
    report.publish("b", "simulated", made)
    assert written[-1]["state"] == whole
    assert (written[-1]["orders_found"], written[-1]["first_cancel_ms"]) == (4, 3.0)
    assert (written[-1]["finished_at"] is not None) == (whole == "STOPPED")


def test_report_when_a_figure_is_not_known_of_every_account_does_not_pretend() -> None:
    written: list[Mapping[str, Any]] = []
    report = StopReport(written.append, lambda _: None, lambda _: None)
    report.put("default", "simulated", part("STOPPED", first=9.0, held=2))
    report.put("b", "alpaca", made := part("STOPPING", held=None))
    report.publish("b", "alpaca", made)
    assert (written[-1]["positions_open"], written[-1]["first_cancel_ms"]) == (None, 9.0)
    assert written[-1]["accounts"]["default"]["positions_open"] == 2


def test_report_when_a_stop_was_replaced_is_not_overwritten_by_its_late_news() -> None:
    written: list[Mapping[str, Any]] = []
    report = StopReport(written.append, lambda _: None, lambda _: None)
    report.put("default", "simulated", old := part("STOPPING"))
    report.put("default", "simulated", new := part("STOPPED"))
    report.publish("default", "simulated", new)
    report.publish("default", "simulated", old)
    assert [row["state"] for row in written] == ["STOPPED"]


def test_report_when_one_write_hangs_holds_up_nobody_and_the_newest_is_written() -> None:
    """A Redis that hangs must not make one account's cancels wait for another's report."""
    begun, go, written = threading.Event(), threading.Event(), []

    def write(found: Mapping[str, Any]) -> None:
        begun.set()
        assert go.wait(30)
        written.append(found["orders_found"])

    report = StopReport(write, lambda _: None, lambda _: None)
    report.put("default", "simulated", first := part("STOPPING", found=1))
    report.put("b", "simulated", second := part("STOPPING"))
    thread = threading.Thread(target=report.publish, args=("default", "simulated", first))
    thread.start()
    assert begun.wait(30)
    second.found = {"x", "y"}
    report.publish("b", "simulated", second)
    go.set()
    thread.join(30)
    assert written == [1, 3]


def test_report_when_redis_is_away_is_written_later() -> None:
    written: list[Mapping[str, Any]] = []
    later: list[Callable[[], None]] = []
    away = True

    def write(found: Mapping[str, Any]) -> None:
        if away:
            raise StoreUnreachable("away")
        written.append(found)

    report = StopReport(write, lambda _: None, later.append)
    report.put("default", "simulated", made := part("STOPPED"))
    report.publish("default", "simulated", made)
    away = False
    later[0]()
    assert written[0]["state"] == "STOPPED"
