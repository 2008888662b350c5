"""The emergency worker: arms trading second by second while all allows it, and stops it the moment something does not.

It alone trips. It opens no position. It has its own venue session, kept warm, and its own memory on disk.
"""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import FrameType
from typing import Any

import structlog

from shared.clock import Clock, parse_rfc3339, rfc3339
from shared.config import Config
from shared.documents import Reading, RiskSettings, TradingSettings
from shared.errors import SixbotError, StoreError, StoreUnreachable, VenueError
from worker.emergency.flatten import PENDING, Flattener
from worker.emergency.keys import EmergencyKeys, ExternalAudit
from worker.emergency.latch import MemoryFile
from worker.emergency.stop import Sentry, StopRun, StopState
from worker.emergency.switch import Cause, View, explicitly_lifted, find_causes
from worker.emergency.trader import TraderProcess
from worker.failpoints import failpoint
from worker.runtime import Heartbeat, StopSignals
from worker.venues.base import Venue

POLL_SECONDS = 0.25
ARM_SECONDS = 1.0
WARM_SECONDS = 5.0
STATUS_SECONDS = 10.0
"""The status is written on change, and this often all the same: somebody may have mangled it."""
CANCEL_THREADS = 50


class EmergencyWorker:
    """One account's emergency worker, on its trader's host."""

    def __init__(
        self,
        config: Config,
        account: str,
        venue: Venue,
        keys: EmergencyKeys,
        memory: MemoryFile,
        trader: TraderProcess,
        heartbeat: Heartbeat,
        signals: StopSignals,
        clock: Clock,
        logger: structlog.stdlib.BoundLogger,
    ) -> None:
        self._config, self._account, self._venue, self._keys = config, account, venue, keys
        self._memory, self._trader, self._heartbeat, self._signals = memory, trader, heartbeat, signals
        self._clock, self._logger = clock, logger
        self._audit, self._sentry = ExternalAudit(keys, clock), Sentry(venue)
        self._pool = ThreadPoolExecutor(CANCEL_THREADS + 2, thread_name_prefix="emergency")
        self._wake = threading.Event()
        self._signalled = False
        self._good = self._first_good()
        self._run: StopRun | None = None
        self._cause: Cause | None = None
        self._redis_down_since: float | None = None
        self._trader_seen = clock.monotonic()
        self._next_arm = self._next_warm = self._next_sentry = self._next_status = 0.0
        self._shown: tuple[Any, ...] | None = None
        self._unshown: list[Callable[[], None]] = []

    def _first_good(self) -> tuple[TradingSettings, RiskSettings]:
        held = self._memory.memory
        risk = RiskSettings(emergency_stop_active=held.emergency_stop_active, reduce_only=held.reduce_only)
        return TradingSettings(), risk

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
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGUSR1, self.on_signal)
        self._memory.change(account=self._account, venue=self._venue.name)
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
        """Drained: nobody arms any more, so trading ends within the key's three seconds, at once where possible."""
        try:
            self._keys.disarm()
        except StoreError:
            self._logger.warning("not_disarmed")
        self._heartbeat.farewell()
        if self._run is not None:
            self._run.abandon()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def turn(self) -> None:
        """One look and what follows from it. Raises nothing: what fails is logged and tried again."""
        try:
            self._look_beside_redis()
            view = self._look()
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

    # -- looking --------------------------------------------------------------------------------------------------

    def _look_beside_redis(self) -> None:
        """The file and the signal first and by themselves: a Redis that hangs must not delay what needs none."""
        view = View(None, None, self._config.stop_path.exists(), self._signalled)
        causes = find_causes(view, was_active=self._memory.memory.active)
        if causes and self._cause is None:
            self._off(causes, view)

    def _look(self) -> View:
        stop_file, signalled = self._config.stop_path.exists(), self._signalled
        began = self._clock.monotonic()
        try:
            settings = self._keys.store.read_settings(self._good[0])
            risk = self._keys.store.read_risk(self._good[1])
            old, silent, halt = self._old_redis(), self._silent(), self._halt()
        except StoreUnreachable as error:
            if self._redis_down_since is None:
                self._redis_down_since = began
            down = self._clock.monotonic() - self._redis_down_since
            lost = down >= self._config.redis_lost_stop_seconds and self._memory.memory.active
            return View(None, None, stop_file, signalled, f"no answer for {down:.1f} s: {error}" if lost else "")
        self._redis_down_since = None
        self._good = (settings.value, risk.value)
        return View(settings, risk, stop_file, signalled, old_redis=old, silent=silent, halt=halt)

    def _old_redis(self) -> str:
        """A Redis whose epoch is below one that was given stands for an older state: it never resumes by itself."""
        highest, epoch = self._memory.memory.highest_epoch, self._keys.epoch()
        if self._memory.memory.latch is None and highest and (epoch is None or epoch < highest):
            return (
                f"trading_epoch is {'missing' if epoch is None else epoch}, it was {highest}: an older or emptied Redis"
            )
        return ""

    def _silent(self) -> str:
        now = self._clock.monotonic()
        beat = self._keys.trader_heartbeat(self._heartbeat.host)
        if beat is not None or not self._memory.memory.active:
            self._trader_seen = now if beat is None or not beat.get("stopping") else float("inf")
            return ""
        quiet = now - self._trader_seen
        if quiet < self._config.trader_silent_stop_seconds or not self._keys.has_open_orders():
            return ""
        return f"no sign of life of the trader for {quiet:.0f} s while orders are open"

    def _halt(self) -> Any:
        beat = self._keys.trader_heartbeat(self._heartbeat.host)
        halt = beat.get("halt") if beat is not None else None
        if not isinstance(halt, dict) or self._memory.memory.latch is not None:
            return None
        resumed = self._memory.memory.resumed_at
        try:
            return halt if not resumed or parse_rfc3339(str(halt.get("at"))) > parse_rfc3339(resumed) else None
        except ValueError:
            return halt

    # -- off ------------------------------------------------------------------------------------------------------

    def _off(self, causes: Sequence[Cause], view: View) -> None:
        """First cause wins until resume; a later one may latch, and a person's may do more than a machine's did."""
        cause, held = causes[0], self._memory.memory
        latching = next((c for c in causes if c.latching), None)
        if self._cause is None:
            self._cause = cause
            if self._flatten_waits():
                self._flatten_on()
            elif held.active or not held.proven or (latching is not None and held.latch is None):
                self._trip(cause)
            else:
                self._memory.change(active=False, reason=held.reason or cause.reason)
                self._cause = replace(cause, reason=held.reason or cause.reason)
        elif (stronger := self._stronger(causes)) is not None:
            self._trip(stronger)
        if latching is not None and self._memory.memory.latch is None:
            self._latch(latching)
        if view.signalled:
            self._signalled = False

    def _stronger(self, causes: Sequence[Cause]) -> Cause | None:
        """A person's stop after an automatic one that cancelled less. The flag may be our own, so it does not count."""
        run = self._run
        if run is None or not run.state.cause.automatic or run.state.policy == self._memory.memory.on_stop:
            return None
        return next((c for c in causes if not c.automatic and c.source != "risk_settings"), None)

    def _trip(self, cause: Cause) -> None:
        """Nothing slow stands before the first cancel: disk and reports come after it has been handed over."""
        held = self._memory.memory
        policy = held.on_stop_automatic if cause.automatic else held.on_stop
        state = StopState(secrets.token_hex(4), cause, policy, self._clock.now())
        failpoint("stop.noticed")
        self._carry_out(state)
        failpoint("stop.begun")
        self._memory.change(active=False, proven=False, reason=(self._cause or cause).reason)
        failpoint("stop.remembered")
        self._logger.warning(
            "stop", stop_id=state.stop_id, reason=cause.reason, source=cause.source, detail=cause.detail
        )

    def _carry_out(self, state: StopState) -> None:
        """Start, or go on with, a stop."""
        noticed = self._clock.monotonic()
        run = StopRun(
            state,
            self._venue,
            self._trader,
            self._pool,
            self._clock,
            self._raise_epoch,
            self._publish,
            self._keys.effect_of,
            Flattener(self._venue, self._memory, self._publish).run,
            noticed,
        )
        if self._run is not None:
            self._run.abandon()
        self._run = run
        run.start()

    def _raise_epoch(self) -> int | None:
        failpoint("fence.raise")
        try:
            epoch = self._keys.raise_epoch(self._memory.memory.highest_epoch + 1)
        except StoreError as error:
            self._logger.warning("not_fenced", error=str(error))
            self._unshown.append(self._fence_late)
            return None
        failpoint("fence.raised")
        self._memory.change(highest_epoch=epoch)
        failpoint("fence.remembered")
        return epoch

    def _fence_late(self) -> None:
        """Redis was away when the stop was carried out; it is back. Raises StoreError."""
        self._memory.change(highest_epoch=self._keys.raise_epoch(self._memory.memory.highest_epoch + 1))
        if self._run is not None:
            self._run.state.fenced = True

    def _latch(self, cause: Cause) -> None:
        latch = {
            "reason": cause.reason,
            "source": cause.source,
            "detail": cause.detail,
            "at": rfc3339(self._clock.now()),
            "versions": None,
        }
        failpoint("latch.before")
        self._memory.change(latch=latch)
        failpoint("latch.after")
        self._unshown.append(self._finish_latch)

    def _finish_latch(self) -> None:
        """Show the latch in Redis, and remember which documents stood when it was set. Raises StoreError."""
        latch = self._memory.memory.latch
        if latch is None:
            return
        self._keys.set_stop_flag()
        if latch.get("versions") is None:
            settings, risk = self._keys.store.read_settings(self._good[0]), self._keys.store.read_risk(self._good[1])
            latch = {**latch, "versions": {"settings": settings.version, "risk": risk.version}}
            self._memory.change(latch=latch)
        failpoint("latch.flagged")
        self._keys.show_latch(latch)

    # -- on -------------------------------------------------------------------------------------------------------

    def _allowed(self, settings: Reading[TradingSettings], risk: Reading[RiskSettings]) -> None:
        """Both documents are ON: lift what may be lifted, finish the stop that runs, arm."""
        held = self._memory.memory
        if held.latch is not None and not self._lift(held.latch, settings, risk):
            return
        if self._run is not None:
            if self._run.state.state == "STOPPING":
                return  # no resume into a stop that is still being carried out
            self._drop(self._run)
            self._run = None
        if not self._memory.trusted:
            self._memory.change(resumed_at=rfc3339(self._clock.now()))
            if not self._memory.trusted:
                return
        self._arm(risk.value)

    def _drop(self, run: StopRun) -> None:
        """A resume ends the watch after a stop, and a flatten that waits or works."""
        run.abandon()
        if run.state.flatten in PENDING:
            run.state.flatten = "DROPPED"
            self._publish(run.state)

    def _lift(self, latch: Any, settings: Reading[TradingSettings], risk: Reading[RiskSettings]) -> bool:
        versions = latch.get("versions")
        changed = versions != {"settings": settings.version, "risk": risk.version}
        if versions is None or not changed or not explicitly_lifted(settings, risk):
            return False
        failpoint("latch.lift")
        self._memory.change(latch=None)
        self._unshown.append(lambda: self._keys.show_latch(None))
        self._logger.warning("latch_lifted", reason=latch.get("reason"))
        return True

    def _arm(self, risk: RiskSettings) -> None:
        now = self._clock.monotonic()
        fresh = self._cause is not None or not self._memory.memory.active
        if not fresh and now < self._next_arm:
            return
        epoch = self._keys.epoch()
        if epoch is None or epoch < max(self._memory.memory.highest_epoch, 1):
            epoch = self._keys.raise_epoch(self._memory.memory.highest_epoch + 1)
        if fresh:
            self._memory.change(
                active=True, proven=True, reason="", flatten=None, resumed_at=rfc3339(self._clock.now())
            )
        self._memory.change(
            highest_epoch=max(epoch, self._memory.memory.highest_epoch),
            on_stop=risk.on_stop,
            on_stop_automatic=risk.on_stop_automatic,
            emergency_stop_active=risk.emergency_stop_active,
            reduce_only=risk.reduce_only,
        )
        if not self._memory.trusted:
            return
        failpoint("arm.before")
        self._keys.arm(epoch)
        failpoint("arm.after")
        self._next_arm = now + ARM_SECONDS
        if fresh:
            self._cause, self._trader_seen = None, now
            self._heartbeat.active()
            self._logger.info("armed", epoch=epoch)

    # -- after every look -----------------------------------------------------------------------------------------

    def _after(self, view: View) -> None:
        self._heartbeat.beat()
        self._watch_proof()
        if view.settings is not None and view.risk is not None:
            self._tell(view.settings, view.risk)
        self._keep_warm()

    def _watch_proof(self) -> None:
        """A stop that was proven is remembered as such; one that was not latches; one of ours appearing reopens it."""
        run, now = self._run, self._clock.monotonic()
        if run is None:
            return
        if run.finished and not self._memory.memory.proven:
            self._memory.change(proven=True)
        if run.state.state == "NOT_PROVEN" and self._memory.memory.latch is None:
            self._latch(Cause(run.state.cause.reason, "venue", "the stop could not be proven", latching=True))
        if run.finished and now >= self._next_sentry:
            self._next_sentry = now + Sentry.PERIOD_SECONDS
            self._pool.submit(self._stand_sentry, run)

    def _stand_sentry(self, run: StopRun) -> None:
        if self._sentry.sees_ours(run.state.policy) and self._run is run:
            self._logger.warning("stop_reopened", stop_id=run.state.stop_id)
            self._memory.change(proven=False)
            self._carry_out(run.state.reopened())

    def _start_unproven_again(self) -> None:
        """A stop that an earlier process could not prove is carried out again."""
        held = self._memory.memory
        waits = self._flatten_waits()  # proven before; whether it goes on is decided once the documents are read
        if not held.proven and not waits:
            self._cause = Cause(held.reason or "emergency_stop", "restart", "an unproven stop from before the restart")
            self._trip(self._cause)
        elif held.latch is not None and not waits:
            self._cause = Cause(str(held.latch.get("reason")), str(held.latch.get("source")), "latched", latching=True)
        if held.latch is not None:
            self._unshown += [self._finish_latch, self._restore_epoch]

    def _flatten_waits(self) -> bool:
        """Whether an earlier process was closing positions."""
        held = self._memory.memory
        return held.flatten is not None and held.flatten.get("state") in PENDING and not held.active

    def _flatten_on(self) -> None:
        """The same stop is proven anew, and then goes on closing under its own ids."""
        held = self._memory.memory
        flatten: Mapping[str, Any] = held.flatten or {}
        self._cause = Cause(held.reason or "emergency_stop", "restart", "a flatten from before the restart")
        try:
            requested = parse_rfc3339(str(flatten.get("requested_at")))
        except ValueError:
            requested = self._clock.now()
        self._carry_out(StopState(str(flatten.get("stop_id")), self._cause, "flatten", requested, is_reopened=True))

    def _restore_epoch(self) -> None:
        """A Redis that came back old or empty gets an epoch above all that were. Raises StoreError."""
        epoch = self._keys.epoch()
        if epoch is None or epoch < self._memory.memory.highest_epoch:
            self._fence_late()

    def _tell(self, settings: Reading[TradingSettings], risk: Reading[RiskSettings]) -> None:
        """Status, latch and audit, on change. What Redis refuses is tried again at the next turn."""
        pending, self._unshown = self._unshown, []
        for number, show in enumerate(pending):
            try:
                show()
            except StoreError:
                self._unshown = pending[number:] + self._unshown
                raise
        held = self._memory.memory
        state = "HALTED" if not held.active else "REDUCING" if risk.value.reduce_only else "ACTIVE"
        reason = None if held.active else (self._cause.reason if self._cause is not None else held.reason or None)
        shown, now = (held.active, state, reason, held.highest_epoch), self._clock.monotonic()
        if shown != self._shown or now >= self._next_status:
            self._keys.status({"active": held.active, "state": state, "stop_reason": reason}, held.highest_epoch)
            self._shown, self._next_status = shown, now + STATUS_SECONDS
        keys = self._keys.store.keys
        self._audit.look({keys.trading_settings: settings.raw, keys.risk_settings: risk.raw})

    def _publish(self, state: StopState) -> None:
        """The report; called from the stop's own thread. A Redis that is away gets it later."""
        try:
            self._keys.report(state.document(self._account, self._venue.name))
        except StoreError:
            self._unshown.append(lambda: self._keys.report(state.document(self._account, self._venue.name)))
            self._shown = None

    def _keep_warm(self) -> None:
        """A cheap call every few seconds, so that a stop never pays for a handshake."""
        now = self._clock.monotonic()
        if now >= self._next_warm:
            self._next_warm = now + WARM_SECONDS
            self._pool.submit(self._warm)

    def _warm(self) -> None:
        try:
            self._venue.clock()
            self._heartbeat.extra["venue_reachable"] = True
        except VenueError:
            self._heartbeat.extra["venue_reachable"] = False


def write_pid(config: Config, account: str) -> None:
    """``run/emergency-{account}.pid``: where ``sixbot stop`` sends its signal when Redis is down."""
    path = config.run_dir / f"emergency-{account}.pid"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{os.getpid()}\n")
