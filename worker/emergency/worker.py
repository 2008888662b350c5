"""The emergency worker: arms trading second by second while all allows it, and stops it the moment something does not.

It alone trips. It opens no position. It guards every account of its host: one switch, one latch, one arming, and per
account a stop of its own (``AccountStop``).
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from types import FrameType
from typing import Any

import structlog

from shared.clock import Clock, rfc3339
from shared.config import Config
from shared.documents import Reading, RiskSettings, TradingSettings
from shared.errors import SixbotError, StoreError
from worker.emergency.account import AccountStop
from worker.emergency.display import Display
from worker.emergency.fencing import Fencer
from worker.emergency.keys import EmergencyKeys
from worker.emergency.latch import Memory
from worker.emergency.latched import Latch
from worker.emergency.look import Lookout
from worker.emergency.report import StopReport
from worker.emergency.state import StopState
from worker.emergency.switch import Cause, View, find_causes, somebody_spoke
from worker.failpoints import failpoint
from worker.runtime import Heartbeat, StopSignals

POLL_SECONDS = 0.25
ARM_SECONDS = 1.0
LEAVE_SECONDS, PROOF_POLL_SECONDS = 5.0, 0.05
STAND_BACK_SECONDS = 0.005
"""For so long this loop leaves the interpreter to the threads that cancel."""


class EmergencyWorker:
    """The first account's memory holds what stands for all of them."""

    def __init__(
        self,
        config: Config,
        accounts: Sequence[AccountStop],
        keys: EmergencyKeys,
        heartbeat: Heartbeat,
        signals: StopSignals,
        clock: Clock,
        logger: structlog.stdlib.BoundLogger,
    ) -> None:
        self._accounts, self._keys, self._memory = tuple(accounts), keys, accounts[0].memory
        self._heartbeat, self._signals, self._clock, self._logger = heartbeat, signals, clock, logger
        names = [account.name for account in accounts]
        self._lookout = Lookout(config, keys, self._memory, names, heartbeat.host, clock)
        self._display = Display(keys, self._memory, clock)
        self._latch = Latch(self._memory, keys, self._lookout, clock, logger, self._display.later)
        self._report = StopReport(keys.report, self._display.later)
        self._fencer = Fencer(keys, self._memory, logger, self._display.later, self._fenced_late)
        for account in accounts:
            account.join(keys.effect_of, keys.working_in_book, self._report, self._fencer.new)
        self._wake = threading.Event()
        self._signalled = False
        self._state: StopState | None = None
        self._cause: Cause | None = None
        self._next_arm = 0.0

    # -- from outside the loop ------------------------------------------------------------------------------------

    def wake(self) -> None:
        """A watched key was written, or the poll came round."""
        self._wake.set()

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """SIGUSR1: stop now."""
        self._signalled = True
        self._wake.set()

    # -- the loop -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        self._start_unproven_again()
        first = True
        try:
            while not self._signals.stopping.is_set():
                try:
                    if first:
                        self._keys.write_default_settings()
                        first = False
                except StoreError:
                    self._logger.info("redis_not_there_yet")
                self.turn()
                self._wake.wait(POLL_SECONDS)
                self._wake.clear()
        finally:
            self._leave()

    def _leave(self) -> None:
        """Drained: nobody arms any more, so trading ends within the key's three seconds, at once where possible. A stop
        that is being carried out gets a few seconds for its proof."""
        if self._signalled:
            self.turn()
        try:
            self._keys.disarm()
            self._display.leave()
        except StoreError:
            self._logger.warning("not_disarmed")
        self._heartbeat.farewell()
        deadline = self._clock.monotonic() + LEAVE_SECONDS
        while any(account.stopping for account in self._accounts) and self._clock.monotonic() < deadline:
            self._wake.wait(PROOF_POLL_SECONDS)
            self._wake.clear()
        for account in self._accounts:
            account.tend()
        for account in self._accounts:
            account.abandon()
        for account in self._accounts:
            account.close(deadline)
        self._fencer.close()
        self._keys.close()

    def turn(self) -> None:
        """One look and what follows from it. Raises nothing: what fails is logged and tried again."""
        try:
            beside = self._look_beside_redis()
            view = self._lookout.look(signalled=self._signalled, stop_file=beside.stop_file)
            causes = find_causes(view, was_active=self._memory.memory.active)
            if causes:
                self._off(causes, view)
            elif view.settings is not None and view.risk is not None:
                self._allowed(view.settings, view.risk)
            self._after(view)
        except SixbotError as error:
            self._logger.warning("turn_failed", error=str(error))
        except Exception:  # the last net of the one process that must not die
            self._logger.exception("turn_failed")

    def _look_beside_redis(self) -> View:
        view = self._lookout.beside_redis(signalled=self._signalled)
        if self._cause is None and (view.signalled or view.stop_file):
            self._off(find_causes(view, was_active=self._memory.memory.active), view)
        return view

    # -- off ------------------------------------------------------------------------------------------------------

    def _off(self, causes: Sequence[Cause], view: View) -> None:
        """First cause wins until resume; a later one may latch, and a person's may do more than a machine's did."""
        cause, held = causes[0], self._memory.memory
        latching = next((c for c in causes if c.latching), None)
        self._flatten_on()
        if self._cause is None:
            self._cause = cause
            if held.active or (latching is not None and held.latch is None):
                self._trip(cause, self._accounts, view)
            elif unproven := self._unproven():
                self._trip(cause, unproven, view)
            else:
                self._memory.change(active=False, reason=held.reason or cause.reason)
                self._cause = replace(cause, reason=held.reason or cause.reason)
        elif (stronger := self._stronger(causes, view)) is not None:
            self._trip(stronger, self._accounts, view)
        if latching is not None and self._latch.held is None:
            self._latch.set(latching)
        if view.signalled:
            self._signalled = False

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
        self._remember_stop(accounts, state, (self._cause or cause).reason)
        failpoint("stop.remembered")
        self._logger.warning(
            "stop", stop_id=state.stop_id, reason=cause.reason, source=cause.source, detail=cause.detail
        )

    def _remember_stop(self, accounts: Sequence[AccountStop], state: StopState, reason: str) -> None:
        """What stands for all comes last, in one write with the first account's own: a worker that is killed meanwhile
        comes back as one that was trading."""
        own: dict[str, Any] = {"proven": False, "stop": state.identity()}
        for account in accounts:
            if account.memory is not self._memory:
                account.memory.change(**own)
        is_first = any(account.memory is self._memory for account in accounts)
        self._memory.change(active=False, reason=reason, **(own if is_first else {}))

    def _fenced_late(self) -> None:
        for account in self._accounts:
            account.fenced_late()

    # -- on -------------------------------------------------------------------------------------------------------

    def _allowed(self, settings: Reading[TradingSettings], risk: Reading[RiskSettings]) -> None:
        """Both documents are ON: lift what may be lifted, finish the stop that runs, arm."""
        if not self._latch.lift(settings, risk):
            return
        if any(account.stopping for account in self._accounts):
            return  # no resume into a stop that is still being carried out
        for account in self._accounts:
            account.abandon()
        if any(account.busy for account in self._accounts):
            return
        for account in self._accounts:
            account.drop()
        self._state = None
        if not self._trusted():
            self._memory.change(resumed_at=rfc3339(self._clock.now()))
            if not self._trusted():
                return
        self._arm(risk.value)

    def _trusted(self) -> bool:
        """Whether every account's memory is on disk."""
        return all(account.memory.trusted for account in self._accounts)

    def _arm(self, risk: RiskSettings) -> None:
        now = self._clock.monotonic()
        fresh = self._cause is not None or not self._memory.memory.active
        if not fresh and now < self._next_arm:
            return
        epoch = self._keys.epoch()
        if epoch is None or epoch < max(self._memory.memory.highest_epoch, 1):
            epoch = self._fencer.above_all()
        if fresh:
            for account in self._accounts:
                account.memory.change(proven=True, stop=None, flatten=None)
            self._memory.change(active=True, reason="", resumed_at=rfc3339(self._clock.now()))
        self._memory.change(
            highest_epoch=max(epoch, self._memory.memory.highest_epoch),
            on_stop=risk.on_stop,
            on_stop_automatic=risk.on_stop_automatic,
            emergency_stop_active=risk.emergency_stop_active,
            reduce_only=risk.reduce_only,
        )
        if not self._trusted():
            return
        self._keys.keep_fence_line()
        failpoint("arm.before")
        self._keys.arm(epoch)
        failpoint("arm.after")
        self._next_arm = now + ARM_SECONDS
        if fresh:
            self._cause = None
            self._lookout.armed()
            self._heartbeat.active()
            self._logger.info("armed", epoch=epoch)

    # -- after every look -----------------------------------------------------------------------------------------

    def _after(self, view: View) -> None:
        reached = {account.name: account.reachable for account in self._accounts}
        self._heartbeat.extra = {
            "accounts": {name: {"venue_reachable": answer} for name, answer in reached.items()},
            "venue_reachable": None if None in reached.values() else all(reached.values()),
        }
        self._heartbeat.beat()
        for account in self._accounts:
            account.tend()
        if self._latch.held is None and (late := next((a for a in self._accounts if a.not_proven), None)) is not None:
            reason = late.run.state.cause.reason if late.run is not None else "emergency_stop"
            self._latch.set(Cause(reason, "venue", f"the stop could not be proven at {late.name}", latching=True))
        if view.settings is not None and view.risk is not None:
            shown = self._cause.reason if self._cause is not None else None
            self._display.tell(view.settings, view.risk, shown, reducing=view.reducing)

    # -- after a restart ------------------------------------------------------------------------------------------

    def _start_unproven_again(self) -> None:
        """A stop that an earlier process could not prove is gone on with, where it was not proven: it is the same stop,
        so that the venue's cancel-all is not called again and what the owner did by hand since stays his."""
        held = self._memory.memory
        recalled = (
            [] if held.active else [account.recall(self._keys.reported(account.name)) for account in self._accounts]
        )
        self._state = next((state for state in recalled if state is not None), None)
        if unproven := self._unproven():
            self._cause = Cause(held.reason or "emergency_stop", "restart", "an unproven stop from before the restart")
            fencing, noticed = self._fencer.new(), self._clock.monotonic()
            unknown = [account for account in unproven if not account.go_on(fencing, noticed)]
            if unknown:
                self._trip(self._cause, unknown)
        elif held.latch is not None and not any(a.flatten_waits for a in self._accounts):
            self._cause = Cause(str(held.latch.get("reason")), str(held.latch.get("source")), "latched", latching=True)
        if held.latch is not None:
            self._display.later(self._latch.show)
            self._display.later(self._fencer.restore)

    def _flatten_on(self) -> None:
        """Where an earlier process was closing positions, the same stop is proven anew, and then goes on closing under
        its own ids."""
        held = self._memory.memory
        waiting = [account for account in self._accounts if account.flatten_waits]
        if held.active or not waiting:
            return
        cause = Cause(held.reason or "emergency_stop", "restart", "a flatten from before the restart")
        self._cause = self._cause or cause
        fencing, noticed = self._fencer.new(), self._clock.monotonic()
        for account in waiting:
            stop_id, requested = account.flatten_begun(self._clock.now())
            self._state = StopState(stop_id, cause, "flatten", requested, is_reopened=True)
            account.carry_out(self._state.for_account(), fencing, noticed)


def write_pid(config: Config, account: str) -> None:
    """``run/emergency-{account}.pid``: where ``sixbot stop`` sends its signal when Redis is down. A full disk costs
    this channel, and not the worker."""
    path = config.run_dir / f"emergency-{account}.pid"
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{os.getpid()}\n")
