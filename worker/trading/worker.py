"""The trading worker's loop: lease, recovery, switches, cycles, reconciliation; one account, one thread that sends."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from shared.clock import Clock, TradingCalendar, rfc3339
from shared.documents import TradingSettings, dump_json
from shared.errors import (
    LeaseLost,
    SixbotError,
    StoreError,
    StoreRefused,
    StoreUnreachable,
    VenueError,
    VenueUnavailable,
)
from shared.store import Store
from worker.core.types import OrderUpdate
from worker.failpoints import failpoint
from worker.runtime import StopSignals
from worker.trading.book import RedisBook
from worker.trading.bots.fleet import Fleet
from worker.trading.bots.pipeline import Crossing, Decision
from worker.trading.cycle import Cycle, CycleReport, day_pnl
from worker.trading.dead_man import DeadManSwitch
from worker.trading.desk import OrderDesk
from worker.trading.fence import Fence
from worker.trading.gate import RedisGate
from worker.trading.lease import Lease
from worker.trading.mend import Mender
from worker.trading.ports import Notes, Switches
from worker.trading.pulse import AccountPulse
from worker.trading.reconcile import Reconciler, Snapshot, unresolved_ids
from worker.trading.status import TraderStatus
from worker.trading.switches import SwitchReader
from worker.venues.base import Venue

TICK_SECONDS = 0.25
LEASE_RENEW_SECONDS = 2.0
RECONCILE_SECONDS = 10.0
RETRY_SECONDS = 1.0
UNARMED_SECONDS = 5.0
UNARMED = "not armed: the emergency worker is silent or a stop is latched (stop_latch), so nothing is sent"


@dataclass(frozen=True, slots=True)
class Parts:
    """What the composition root puts together for one account's trader. ``cycle`` is account ``default``'s only."""

    account: str
    store: Store
    venue: Venue
    gate: RedisGate
    book: RedisBook
    desk: OrderDesk
    reconciler: Reconciler
    mender: Mender
    cycle: Cycle | None
    fence: Fence
    lease: Lease
    switches: SwitchReader
    status: TraderStatus
    heartbeat: AccountPulse
    clock: Clock
    calendar: TradingCalendar
    notes: Notes
    publishes_predictions: bool
    cycle_seconds: float
    dead_man: DeadManSwitch | None
    logger: structlog.stdlib.BoundLogger
    bots: Fleet | None = None


MOST_WAITING = 10_000
"""Where the loop is held up for long, decisions are dropped and counted: by then they are too old to be carried out."""


class Trader:
    """Runs until the signals say stop. Every error pauses and is told; none ends the process."""

    def __init__(self, parts: Parts, signals: StopSignals, prepare: Callable[[], None]) -> None:
        self._p, self._signals, self._prepare = parts, signals, prepare
        self._inbox: queue.SimpleQueue[OrderUpdate | Decision | Crossing | None] = queue.SimpleQueue()
        self._snapshot: Snapshot | None = None
        self._generation = -1
        self._epoch = 0
        self._ready = False
        self._next_cycle = self._next_reconcile = self._next_renewal = 0.0
        self._next_cycle_at: datetime | None = None
        self._unarmed_since: float | None = None

    # -- from other threads ---------------------------------------------------------------------------------------

    def wake(self) -> None:
        """A watched key was written, or the poll came round: acknowledge the epoch here, look in the loop."""
        self._p.fence.acknowledge()
        if self._inbox.qsize() < 2:
            self._inbox.put(None)

    def update(self, update: OrderUpdate) -> None:
        """A pushed order update."""
        self._inbox.put(update)

    def post(self, item: Decision | Crossing) -> None:
        """Something that a bot's pipeline found; decisions only while not too much waits."""
        if type(item) is Decision and self._inbox.qsize() >= MOST_WAITING:
            if self._p.bots is not None:
                self._p.bots.missed(item)
            return
        self._inbox.put(item)

    # -- the loop -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        stream = self._p.venue.stream_updates(self.update)
        if self._p.bots is not None:
            self._p.bots.start()
        if self._p.dead_man is not None:
            self._p.dead_man.start()
        try:
            while not self._signals.stopping.is_set():
                self._guarded(self._session, stream)
        finally:
            stream.close()
            if self._p.bots is not None:
                self._p.bots.close()
            if self._p.dead_man is not None:
                self._p.dead_man.close()
            try:
                self._p.lease.release()
            except StoreError:
                self._p.logger.warning("lease_not_released")

    def _guarded(self, step: Callable[..., None], *arguments: Any) -> None:
        try:
            step(*arguments)
        except StoreUnreachable as error:
            self._pause("redis", f"Redis is away: {error}")
        except LeaseLost as error:
            self._pause("lease", str(error))
        except SixbotError as error:
            self._pause("venue", str(error))
        except Exception as error:  # the last net: whatever it is, trading pauses, says so and starts clean
            self._p.logger.exception("loop_failed")
            self._pause("loop", f"{type(error).__name__}: {error}")

    def _pause(self, source: str, why: str) -> None:
        self._ready = False
        self._p.logger.warning("paused", why=why)
        self._p.status.fault(source, why)
        self._p.status.forget()
        self._p.heartbeat.beat()  # what is away costs the trading, not the process
        try:
            switches = self._p.switches.read()
            self._is_ready(switches)  # a status without the epoch in force would be refused as an old one
            self._publish(switches)
        except SixbotError:
            self._p.logger.info("status_not_published")
        self._wait(RETRY_SECONDS)

    def _session(self, stream: Any) -> None:
        """From taking the lease to losing it: recover first, then trade."""
        failpoint("recover.begin")
        self._write_default()
        self._take_lease()
        self._prepare()
        failpoint("recover.leased")
        self._p.logger.info("recovering")
        self._generation = stream.generation
        self._p.mender.run()
        self._p.reconciler.start_over()
        self._reconcile()
        if self._p.reconciler.unjudged:
            self._reconcile()
        self._judge_recovery()
        if self._p.bots is not None:
            self._p.bots.recover()
        failpoint("recover.done")
        self._p.logger.info("recovered", open_orders=len(self._snapshot.orders) if self._snapshot else 0)
        for source in ("redis", "lease", "venue", "loop"):
            self._p.status.fault(source, None)
        while not self._signals.stopping.is_set():
            self._turn(stream)
            self._wait(TICK_SECONDS)

    def _judge_recovery(self) -> None:
        """A start that finds book and venue apart, twice, has no explanation for it: ask for a stop."""
        if not self._p.reconciler.suspects:
            return
        self._wait_out(RETRY_SECONDS)
        self._reconcile()
        drift = self._snapshot.drift if self._snapshot is not None else ""
        if drift:
            self._ask_for_halt("reconcile_mismatch", drift)

    def _wait_out(self, seconds: float) -> None:
        """The whole time, whatever arrives meanwhile."""
        end = self._p.clock.monotonic() + seconds
        while (left := end - self._p.clock.monotonic()) > 0 and not self._signals.stopping.is_set():
            self._wait(left)

    def _turn(self, stream: Any) -> None:
        now = self._p.clock.monotonic()
        self.alive()
        if stream.generation != self._generation:
            self._generation, self._next_reconcile = stream.generation, 0.0
        if now >= self._next_reconcile:
            self._try_reconcile()
        switches = self._p.switches.read()
        ready = self._is_ready(switches)
        if ready and not self._ready:
            self._next_cycle = 0.0
        self._ready = ready
        self._watch_arming(switches.on and not ready, now)
        bots = self._p.bots
        if bots is not None:
            bots.turn(ready=ready, switches=switches, epoch=self._epoch, snapshot=self._snapshot)
            if bots.waits_for_an_answer:
                self._next_reconcile = min(self._next_reconcile, now + RETRY_SECONDS)
        paused = bots is not None and bots.cycle_paused
        if ready and self._p.cycle is not None and now >= self._next_cycle and not paused:
            self._run_cycle(self._p.cycle, switches)
            switches = self._p.switches.read()
        self._p.status.next_run = self._next_cycle_at if switches.on else None
        self._p.status.fault("document", switches.error)
        self._publish(switches)

    def _watch_arming(self, waiting: bool, now: float) -> None:
        """Both documents say ON and nobody arms: say so, since nothing else would."""
        if not waiting:
            self._unarmed_since = None
        elif self._unarmed_since is None:
            self._unarmed_since = now
        silent = self._unarmed_since is not None and now - self._unarmed_since >= UNARMED_SECONDS
        self._p.status.fault("arming", UNARMED if silent else None)

    def alive(self) -> None:
        """Signs of life and the lease; also called between the tickers of a long cycle."""
        self._p.heartbeat.beat()
        now = self._p.clock.monotonic()
        if now >= self._next_renewal:
            self._p.lease.renew()
            self._next_renewal = now + LEASE_RENEW_SECONDS
        self._p.fence.acknowledge()
        if self._p.dead_man is not None:
            self._p.dead_man.progress()

    def between(self) -> None:
        """Between the tickers of a cycle: signs of life, and whatever the bots must not wait for."""
        self.alive()
        if self._p.bots is None or not self._p.bots.bots:
            return
        for _ in range(self._inbox.qsize()):
            try:
                item = self._inbox.get_nowait()
            except queue.Empty:
                return
            self._dispatch(item)

    def _dispatch(self, item: OrderUpdate | Decision | Crossing | None) -> None:
        if isinstance(item, OrderUpdate):
            self._take(item)
        elif item is not None and self._p.bots is not None:
            self._p.bots.take(item)

    def _wait(self, seconds: float) -> None:
        """Until something arrives or the time is over; takes in what arrived."""
        end = self._p.clock.monotonic() + seconds
        while True:
            try:
                item = self._inbox.get(timeout=max(end - self._p.clock.monotonic(), 0.001))
            except queue.Empty:
                return
            if item is None:
                return
            self._dispatch(item)

    def _take(self, update: OrderUpdate) -> None:
        """One pushed update. What Redis cannot take now, the next reconciliation brings."""
        try:
            self._p.desk.take_update(update)
            self._next_reconcile = min(self._next_reconcile, self._p.clock.monotonic() + RETRY_SECONDS)
        except StoreUnreachable:
            self._next_reconcile = 0.0
        except SixbotError as error:
            self._p.logger.warning("update_not_taken", error=str(error))
            self._next_reconcile = 0.0
        else:
            if self._p.bots is not None:
                self._p.bots.act()

    # -- steps ----------------------------------------------------------------------------------------------------

    def _write_default(self) -> None:
        """A missing ``trading_settings`` at start is the one case that writes a default: OFF."""
        default = TradingSettings().plain() | {"last_updated": rfc3339(self._p.clock.now())}
        self._p.store.write_document(self._p.store.keys.trading_settings, None, dump_json(default))

    def _take_lease(self) -> None:
        """Wait for it as long as another trader holds it; that one tells the account's status meanwhile."""
        told = ""
        while not self._signals.stopping.is_set():
            holder = self._p.lease.take()
            if holder is None:
                # Before a word as the account's trader: what an earlier one sent may still be on its way.
                self._p.fence.unresolved(unresolved_ids(self._p.book.open_orders()))
                self._p.gate.owner = self._p.fence.owner = self._p.lease.owner
                self._next_renewal = 0.0
                return
            if holder != told:
                told = holder
                self._p.notes("waiting_for_lease", holder=holder)
            self._p.heartbeat.beat()
            self._wait(RETRY_SECONDS)
        raise LeaseLost("stopped before the lease was free")

    def _is_ready(self, switches: Switches) -> bool:
        """Strictly ON and armed for the epoch in force, which is the one that intents will carry."""
        epoch = self._p.fence.epoch()
        self._epoch = epoch if epoch is not None else 0
        return switches.on and epoch is not None and self._p.fence.armed_epoch() == epoch

    def _reconcile(self) -> None:
        p = self._p
        self._snapshot = snapshot = p.reconciler.run()
        soon = RETRY_SECONDS if p.reconciler.unsettled and not snapshot.drift else RECONCILE_SECONDS
        self._next_reconcile = p.clock.monotonic() + soon
        p.fence.unresolved(unresolved_ids(snapshot.orders))
        p.status.positions(snapshot.positions)
        p.status.fault("drift", f"REDUCING: {snapshot.drift}" if snapshot.drift else None)
        self._say_reducing(snapshot.drift)
        if not snapshot.drift:
            self._ask_for_halt("reconcile_mismatch", None)
        p.status.fault("orders", _first(snapshot.problems))
        self._judge_loss(snapshot)
        p.book.trim()

    def _try_reconcile(self) -> None:
        """A venue that cannot be read is told and asked again; it ends nothing."""
        try:
            self._reconcile()
            self._p.status.fault("venue", None)
        except VenueError as error:
            self._p.status.fault("venue", str(error))
            self._next_reconcile = self._p.clock.monotonic() + RETRY_SECONDS

    def _judge_loss(self, snapshot: Snapshot) -> None:
        """Ask for a stop when the day's loss is over its limit."""
        p = self._p
        limit = p.switches.read().risk.value.max_daily_loss_usd
        pnl = day_pnl(p.book, snapshot, p.calendar.day_of(p.clock.now()).name)
        over = bool(limit) and pnl is not None and -pnl >= limit
        self._ask_for_halt(
            "risk_limit", f"lost {-pnl} today, the limit is {limit}" if over and pnl is not None else None
        )

    def _say_reducing(self, drift: str) -> None:
        """Tell the emergency worker, which shows the state, that a drift denies entries."""
        extra = self._p.heartbeat.extra
        if bool(drift) == ("reducing" in extra):
            return
        if drift:
            extra["reducing"] = drift
        else:
            del extra["reducing"]
        self._p.heartbeat.beat(force=True)

    def _ask_for_halt(self, reason: str, why: str | None) -> None:
        """Ask the emergency worker for a stop, in the heartbeat; the first reason stands until it is over (None)."""
        extra = self._p.heartbeat.extra
        asked = extra.get("halt")
        if why is None:
            if isinstance(asked, dict) and asked.get("reason") == reason:
                del extra["halt"]
        elif asked is None:
            extra["halt"] = {"reason": reason, "detail": why, "at": rfc3339(self._p.clock.now())}
            self._p.heartbeat.beat(force=True)

    def _run_cycle(self, cycle: Cycle, switches: Switches) -> None:
        """One cycle. A fault in it pauses trading until the next one, which starts clean."""
        p = self._p
        self._schedule(p.cycle_seconds)
        p.heartbeat.active()
        try:
            self._reconcile()
            if self._snapshot is None:
                raise VenueUnavailable("nothing is known of the account")
            report = cycle.run(switches, self._epoch, self._snapshot)
        except (StoreUnreachable, LeaseLost):
            raise
        except Exception as error:
            p.logger.exception("cycle_failed")
            p.status.fault("cycle", f"cycle failed: {error if isinstance(error, SixbotError) else repr(error)}")
            return
        self._tell(report)
        self._next_reconcile = min(self._next_reconcile, p.clock.monotonic() + RETRY_SECONDS)
        while self._next_cycle <= p.clock.monotonic():
            self._schedule(self._next_cycle - p.clock.monotonic() + p.cycle_seconds)

    def _schedule(self, seconds: float) -> None:
        self._next_cycle = self._p.clock.monotonic() + seconds
        self._next_cycle_at = self._p.clock.now() + timedelta(seconds=seconds)

    def _tell(self, report: CycleReport) -> None:
        p = self._p
        p.status.after_cycle(report)
        if report.market is not None and not report.market.is_open and report.market.next_open is not None:
            # The clock is asked again meanwhile: one wrong answer must not cost a day.
            wait = (report.market.next_open - p.clock.now()).total_seconds()
            self._schedule(max(wait, RETRY_SECONDS))
            self._next_cycle = min(self._next_cycle, p.clock.monotonic() + max(p.cycle_seconds, RETRY_SECONDS))
        if p.publishes_predictions and report.predictions:
            p.status.predictions(report.predictions)
        if self._snapshot is not None:
            p.book.add_equity(p.clock.now(), str(self._snapshot.account.equity))
        p.logger.info(
            "cycle",
            submitted=len(report.submitted),
            denied=[f"{t}: {d}" for t, d in report.denials],
            errors=report.errors,
            aborted=report.aborted or None,
        )

    def _publish(self, switches: Switches) -> None:
        try:
            self._p.status.publish(self._p.switches.applied(switches), self._epoch)
        except StoreRefused as error:
            self._p.logger.warning("status_not_published", error=str(error))


def _first(problems: dict[str, str]) -> str | None:
    return next((f"{name}: {why}" for name, why in problems.items()), None)
