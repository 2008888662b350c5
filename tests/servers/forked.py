"""Workers forked from one process that has their imports behind it: the same code from its first line of ``main`` on,
without the two seconds of processor that importing pandas and a venue's library takes at every start."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
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


def fork(
    arguments: Sequence[str], environment: Mapping[str, str], output: Path, errors: Path | None = None
) -> ForkedWorker:
    """Start ``sixbot`` with the arguments; what it prints is appended to ``output``, and to ``errors`` where given."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOAD))
    printed = str(output), str(errors or output)
    process = context.Process(target=_work, args=(list(arguments), dict(environment), *printed), daemon=True)
    process.start()
    return ForkedWorker(process)


def sixbot(environment: Mapping[str, str], *words: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    """One command, as a process of its own. Raises TimeoutExpired."""
    with tempfile.TemporaryDirectory() as folder:
        output, errors = Path(folder, "output"), Path(folder, "errors")
        process = fork(words, environment, output, errors)
        try:
            code = process.wait(seconds)
        finally:
            process.kill()
        return subprocess.CompletedProcess(("sixbot", *words), code, output.read_text(), errors.read_text())


def _work(arguments: list[str], environment: dict[str, str], output: str, errors: str) -> None:
    os.setsid()
    for standard, path in ((1, output), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), standard)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["sixbot", *arguments]
    from worker.cli import main

    main()
