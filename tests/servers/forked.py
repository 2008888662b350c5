"""Workers forked from one process that has their imports behind it: the same code from its first line of ``main`` on,
without the two seconds of processor that importing pandas and a venue's library takes at every start."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

PRELOAD = (
    "worker.cli",
    "worker.cli.process",
    "worker.compose.trading",
    "worker.compose.emergency",
    "worker.predictors.document",
    "worker.venues.alpaca",
    "worker.venues.simulated.client",
    "alpaca.data.historical",
    "alpaca.trading.client",
    "alpaca.trading.stream",
)


class ForkedWorker:
    """What ``subprocess.Popen`` would be for it."""

    def __init__(self, process: BaseProcess) -> None:
        assert process.pid is not None
        self._process, self.pid = process, process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises TimeoutExpired."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        if self.poll() is None:
            self._process.kill()


def fork(arguments: Sequence[str], environment: Mapping[str, str], output: Path) -> ForkedWorker:
    """Start ``sixbot`` with the arguments; what it prints is appended to ``output``."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOAD))
    process = context.Process(target=_work, args=(list(arguments), dict(environment), str(output)), daemon=True)
    process.start()
    return ForkedWorker(process)


def _work(arguments: list[str], environment: dict[str, str], output: str) -> None:
    os.setsid()
    written = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for standard in (1, 2):
        os.dup2(written, standard)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["sixbot", *arguments]
    from worker.cli import main

    main()
