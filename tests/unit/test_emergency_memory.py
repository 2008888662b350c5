"""What the emergency worker remembers without Redis, and that only one of them does."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.emergency.memory import SIZE, MemoryFile
from worker.runtime import AccountLocked

LATCH = {"reason": "emergency_stop", "source": "signal", "versions": {"settings": "a", "risk": "b"}}


def test_memory_when_written_is_there_after_a_restart_in_the_same_place(tmp_path: Path) -> None:
    path = tmp_path / "run" / "emergency-default.json"
    first = MemoryFile(path)
    first.change(highest_epoch=7, latch=LATCH, active=True, reason="x" * 500)
    first.change(reason="")
    first.close()
    again = MemoryFile(path)
    assert (again.memory.highest_epoch, again.memory.latch, again.memory.active) == (7, LATCH, True)
    assert path.stat().st_size == SIZE
    again.close()


@pytest.mark.parametrize("raw", [b"garbage", b"[]", b'{"highest_epoch": ', b"\xff" * 100])
def test_memory_when_mangled_is_latched(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "emergency-default.json"
    path.write_bytes(raw)
    file = MemoryFile(path)
    assert file.memory.latch is not None
    file.close()


def test_memory_when_it_cannot_be_written_is_not_trusted(tmp_path: Path) -> None:
    file = MemoryFile(tmp_path / "emergency-default.json")
    file.change(reason="x" * SIZE)
    assert not file.trusted
    file.change(reason="")
    assert file.trusted
    file.close()


def test_memory_when_another_worker_has_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "emergency-default.json"
    file = MemoryFile(path)
    with pytest.raises(AccountLocked, match="another emergency worker"):
        MemoryFile(path)
    file.close()
    MemoryFile(path).close()


def test_memory_when_a_flatten_closes_hundreds_of_positions_holds_them(tmp_path: Path) -> None:
    """What does not fit is not trusted, and an id that is not on disk is not sent."""
    path = tmp_path / "emergency-default.json"
    file = MemoryFile(path)
    names = [f"SYMBOL{number}" for number in range(700)]
    flatten = {"stop_id": "12345678", "sent": dict.fromkeys(names, 1), "closing": dict.fromkeys(names, "-1000.5")}
    file.change(flatten=flatten)
    assert file.trusted
    file.change(flatten=None, reason="short")
    file.close()
    again = MemoryFile(path)
    assert (again.memory.flatten, again.memory.reason) == (None, "short")
    again.close()
