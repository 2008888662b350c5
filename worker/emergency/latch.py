"""What the emergency worker knows without Redis: a small file, preallocated and overwritten in place.

The latch, the highest epoch ever given, the last good policies and switches, whether trading was on, and what a flatten
has sent.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from worker.runtime import AccountLocked

SIZE = 8192


@dataclass(frozen=True, slots=True)
class Memory:
    """One account's memory. ``latch`` is None, or ``reason, source, detail, at, stop_id, versions``.

    ``flatten`` is None, or ``stop_id, requested_at, state`` and the number of the last order per symbol: ``sent``, and
    ``refused`` where the venue would not have it.
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
        if os.fstat(self._fd).st_size < SIZE:
            held = os.pread(self._fd, SIZE, 0)
            os.pwrite(self._fd, held.ljust(SIZE, b" "), 0)
            os.fsync(self._fd)
        self.memory = self._read()

    def _read(self) -> Memory:
        raw = os.pread(self._fd, SIZE, 0).strip(b" \0")
        if not raw:
            return Memory()
        try:
            found = json.loads(raw)
            return Memory(**{k: v for k, v in found.items() if k in Memory.__dataclass_fields__})
        except (ValueError, TypeError, AttributeError):
            # A mangled memory cannot say that nothing was latched, so something is.
            latch = {
                "reason": "emergency_stop",
                "source": "disk",
                "detail": f"{self._path} is unreadable",
                "versions": {},
            }
            return Memory(latch=latch)

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
            os.pwrite(self._fd, raw.ljust(SIZE, b" "), 0)
            os.fdatasync(self._fd)
            self.trusted = True
        except OSError:
            self.trusted = False

    def close(self) -> None:
        os.close(self._fd)
