"""The emergency worker's process, for all accounts or one."""

from __future__ import annotations

import signal
from collections.abc import Sequence

import structlog

from shared.clock import Clock
from shared.config import Config
from shared.store import Store
from worker.compose.adapters import open_venue
from worker.compose.process import Process, chosen, process_name
from worker.emergency.account import AccountStop
from worker.emergency.arming import Arming
from worker.emergency.book import BookReader
from worker.emergency.breaker import Breaker
from worker.emergency.display import Display
from worker.emergency.fence_line import FenceLine
from worker.emergency.fencing import Fencer
from worker.emergency.keys import EmergencyKeys
from worker.emergency.latch import Latch
from worker.emergency.look import Lookout
from worker.emergency.memory import MemoryFile, inherit, memory_path, read_memories
from worker.emergency.report import StopReport
from worker.emergency.sight import Eye
from worker.emergency.trader import TraderProcess
from worker.emergency.worker import EmergencyWorker, write_pid
from worker.runtime import ExitCode, Heartbeat, StopSignals, settle_collector
from worker.venues.base import Venue
from worker.watch import KeyWatcher

REDIS_SECONDS = 0.5


def build_worker(
    config: Config,
    guarded: Sequence[tuple[str, Venue, MemoryFile]],
    store: Store,
    heartbeat: Heartbeat,
    signals: StopSignals,
    clock: Clock,
    logger: structlog.stdlib.BoundLogger,
) -> EmergencyWorker:
    """The worker that guards these accounts; the first one's memory holds what stands for all of them."""
    names, memory = [name for name, _, _ in guarded], guarded[0][2]
    accounts: list[AccountStop] = []

    def fenced_late() -> None:
        for account in accounts:
            account.fenced_late()

    line, book = FenceLine(store), BookReader(store, clock)
    keys = EmergencyKeys(store, names[0], line, clock)
    lookout = Lookout(config, Eye(store, names), book, memory, names, heartbeat.host, clock)
    display = Display(keys, memory, clock)
    latch = Latch(memory, keys, lookout, clock, logger, display.later)
    report = StopReport(keys.report, keys.reported, display.later)
    fencer = Fencer(line, memory, logger, display.later, fenced_late)
    for name, venue, own in guarded:
        trader = TraderProcess(store, name, config.run_dir)
        accounts.append(AccountStop(name, venue, own, trader, book, report, fencer.new, clock, logger))
    breaker = Breaker(accounts, memory, lookout, fencer, latch, report, clock, logger)
    arming = Arming(accounts, memory, fencer, latch, breaker, clock, logger)
    return EmergencyWorker(
        accounts, memory, lookout, breaker, arming, latch, fencer, display, heartbeat, signals, clock, logger
    )


def run(config: Config, account: str | None) -> ExitCode:
    """Until it is told to stop."""
    holder: list[EmergencyWorker] = []

    def wake() -> None:
        if holder:
            holder[0].wake()

    # One that comes while all this is made waits for it; by itself it would end the process, and with it the stop.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    process = Process.begin(process_name("emergency", account), config, wake, REDIS_SECONDS)
    accounts, clock, keys = chosen(config, account), process.clock, process.keys
    memories = [MemoryFile(memory_path(config.run_dir, a.name)) for a in accounts]
    inherit(memories[0], memories[1:], read_memories(config.run_dir))
    venues = [open_venue(a, clock) for a in accounts]
    guarded = list(zip([a.name for a in accounts], venues, memories, strict=True))
    worker = build_worker(config, guarded, process.store, process.heartbeat(), process.signals, clock, process.logger)
    holder.append(worker)
    signal.signal(signal.SIGUSR1, worker.on_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    write_pid(config, accounts[0].name)
    watcher = KeyWatcher(config.redis_address(), [keys.trading_settings, keys.risk_settings], worker.wake)
    watcher.start()
    settle_collector()
    try:
        worker.run()
    finally:
        watcher.close()
        for venue in venues:
            venue.close()
        for memory in memories:
            memory.close()
    return ExitCode.OK
