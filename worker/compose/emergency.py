"""The emergency worker's process, for all accounts or one."""

from __future__ import annotations

import signal

from shared.config import Config
from worker.compose.adapters import open_venue
from worker.compose.process import Process, chosen, process_name
from worker.emergency.account import AccountStop
from worker.emergency.keys import EmergencyKeys
from worker.emergency.latch import MemoryFile, inherit, memory_path, read_memories
from worker.emergency.trader import TraderProcess
from worker.emergency.worker import EmergencyWorker, write_pid
from worker.runtime import ExitCode, settle_collector
from worker.watch import KeyWatcher

REDIS_SECONDS = 0.5


def run(config: Config, account: str | None) -> ExitCode:
    """Until it is told to stop."""
    holder: list[EmergencyWorker] = []

    def wake() -> None:
        if holder:
            holder[0].wake()

    # One that comes while all this is made waits for it; by itself it would end the process, and with it the stop.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    process = Process.begin(process_name("emergency", account), config, wake, REDIS_SECONDS)
    accounts, store, clock, logger = chosen(config, account), process.store, process.clock, process.logger
    memories = [MemoryFile(memory_path(config.run_dir, a.name)) for a in accounts]
    inherit(memories[0], memories[1:], read_memories(config.run_dir))
    venues = [open_venue(a, clock) for a in accounts]
    stops = [
        AccountStop(a.name, venue, memory, TraderProcess(store, a.name, config.run_dir), clock, logger)
        for a, venue, memory in zip(accounts, venues, memories, strict=True)
    ]
    looked_at = EmergencyKeys(store, [a.name for a in accounts], clock)
    worker = EmergencyWorker(config, stops, looked_at, process.heartbeat(), process.signals, clock, logger)
    holder.append(worker)
    signal.signal(signal.SIGUSR1, worker.on_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    write_pid(config, accounts[0].name)
    keys = process.keys
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
