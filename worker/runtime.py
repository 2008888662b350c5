"""What every worker process shares: signals, heartbeat, the service manager's watchdog, exit codes, account locks.

First SIGTERM or SIGINT drains, the second exits at once. The heartbeat and the watchdog are fed by the worker's own
loop: a loop that hangs stops both.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import FrameType

import psutil

from shared import __version__
from shared.clock import Clock, rfc3339
from shared.errors import SixbotError, StoreError
from shared.store import Store

HEARTBEAT_SECONDS = {"trading": 2, "emergency": 1, "heartbeat": 5, "exchange": 5, "jobs": 5}
"""A worker's heartbeat interval; its key lives three times as long."""


_PR_SET_PDEATHSIG = 1


class ExitCode(IntEnum):
    """How a worker process ends."""

    OK = 0
    FAILURE = 1
    CONFIG = 2
    REDIS_UNREACHABLE = 3
    FORCED = 130


class StopSignals:
    """SIGTERM and SIGINT set ``stopping``; a second one ends the process with FORCED."""

    def __init__(self, on_stop: Callable[[], None] | None = None) -> None:
        self.stopping = threading.Event()
        self._on_stop = on_stop

    def install(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.stopping.is_set():
            os._exit(ExitCode.FORCED)
        self.stopping.set()
        if self._on_stop is not None:
            self._on_stop()


def notify_service_manager(message: str) -> None:
    """sd_notify(3): one datagram to ``$NOTIFY_SOCKET``; does nothing where no service manager listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        try:
            channel.sendto(message.encode(), address)
        except OSError:
            return


def end_with_parent() -> None:
    """In a forked child: SIGTERM when the parent ends, however it ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def settle_collector() -> None:
    """What lives until the end is never walked again: a full collection in the middle of a stop would go through
    everything that was ever imported."""
    gc.collect()
    gc.freeze()


class Heartbeat:
    """Writes ``heartbeat:{worker}:{host}`` and feeds the watchdog, once per interval, from the worker's own loop."""

    def __init__(self, worker: str, store: Store, clock: Clock, host: str | None = None) -> None:
        self.worker, self._store, self._clock = worker, store, clock
        self.host = host or socket.gethostname()
        self.interval = HEARTBEAT_SECONDS[worker.partition("-")[0]]
        self._process = psutil.Process()
        self._started_at = rfc3339(clock.now())
        self._next = float("-inf")
        self._announced = False
        self.extra: dict[str, object] = {}
        self.stopping = False
        self.last_activity: str | None = None

    @property
    def key(self) -> str:
        return self._store.keys.heartbeat(self.worker, self.host)

    def active(self) -> None:
        """Note that the worker did something that matters (shown as ``last_activity``)."""
        self.last_activity = rfc3339(self._clock.now())

    def beat(self, *, force: bool = False) -> None:
        """Called by every turn of the loop. A Redis that is away costs the beat, never the loop."""
        now = self._clock.monotonic()
        if now < self._next and not force:
            return
        self._next = now + self.interval
        notify_service_manager("WATCHDOG=1" if self._announced else "READY=1\nWATCHDOG=1")
        self._announced = True
        try:
            self._store.put_json(self.key, self.document(), ttl_seconds=3 * self.interval)
        except StoreError:
            return

    def document(self) -> dict[str, object]:
        """The heartbeat: who, since when, how big, what last."""
        return {
            "worker": self.worker,
            "pid": os.getpid(),
            "host": self.host,
            "version": __version__,
            "started_at": self._started_at,
            "last_beat": rfc3339(self._clock.now()),
            "last_activity": self.last_activity,
            "interval_seconds": self.interval,
            "memory_mb": round(self._process.memory_info().rss / 1_048_576, 1),
            "cpu_seconds": round(sum(self._process.cpu_times()[:2]), 2),
            "stopping": self.stopping,
            **self.extra,
        }

    def farewell(self) -> None:
        """Say ``stopping``: an announced end is no silence."""
        self.stopping = True
        notify_service_manager("STOPPING=1")
        self.beat(force=True)


def boot_id() -> str:
    """The kernel's id of this boot, so that a pid of an earlier one is never believed."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class LockHolder:
    """Who holds an account's kernel lock, as written into the lock file by the holder itself."""

    pid: int
    start_time: float
    boot_id: str

    def alive(self) -> bool:
        """Whether that very process still runs (same boot, same pid, same start time)."""
        if self.boot_id != boot_id():
            return False
        try:
            return abs(psutil.Process(self.pid).create_time() - self.start_time) < 0.05
        except psutil.Error:
            return False


class AccountLocked(SixbotError):
    """Another process on this host trades the account."""


class AccountLock:
    """The kernel lock ``run/account-{name}.lock``: one trader per account on this host, gone with its process."""

    def __init__(self, run_dir: Path, account: str) -> None:
        self.path = run_dir / f"account-{account}.lock"
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the lock, or keep it where it is ours already. Raises AccountLocked naming the holder."""
        if self._fd is not None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            holder = read_lock(self.path)
            raise AccountLocked(
                f"{self.path} is held by {f'process {holder.pid}' if holder else 'another process'}: "
                "one trader per account; stop that one first"
            ) from None
        process = psutil.Process()
        note: Mapping[str, object] = {
            "pid": process.pid,
            "start_time": process.create_time(),
            "boot_id": boot_id(),
        }
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(note).encode(), 0)
        self._fd = fd

    @property
    def identity(self) -> str:
        """Names this host's lock file: two processes that share it cannot both hold the account."""
        stat = self.path.stat()
        return f"{socket.gethostname()}/{boot_id()[:8]}/{stat.st_dev:x}-{stat.st_ino:x}"

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def read_lock(path: Path) -> LockHolder | None:
    """Who wrote the lock file last; None where nobody did or it is mangled. Says nothing about being alive."""
    try:
        note = json.loads(path.read_bytes())
        return LockHolder(int(note["pid"]), float(note["start_time"]), str(note["boot_id"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def lock_is_held(path: Path) -> bool:
    """Whether some process holds the kernel lock now."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False
