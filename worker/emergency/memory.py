"""What the emergency worker knows without Redis: a small file per account, preallocated and overwritten in place.

Each holds whether the account's part of the last stop was proven, and what a flatten has sent. The file of a worker's
first account holds what stands for all of them as well: the latch, the highest epoch ever given, the last good policies
and switches, and whether trading was on.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from worker.runtime import AccountLocked

SIZE, PAGE = 65_536, 4096
"""What is preallocated: a flatten of a thousand positions fits in."""


@dataclass(frozen=True, slots=True)
class Memory:
    """One account's memory. ``latch`` is None, or ``reason, source, detail, at, stop_id, versions``.

    ``stop`` is None, or what makes the last stop the same one after a restart (``StopState.identity``). ``flatten`` is
    None, or ``stop_id, requested_at, state`` and the number of the last order per symbol: ``sent``, and ``refused``
    where the venue would not have it.
    """

    highest_epoch: int = 0
    latch: Mapping[str, Any] | None = None
    active: bool = False
    proven: bool = True
    reason: str = ""
    resumed_at: str = ""
    on_stop: str = "cancel_all"
    on_stop_automatic: str = "cancel_entries"
    emergency_stop_active: bool = False
    reduce_only: bool = False
    stop: Mapping[str, Any] | None = None
    flatten: Mapping[str, Any] | None = None
    account: str = "default"
    venue: str = ""


class MemoryFile:
    """``run/emergency-{account}.json``, locked by its one owner. Raises AccountLocked.

    A write that fails leaves ``trusted`` false, which forbids arming.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.trusted = True
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise AccountLocked(
                f"{path} is held: another emergency worker guards this account; stop that one first"
            ) from None
        self._used = SIZE
        self.memory = self._read()
        if os.fstat(self._fd).st_size < SIZE:
            self._preallocate(os.pread(self._fd, SIZE, 0))

    def _preallocate(self, held: bytes) -> None:
        try:
            os.pwrite(self._fd, held.ljust(SIZE, b" "), 0)
            os.fsync(self._fd)
        except OSError:
            self.trusted = False

    def _read(self) -> Memory:
        return _memory(os.pread(self._fd, SIZE, 0), self._path)

    def change(self, **fields: Any) -> None:
        """Remember, at once in memory and then on disk. From any thread: none undoes another's change."""
        with self._lock:
            changed = replace(self.memory, **fields)
            if changed == self.memory and self.trusted:
                return
            self.memory = changed
            self._write(json.dumps(asdict(changed)).encode())

    def _write(self, raw: bytes) -> None:
        try:
            if len(raw) > SIZE:
                raise OSError(f"memory of {len(raw)} bytes")
            pages = -(-len(raw) // PAGE) * PAGE
            os.pwrite(self._fd, raw.ljust(max(pages, self._used), b" "), 0)
            os.fdatasync(self._fd)
            self.trusted, self._used = True, pages
        except OSError:
            self.trusted = False

    def close(self) -> None:
        os.close(self._fd)


def memory_path(run_dir: Path, account: str) -> Path:
    """Where an account's memory is."""
    return run_dir / f"emergency-{account}.json"


def read_memories(run_dir: Path) -> dict[str, Memory]:
    """What every emergency worker of this host has left behind, by account; a file that is mangled is latched."""
    found = {}
    for path in sorted(run_dir.glob("emergency-*.json")):
        try:
            found[path.stem.removeprefix("emergency-")] = _memory(path.read_bytes(), path)
        except OSError:
            continue
    return found


def inherit(first: MemoryFile, others: Sequence[MemoryFile], left: Mapping[str, Memory]) -> None:
    """Take into the first file what workers with other sets of accounts on this host have left in theirs.

    A latch, an epoch or the need for a stop must not get lost because a worker now guards more accounts, or fewer.
    """
    held = first.memory
    latches = [memory.latch for memory in (held, *left.values()) if memory.latch is not None]
    first.change(
        highest_epoch=max([held.highest_epoch, *(memory.highest_epoch for memory in left.values())]),
        latch=latches[0] if latches else None,
        active=held.active or any(file.memory.active for file in others),
    )
    if first.trusted:
        for file in others:
            file.change(latch=None, active=False)


def _memory(raw: bytes, path: Path) -> Memory:
    raw = raw.strip(b" \0")
    if not raw:
        return Memory()
    try:
        found = json.loads(raw)
        return Memory(**{k: v for k, v in found.items() if k in Memory.__dataclass_fields__})
    except (ValueError, TypeError, AttributeError):
        # A mangled memory cannot say that nothing was latched, so something is.
        latch = {"reason": "emergency_stop", "source": "disk", "detail": f"{path} is unreadable", "versions": {}}
        return Memory(latch=latch)
