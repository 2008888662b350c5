"""The composition root: the one place where the parts of a process are put together, by plain constructor calls.

One module a worker, each with ``run(config, account)``; ``process`` is what all of them begin with, ``adapters`` opens
what a setting names. A worker imports its own module only, so that none carries the libraries of another.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module

from shared.config import Config
from shared.errors import ConfigError
from worker import failpoints
from worker.runtime import ExitCode

WORKERS = ("emergency", "exchange", "heartbeat", "jobs", "trading", "web")
OF_ACCOUNTS = ("emergency", "exchange", "trading")
SWITCH_SECONDS = 0.0005
"""The longest that a thread that sends or cancels waits for one that computes; Python's own default is 5 ms."""


def run_worker(name: str, config: Config, account: str | None = None) -> ExitCode:
    """Run one worker until it is told to stop: for one account, or for all. Raises ConfigError for a wrong name."""
    if name not in WORKERS:
        raise ConfigError(f"no worker is called {name!r}: choose from {', '.join(WORKERS)}")
    if account is not None and name not in OF_ACCOUNTS:
        raise ConfigError(f"--account: {name} works for no account; {', '.join(OF_ACCOUNTS)} do")
    run: Callable[[Config, str | None], ExitCode] = import_module(f"{__name__}.{name}").run
    failpoints.arm(os.environ.get(failpoints.VARIABLE))
    sys.setswitchinterval(SWITCH_SECONDS)
    return run(config, account)
