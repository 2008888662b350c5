"""The emergency worker: arms trading second by second while all allows it, and stops it the moment something does not.

It alone trips. It opens no position. It guards every account of its host: one switch, one latch, one arming, and per
account a stop of its own (``AccountStop``).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

import structlog

from shared.clock import Clock
from shared.config import Config
from shared.errors import SixbotError, StoreError
from worker.emergency.account import AccountStop
from worker.emergency.arming import Arming
from worker.emergency.breaker import Breaker
from worker.emergency.display import Display
from worker.emergency.fencing import Fencer
from worker.emergency.latch import Latch
from worker.emergency.look import Lookout
from worker.emergency.memory import MemoryFile
from worker.emergency.switch import View, find_causes
from worker.runtime import Heartbeat, StopSignals

POLL_SECONDS = 0.25
LEAVE_SECONDS, PROOF_POLL_SECONDS = 5.0, 0.05


class EmergencyWorker:
    """Looks, and lets what it sees arm or trip. ``memory`` is the first account's."""

    def __init__(
        self,
        accounts: Sequence[AccountStop],
        memory: MemoryFile,
        lookout: Lookout,
        breaker: Breaker,
        arming: Arming,
        latch: Latch,
        fencer: Fencer,
        display: Display,
        heartbeat: Heartbeat,
        signals: StopSignals,
        clock: Clock,
        logger: structlog.stdlib.BoundLogger,
    ) -> None:
        self._accounts, self._memory, self._lookout = tuple(accounts), memory, lookout
        self._breaker, self._arming, self._latch = breaker, arming, latch
        self._fencer, self._display, self._heartbeat = fencer, display, heartbeat
        self._signals, self._clock, self._logger = signals, clock, logger
        self._wake = threading.Event()
        self._signalled = False

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
        self._start_over()
        has_default = False
        try:
            while not self._signals.stopping.is_set():
                has_default = has_default or self._write_default()
                self.turn()
                self._wake.wait(POLL_SECONDS)
                self._wake.clear()
        finally:
            self._leave()

    def _start_over(self) -> None:
        """Go on with what an earlier process left unproven or latched."""
        for account in self._accounts:
            account.begin()
        self._breaker.start_over()
        if self._latch.held is not None:
            self._display.later(self._latch.show)
            self._display.later(self._fencer.restore)

    def _write_default(self) -> bool:
        try:
            self._display.write_default_settings()
        except StoreError:
            self._logger.info("redis_not_there_yet")
            return False
        return True

    def _leave(self) -> None:
        """Drained: nobody arms any more, so trading ends within the key's three seconds, at once where possible. A stop
        that is being carried out gets a few seconds for its proof."""
        if self._signalled:
            self.turn()
        try:
            self._fencer.line.disarm()
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
        self._lookout.close()

    def turn(self) -> None:
        """One look and what follows from it. Raises nothing: what fails is logged and tried again."""
        try:
            beside = self._look_beside_redis()
            view = self._lookout.look(signalled=self._signalled, stop_file=beside.stop_file)
            if causes := find_causes(view, was_active=self._memory.memory.active):
                self._breaker.off(causes, view)
                self._heeded(view)
            elif view.settings is not None and view.risk is not None and self._arming.allow(view.settings, view.risk):
                self._lookout.armed()
                self._heartbeat.active()
            self._after(view)
        except SixbotError as error:
            self._logger.warning("turn_failed", error=str(error))
        except Exception:  # the last net of the one process that must not die
            self._logger.exception("turn_failed")

    def _look_beside_redis(self) -> View:
        view = self._lookout.beside_redis(signalled=self._signalled)
        if self._breaker.cause is None and (view.signalled or view.stop_file):
            self._breaker.off(find_causes(view, was_active=self._memory.memory.active), view)
            self._heeded(view)
        return view

    def _heeded(self, view: View) -> None:
        if view.signalled:
            self._signalled = False

    def _after(self, view: View) -> None:
        self._beat()
        for account in self._accounts:
            account.tend()
        self._breaker.latch_unproven()
        if view.settings is not None and view.risk is not None:
            cause = self._breaker.cause
            reason = None if cause is None else cause.reason
            self._display.tell(view.settings, view.risk, reason, reducing=view.reducing)

    def _beat(self) -> None:
        reached = {account.name: account.reachable for account in self._accounts}
        self._heartbeat.extra = {
            "accounts": {name: {"venue_reachable": answer} for name, answer in reached.items()},
            "venue_reachable": None if None in reached.values() else all(reached.values()),
        }
        self._heartbeat.beat()


def write_pid(config: Config, account: str) -> None:
    """``run/emergency-{account}.pid``: where ``sixbot stop`` sends its signal when Redis is down. A full disk costs
    this channel, and not the worker."""
    path = config.run_dir / f"emergency-{account}.pid"
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{os.getpid()}\n")
