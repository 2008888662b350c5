"""The circuit breaker of all accounts: it trips trading, and knows why it is off."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import structlog

from shared.clock import Clock
from shared.documents import RiskSettings
from worker.emergency.account import AccountStop
from worker.emergency.fencing import Fencer
from worker.emergency.latch import Latch
from worker.emergency.look import Lookout
from worker.emergency.memory import Memory, MemoryFile
from worker.emergency.report import StopReport
from worker.emergency.state import StopState
from worker.emergency.switch import Cause, View, somebody_spoke
from worker.failpoints import failpoint

STAND_BACK_SECONDS = 0.005
"""For so long the loop leaves the interpreter to the threads that cancel."""


class Breaker:
    """``memory`` is the first account's, which holds what stands for all of them."""

    def __init__(
        self,
        accounts: Sequence[AccountStop],
        memory: MemoryFile,
        lookout: Lookout,
        fencer: Fencer,
        latch: Latch,
        report: StopReport,
        clock: Clock,
        logger: structlog.stdlib.BoundLogger,
    ) -> None:
        self._accounts, self._memory, self._lookout = tuple(accounts), memory, lookout
        self._fencer, self._latch = fencer, latch
        self._report, self._clock, self._logger = report, clock, logger
        self._state: StopState | None = None
        self.cause: Cause | None = None
        """Why trading is off; None while it is on, and before the first look."""

    def off(self, causes: Sequence[Cause], view: View) -> None:
        """First cause wins until resume; a later one may latch, and a person's may do more than a machine's did.

        ``view`` is what the causes were found in.
        """
        latching = next((c for c in causes if c.latching), None)
        self._flatten_on()
        if self.cause is None:
            self._first(causes[0], latching, view)
        elif (stronger := self._stronger(causes, view)) is not None:
            self._trip(stronger, self._accounts, view)
        if latching is not None and self._latch.held is None:
            self._latch.set(latching)

    def _first(self, cause: Cause, latching: Cause | None, view: View) -> None:
        held, self.cause = self._memory.memory, cause
        if held.active or (latching is not None and held.latch is None):
            self._trip(cause, self._accounts, view)
        elif unproven := self._unproven():
            self._trip(cause, unproven, view)
        else:
            reason = held.reason or cause.reason
            self._memory.change(active=False, reason=reason)
            self.cause = replace(cause, reason=reason)

    def _unproven(self) -> list[AccountStop]:
        """Accounts whose part of a stop from before was not proven, and is not carried out now."""
        return [a for a in self._accounts if not a.memory.memory.proven and a.run is None and not a.flatten_waits]

    def _stronger(self, causes: Sequence[Cause], view: View) -> Cause | None:
        """A person's stop after an automatic one that cancelled less. The flag may be our own, so it does not count,
        nor does what is missing in a Redis that came back empty."""
        state = self._state
        if state is None or not state.cause.automatic or state.policy == self._policy(view, automatic=False):
            return None
        dumb = {"risk_settings"}
        if view.settings is not None and self._lookout.was_cut_since_armed and not somebody_spoke(view.settings):
            dumb.add("trading_settings")
        return next((c for c in causes if not c.automatic and c.source not in dumb), None)

    def _policy(self, view: View | None, *, automatic: bool) -> str:
        """By the document as it stands, for it may say stop and how in one; else by the last good one."""
        told: RiskSettings | Memory = self._memory.memory
        if view is not None and view.risk is not None and view.risk.error is None and view.risk.raw is not None:
            told = view.risk.value
        return told.on_stop_automatic if automatic else told.on_stop

    def _trip(self, cause: Cause, accounts: Sequence[AccountStop], view: View | None = None) -> None:
        """Nothing slow stands before the first cancel: disk and reports come after it has been handed over."""
        noticed = self._clock.monotonic()
        policy = self._policy(view, automatic=cause.automatic)
        self._state = state = StopState(secrets.token_hex(4), cause, policy, self._clock.now())
        failpoint("stop.noticed")
        self._report.clear()
        fencing = self._fencer.new()
        fencing.begin()
        for account in accounts:
            account.carry_out(state.for_account(), fencing, noticed)
        failpoint("stop.begun")
        if not cause.latching:  # a latch must be on disk before anything else, for only the disk will know of it
            until = self._clock.monotonic() + STAND_BACK_SECONDS
            for account in accounts:
                account.wait_cancel_asked(until)
        fencing.ended()
        self._remember(accounts, state, (self.cause or cause).reason)
        failpoint("stop.remembered")
        self._logger.warning(
            "stop", stop_id=state.stop_id, reason=cause.reason, source=cause.source, detail=cause.detail
        )

    def _remember(self, accounts: Sequence[AccountStop], state: StopState, reason: str) -> None:
        """What stands for all comes last, in one write with the first account's own: a worker that is killed meanwhile
        comes back as one that was trading."""
        own: dict[str, Any] = {"proven": False, "stop": state.identity()}
        for account in accounts:
            if account.memory is not self._memory:
                account.memory.change(**own)
        is_first = any(account.memory is self._memory for account in accounts)
        self._memory.change(active=False, reason=reason, **(own if is_first else {}))

    def latch_unproven(self) -> None:
        """A stop that could not be proven is one that only a person lifts."""
        late = next((a for a in self._accounts if a.not_proven), None)
        if late is None or self._latch.held is not None:
            return
        reason = late.run.state.cause.reason if late.run is not None else "emergency_stop"
        self._latch.set(Cause(reason, "venue", f"the stop could not be proven at {late.name}", latching=True))

    # -- on again -------------------------------------------------------------------------------------------------

    def let_go(self) -> bool:
        """End the watch after the stop; False as long as a stop, or a call of one, is still out."""
        if any(account.stopping for account in self._accounts):
            return False  # no resume into a stop that is still being carried out
        for account in self._accounts:
            account.abandon()
        if any(account.busy for account in self._accounts):
            return False
        for account in self._accounts:
            account.drop()
        self._state = None
        return True

    def closed(self) -> None:
        """Trading is armed again."""
        self.cause = None

    # -- after a restart ------------------------------------------------------------------------------------------

    def start_over(self) -> None:
        """A stop that an earlier process could not prove is gone on with, where it was not proven: it is the same stop,
        so that the venue's cancel-all is not called again and what the owner did by hand since stays his."""
        held = self._memory.memory
        recalled = [] if held.active else [account.recall() for account in self._accounts]
        self._state = next((state for state in recalled if state is not None), None)
        if unproven := self._unproven():
            self.cause = Cause(held.reason or "emergency_stop", "restart", "an unproven stop from before the restart")
            fencing, noticed = self._fencer.new(), self._clock.monotonic()
            unknown = [account for account in unproven if not account.go_on(fencing, noticed)]
            if unknown:
                self._trip(self.cause, unknown)
        elif held.latch is not None and not any(a.flatten_waits for a in self._accounts):
            self.cause = Cause(str(held.latch.get("reason")), str(held.latch.get("source")), "latched", latching=True)

    def _flatten_on(self) -> None:
        """Where an earlier process was closing positions, the same stop is proven anew, and then goes on closing under
        its own ids."""
        held = self._memory.memory
        waiting = [account for account in self._accounts if account.flatten_waits]
        if held.active or not waiting:
            return
        cause = Cause(held.reason or "emergency_stop", "restart", "a flatten from before the restart")
        self.cause = self.cause or cause
        fencing, noticed = self._fencer.new(), self._clock.monotonic()
        for account in waiting:
            stop_id, requested = account.flatten_begun(self._clock.now())
            self._state = StopState(stop_id, cause, "flatten", requested, is_reopened=True)
            account.carry_out(self._state.for_account(), fencing, noticed)
