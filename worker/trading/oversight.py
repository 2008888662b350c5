"""When an account is reconciled, and what follows from what was found."""

from __future__ import annotations

from shared.clock import Clock, TradingCalendar
from shared.errors import VenueBusy, VenueError
from worker.trading.book import RedisBook
from worker.trading.fence import Fence
from worker.trading.halt import LOSS, MISMATCH, HaltRequest
from worker.trading.mend import Mender
from worker.trading.profit import day_pnl
from worker.trading.reconcile import Reconciler, Snapshot, unresolved_ids
from worker.trading.status import TraderStatus
from worker.trading.switches import SwitchReader

RECONCILE_SECONDS = 10.0
SOON_SECONDS = 1.0


class Oversight:
    """Keeps what is known of the account fresh, tells what is wrong, and asks for a stop where it must."""

    def __init__(
        self,
        reconciler: Reconciler,
        mender: Mender,
        book: RedisBook,
        fence: Fence,
        switches: SwitchReader,
        status: TraderStatus,
        halt: HaltRequest,
        clock: Clock,
        calendar: TradingCalendar,
    ) -> None:
        self._reconciler, self._mender, self._book = reconciler, mender, book
        self._fence, self._switches = fence, switches
        self._status, self._halt, self._clock, self._calendar = status, halt, clock, calendar
        self._next = self._patient_until = self._due = 0.0
        self.snapshot: Snapshot | None = None
        """What the last reconciliation found."""

    def at_once(self) -> None:
        """Reconcile at the next turn."""
        self._next = 0.0

    def soon(self) -> None:
        """Reconcile within a second."""
        self._next = min(self._next, self._clock.monotonic() + SOON_SECONDS)

    def start_over(self) -> None:
        """The recovery of a start; twice where the first pass could not compare. Raises VenueError, StoreError."""
        self._reconciler.start_over()
        self.reconcile()
        if self._reconciler.unjudged:
            self.reconcile()

    @property
    def suspects(self) -> bool:
        """Whether book and venue were found apart in what we hold."""
        return self._reconciler.suspects

    def judge_start(self) -> None:
        """A start that finds book and venue apart once more has no explanation for it: ask for a stop.

        Raises VenueError, StoreError.
        """
        drift = self.reconcile().drift
        if drift:
            self._halt.ask(MISMATCH, drift)

    def heed(self, error: BaseException) -> None:
        """A venue that asks for patience is not read before, though no less often than a reconciliation is due."""
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, VenueBusy):
            cause = cause.__cause__
        if cause is not None:
            self._patient_until = self._clock.monotonic() + min(cause.seconds, RECONCILE_SECONDS)

    @property
    def patient(self) -> bool:
        """Whether the venue has asked not to be read now."""
        return self._clock.monotonic() < self._patient_until

    def tend(self) -> None:
        """Reconcile where that is due. A venue that cannot be read is told and asked again; it ends nothing."""
        if self._clock.monotonic() < self._next or self.patient:
            return
        try:
            self.reconcile()
            self._status.fault("venue", None)
        except VenueError as error:
            self._status.fault("venue", str(error))
            self._next = self._clock.monotonic() + SOON_SECONDS

    def meanwhile(self) -> Snapshot | None:
        """Reconcile although a cycle runs, where the last time is too long ago; returns what was found anew.

        Raises StoreError.
        """
        before = self.snapshot
        if self._clock.monotonic() >= self._due:
            self.tend()
        return None if self.snapshot is before else self.snapshot

    def reconcile(self) -> Snapshot:
        """One pass and what follows from it. Raises VenueError, StoreError."""
        try:
            self.snapshot = snapshot = self._reconciler.run()
        except VenueError as error:
            self.heed(error)
            raise
        self._due = self._clock.monotonic() + RECONCILE_SECONDS
        soon = self._reconciler.unsettled and not snapshot.drift
        self._next = self._clock.monotonic() + (SOON_SECONDS if soon else RECONCILE_SECONDS)
        self._fence.unresolved(unresolved_ids(snapshot.orders))
        self._tell(snapshot)
        if not snapshot.drift:
            self._halt.withdraw(MISMATCH)
        self._judge_loss(snapshot)
        self._mender.show_day()
        self._book.trim()
        return snapshot

    def _tell(self, snapshot: Snapshot) -> None:
        self._status.positions(snapshot.positions)
        self._status.fault("drift", f"REDUCING: {snapshot.drift}" if snapshot.drift else None)
        self._halt.reducing(snapshot.drift)
        self._status.fault("orders", _first(snapshot.problems))

    def _judge_loss(self, snapshot: Snapshot) -> None:
        """Ask for a stop when the day's loss is over its limit."""
        limit = self._switches.read().risk.value.max_daily_loss_usd
        pnl = day_pnl(self._book, snapshot, self._calendar.day_of(self._clock.now()).name)
        if limit and pnl is not None and -pnl >= limit:
            self._halt.ask(LOSS, f"lost {-pnl} today, the limit is {limit}")
        else:
            self._halt.withdraw(LOSS)


def _first(problems: dict[str, str]) -> str | None:
    return next((f"{name}: {why}" for name, why in problems.items()), None)
