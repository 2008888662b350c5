"""The heartbeat worker's process."""

from __future__ import annotations

from shared.config import Config
from worker.compose.process import Process
from worker.drill import last_passed
from worker.heartbeat.checks import Checker, probes_of
from worker.heartbeat.worker import CHECK_INTERVAL_SECONDS, HeartbeatWorker
from worker.runtime import ExitCode


def run(config: Config, _account: str | None) -> ExitCode:
    """Until it is told to stop."""
    process = Process.begin("heartbeat", config)
    clock = process.clock
    checker = Checker(probes_of(config, clock), clock, CHECK_INTERVAL_SECONDS)
    HeartbeatWorker(
        process.store, checker, process.heartbeat(), process.signals, clock, process.logger, lambda: last_passed(config)
    ).run()
    return ExitCode.OK
