"""The trader as the emergency worker sees it: did it acknowledge, what has it in flight, and how to end it.

Its pid comes only from the kernel lock that it holds, never from Redis, and is signalled through a pidfd.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from shared.errors import StoreError
from shared.store import Store
from worker.runtime import lock_is_held, read_lock


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """``epoch_ack:{account}`` as it stands."""

    epoch: int
    in_flight: frozenset[str]


class TraderProcess:
    """The one trader of an account on this host."""

    def __init__(self, store: Store, account: str, run_dir: Path) -> None:
        self._store, self._account = store, account
        self._lock_path = run_dir / f"account-{account}.lock"

    def runs(self) -> bool:
        """Whether some process holds the account's kernel lock."""
        return lock_is_held(self._lock_path)

    def acknowledgement(self) -> Acknowledgement | None:
        """What the trader last acknowledged; None where that cannot be read."""
        try:
            found = self._store.get_json(self._store.keys.epoch_ack(self._account))
        except StoreError:
            return None
        if not isinstance(found, dict) or not isinstance(found.get("epoch"), int):
            return None
        pending = found.get("in_flight")
        return Acknowledgement(found["epoch"], frozenset(map(str, pending if isinstance(pending, list) else ())))

    def kill(self) -> tuple[str, bool]:
        """End the process that holds the lock, for good; returns what came of it, and whether it is over."""
        holder = read_lock(self._lock_path)
        if not self.runs():
            return "no trader holds the lock", True
        if holder is None or not holder.alive():
            return f"{self._lock_path} does not say which process holds it", False
        try:
            handle = os.pidfd_open(holder.pid)
        except OSError as error:
            return f"process {holder.pid} is gone: {error}", isinstance(error, ProcessLookupError)
        try:
            if not holder.alive():
                return f"process {holder.pid} is gone", True
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            return f"killed process {holder.pid}", True
        except OSError as error:
            return f"process {holder.pid} could not be killed: {error}", False
        finally:
            os.close(handle)
