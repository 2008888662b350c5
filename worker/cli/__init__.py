"""The ``sixbot`` command: one module a noun, put together in ``main``."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Entry point of the console script. A worker's process stays small: it loads no other command."""
    if sys.argv[1:3] == ["worker", "emergency"]:  # a stop by signal waits until the worker can take it
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    if len(sys.argv) == 3 and sys.argv[1] == "worker" and not sys.argv[2].startswith("-"):
        from worker.cli.process import run

        sys.exit(run(sys.argv[2]))
    from worker.cli.main import main as all_commands

    all_commands()
