"""An account's lease, taken and kept for all who act in its name."""

from __future__ import annotations

from shared.clock import Clock
from shared.errors import LeaseLost
from worker.runtime import StopSignals
from worker.trading.fence import Fence
from worker.trading.gate import RedisGate
from worker.trading.inbox import Intake
from worker.trading.lease import Lease
from worker.trading.ports import Book, Notes
from worker.trading.pulse import AccountPulse
from worker.trading.reconcile import unresolved_ids

RENEW_SECONDS = 2.0
RETRY_SECONDS = 1.0


class Tenure:
    """Takes and keeps the lease; only while it is ours do gate and fence speak for the account."""

    def __init__(self, lease: Lease, fence: Fence, gate: RedisGate, book: Book, clock: Clock) -> None:
        self._lease, self._fence, self._gate, self._book = lease, fence, gate, book
        self._clock = clock
        self._next_renewal = 0.0

    def take(self) -> str | None:
        """Take the lease; else return who holds it. Raises StoreError."""
        holder = self._lease.take()
        if holder is not None:
            return holder
        # Before a word as the account's trader: what an earlier one sent may still be on its way.
        self._fence.unresolved(unresolved_ids(self._book.open_orders()))
        self._gate.owner = self._fence.owner = self._lease.owner
        self._next_renewal = 0.0
        return None

    def keep(self) -> None:
        """Renew where that is due. Raises LeaseLost, StoreUnreachable."""
        now = self._clock.monotonic()
        if now >= self._next_renewal:
            self._lease.renew()
            self._next_renewal = now + RENEW_SECONDS

    def release(self) -> None:
        """Give the lease back, if it is ours. Raises StoreError."""
        self._lease.release()


class Admission:
    """The wait for a lease that another trader holds; that one tells the account's status meanwhile."""

    def __init__(self, tenure: Tenure, pulse: AccountPulse, intake: Intake, signals: StopSignals, notes: Notes) -> None:
        self._tenure, self._pulse, self._intake = tenure, pulse, intake
        self._signals, self._notes = signals, notes

    def wait(self) -> None:
        """Until the lease is ours. Raises LeaseLost where the process drains first, StoreError."""
        told = ""
        while not self._signals.stopping.is_set():
            holder = self._tenure.take()
            if holder is None:
                return
            if holder != told:
                told = holder
                self._notes("waiting_for_lease", holder=holder)
            self._pulse.beat()
            self._intake.wait(RETRY_SECONDS)
        raise LeaseLost("stopped before the lease was free")
