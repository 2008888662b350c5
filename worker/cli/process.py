"""A worker's process: run it, and turn what it raises into an exit code that says what to do."""

from __future__ import annotations

import sys

from shared.config import load_config
from shared.errors import ConfigError, SixbotError, StoreError
from worker.runtime import AccountLocked, ExitCode


def run(name: str, account: str | None = None) -> int:
    """Until it is told to stop, for one account or all; returns the exit code."""
    from worker.compose import run_worker

    try:
        config = load_config()
        config.make_home()
        return run_worker(name, config, account)
    except (ConfigError, AccountLocked) as error:
        return _failed(error, ExitCode.CONFIG)
    except StoreError as error:
        return _failed(error, ExitCode.REDIS_UNREACHABLE)
    except SixbotError as error:
        return _failed(error, ExitCode.FAILURE)


def _failed(error: Exception, code: ExitCode) -> int:
    sys.stderr.write(f"sixbot worker: {error}\n")
    return code
