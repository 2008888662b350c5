"""Named places at which a fault test kills the process: ``SIXBOT_FAILPOINT=name`` or ``name:n`` (the n-th pass).

Unarmed, which is always outside such a test, a pass is one comparison with None. A process arms itself once, at its
start; nothing is read at import. The end is SIGKILL: no handler, no ``finally``, no farewell.
"""

from __future__ import annotations

import os
import signal
import threading

from shared.errors import ConfigError

VARIABLE = "SIXBOT_FAILPOINT"

FAILPOINTS = {
    "intent.decided": "rules passed, no client order id yet",
    "intent.minted": "client order id and order exist in memory only",
    "intent.done": "the desk has returned, the cycle has not counted the order",
    "gate.before": "order counted as in flight, gate not called",
    "gate.asking": "before the gate's script is sent",
    "gate.answered": "the gate has answered, its answer is not looked at",
    "gate.denied": "the gate said no",
    "gate.after": "intent durable, nothing sent",
    "submit.before": "before the venue is called",
    "submit.guard": "the last statement before the first byte of the order is written",
    "submit.answered": "the venue has answered, the book does not know it",
    "submit.rejected": "the venue refused, the book does not know it",
    "submit.ambiguous": "no usable answer, the book does not know it",
    "submit.not_sent": "nothing was sent, the book does not know it",
    "submit.taken": "the answer is in the book",
    "push.before": "a pushed update was received",
    "push.after": "a pushed update is in the book",
    "apply.before": "news of an order, before its change is made",
    "apply.read": "the order's hashes are read in the transaction",
    "apply.queued": "the whole change is queued, not executed",
    "apply.written": "the change is executed",
    "apply.after": "the change is executed, this process has not taken note",
    "act.before": "before a change of ours (REJECTED, UNKNOWN, NOT_SENT, ABSENT)",
    "act.after": "after a change of ours",
    "adopt.before": "an order that the book does not know was found",
    "adopt.after": "it was recorded, its fills were not",
    "log.equity": "before the equity is appended",
    "log.status": "before trading_status is merged",
    "log.positions": "before portfolio_positions is written",
    "log.trim": "before old final orders are removed",
    "recover.begin": "before the lease is taken",
    "recover.leased": "lease taken, nothing reconciled",
    "recover.ask": "before the venue is asked for our client order id",
    "recover.absent": "the venue does not know the id",
    "recover.told": "the venue knows the id, the book was not changed",
    "recover.taken": "what the venue knows is in the book",
    "recover.never_sent": "before an intent that never left is closed",
    "recover.done": "reconciled, not trading yet",
    "reconcile.begin": "before the first read",
    "reconcile.fills_read": "fills read",
    "reconcile.orders_read": "open orders read",
    "reconcile.orders_settled": "orders settled, late fills not taken in",
    "reconcile.fills_taken": "late fills taken in",
    "reconcile.positions_read": "positions and account read",
    "reconcile.compared": "book and venue compared",
    "lease.take": "before the lease is taken",
    "lease.taken": "the lease is answered for",
    "lease.renew": "before the lease is renewed",
    "lease.renewed": "the lease is renewed",
    "lease.release": "before the lease is given back",
    "fence.in_flight": "an id is in flight",
    "fence.landed": "before an id stops being in flight",
    "fence.acknowledge": "before an epoch is acknowledged",
    "fence.acknowledged": "after an epoch is acknowledged",
    "fence.raise": "before the epoch is raised",
    "fence.raised": "epoch raised, not on disk",
    "fence.remembered": "epoch raised and on disk",
    "stop.noticed": "a stop is noticed, nothing done",
    "stop.begun": "its run is started, not on disk",
    "stop.remembered": "it is on disk",
    "cancel.begin": "before fence and first cancel",
    "cancel.all": "before the venue's cancel-all",
    "cancel.all_answered": "cancel-all answered",
    "cancel.fenced": "fence and first cancel done",
    "cancel.reported": "the first report is written",
    "cancel.each": "orders are left, before they are cancelled one by one",
    "cancel.each_answered": "each cancel is answered",
    "cancel.window": "an empty list, before the in-flight window is looked at",
    "cancel.proving": "the window is over",
    "cancel.proven": "proven empty, not reported",
    "cancel.finished": "the final report is written",
    "latch.before": "a latching stop, before the latch is on disk",
    "latch.after": "the latch is on disk, not in Redis",
    "latch.flagged": "emergency_stop_active is set, stop_latch is not shown",
    "latch.lift": "before a latch is lifted",
    "arm.before": "before trading is armed",
    "arm.after": "trading is armed",
}
"""Every failpoint and what has happened when it is passed. ``docs/reference/failpoints.md`` says the same."""


class Trigger:
    """Kills this process at the n-th pass of one failpoint, counted over all threads."""

    def __init__(self, name: str, passes: int) -> None:
        self._name, self._left = name, passes
        self._lock = threading.Lock()

    def passed(self, name: str) -> None:
        if name != self._name:
            return
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


_trigger: Trigger | None = None


def failpoint(name: str) -> None:
    """A place at which a test may end this process."""
    if _trigger is not None:
        _trigger.passed(name)


def parse(setting: str) -> tuple[str, int]:
    """``name`` or ``name:n`` with n ≥ 1. Raises ConfigError."""
    name, colon, count = setting.partition(":")
    if name not in FAILPOINTS:
        raise ConfigError(f"{VARIABLE}: no failpoint is called {name!r}")
    if not colon:
        return name, 1
    if not (count.isascii() and count.isdigit()) or int(count) < 1:
        raise ConfigError(f"{VARIABLE}: {count!r} is not a number of passes")
    return name, int(count)


def arm(setting: str | None) -> None:
    """Arm one failpoint, or none. Raises ConfigError for a name that is none."""
    global _trigger
    _trigger = Trigger(*parse(setting)) if setting else None
