"""The fence leaves in the thread that noticed the stop, over a line kept for it; whatever becomes of the line, it is
raised."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from shared.errors import StoreRefused
from shared.store import Store, connect
from tests.support import RedisServer, eventually
from worker.emergency.fence_line import FenceLine
from worker.emergency.fencing import Fencer
from worker.emergency.memory import MemoryFile
from worker.emergency.standby import Standby


@pytest.fixture
def line(store: Store) -> Iterator[FenceLine]:
    store.client.mset({"trading_armed": "4", "trading_epoch": "4"})
    made = FenceLine(store)
    yield made
    made.close()


@pytest.fixture
def fencer(line: FenceLine, tmp_path: Path) -> Iterator[Fencer]:
    memory, pending = MemoryFile(tmp_path / "emergency-default.json"), list[Callable[[], None]]()
    made = Fencer(line, memory, structlog.stdlib.get_logger("test"), pending.append, lambda: None)
    yield made
    made.close()
    memory.close()


def fence(store: Store) -> tuple[object, object]:
    armed, epoch = store.client.mget("trading_armed", "trading_epoch")  # type: ignore[misc]
    return armed, epoch


def test_fence_when_its_line_stands_has_left_before_anybody_waits_for_it(
    line: FenceLine, fencer: Fencer, store: Store
) -> None:
    """The first cancel follows at once: the fence must not wait for a thread to be woken."""
    line.keep()
    fencing = fencer.new()
    fencing.begin()
    eventually(lambda: fence(store) == (None, b"5"), what="fenced though nobody has asked what came of it")
    assert fencing.ended().result(30) == 5
    assert fencing.ended().result(30) == 5


@pytest.mark.parametrize("how", ["never opened", "cut", "in use"])
def test_fence_when_its_line_is_of_no_use_is_raised_all_the_same(
    how: str, line: FenceLine, fencer: Fencer, store: Store
) -> None:
    if how != "never opened":
        line.keep()
    if how == "cut":
        store.client.client_kill_filter(_type="normal", skipme=True)
    if how == "in use":
        assert line.begin(1)
        eventually(lambda: fence(store) == (None, b"5"), what="the first fence")
    fencing = fencer.new()
    fencing.begin()
    assert fencing.ended().result(30) == (6 if how == "in use" else 5)
    assert fence(store) == (None, b"6" if how == "in use" else b"5")
    if how == "in use":
        assert line.end() == 5
    line.keep()
    assert line.begin(40)
    assert line.end() == 40


def test_fence_when_redis_is_full_is_raised(line: FenceLine, store: Store) -> None:
    line.keep()
    store.client.config_set("maxmemory", 1)
    try:
        assert line.begin(1)
        assert line.end() == 5
        assert fence(store) == (None, b"5")
    finally:
        store.client.config_set("maxmemory", 0)


def test_fence_when_redis_refuses_it_costs_no_line(line: FenceLine, store: Store) -> None:
    line.keep()
    store.client.config_set("min-replicas-to-write", 1)
    try:
        assert line.begin(1)
        with pytest.raises(StoreRefused):
            line.end()
    finally:
        store.client.config_set("min-replicas-to-write", 0)
    assert line.begin(1)
    assert line.end() == 5


def test_fence_when_redis_hangs_is_given_up_within_its_time_and_raised_later(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    assert own_redis.process is not None
    store = Store(connect(own_redis.url, timeout_seconds=1))
    line = FenceLine(store)
    memory, pending = MemoryFile(tmp_path / "emergency-default.json"), list[Callable[[], None]]()
    late = threading.Event()
    fencer = Fencer(line, memory, structlog.stdlib.get_logger("test"), pending.append, late.set)
    line.keep()
    own_redis.process.send_signal(signal.SIGSTOP)
    try:
        fencing = fencer.new()
        fencing.begin()
        assert fencing.ended().result(30) is None
    finally:
        own_redis.process.send_signal(signal.SIGCONT)
    assert len(pending) == 1
    pending[0]()
    assert late.is_set()
    assert memory.memory.highest_epoch == line.epoch()
    fencer.close()
    memory.close()
    store.client.close()


def test_standby_when_asked_twice_in_a_row_keeps_nobody_waiting() -> None:
    """A stop that hangs must not delay the one that takes over from it."""
    standby, gate, done = Standby("test"), threading.Event(), threading.Event()
    standby.ready()
    first = standby.run(lambda: assert_set(gate))
    second = standby.run(done.set)
    assert done.wait(30)
    assert first.is_alive()
    gate.set()
    for thread in (first, second):
        thread.join(30)
        assert not thread.is_alive()
    standby.ready()
    standby.close()


def assert_set(event: threading.Event) -> None:
    assert event.wait(30)
