"""What every worker's process begins with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import structlog

from shared.accounts import DEFAULT_ACCOUNT, AccountConfig
from shared.clock import Clock, SystemClock
from shared.config import Config
from shared.keys import Keys
from shared.logs import configure_logging
from shared.store import TIMEOUT_SECONDS, Store, connect
from worker.runtime import Heartbeat, StopSignals


@dataclass(frozen=True, slots=True)
class Process:
    """The name, the logger, the signals and the connection of one process."""

    name: str
    config: Config
    clock: Clock
    keys: Keys
    store: Store
    signals: StopSignals
    logger: structlog.stdlib.BoundLogger

    @classmethod
    def begin(
        cls,
        name: str,
        config: Config,
        on_signal: Callable[[], None] | None = None,
        redis_timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Self:
        """Log as ``name`` and heed the signals from here on; ``on_signal`` wakes the worker's loop at the first."""
        signals = StopSignals(on_signal)
        signals.install()
        logger = configure_logging(name, config.log_level, config.log_format, config.log_dir)
        keys = Keys(config.sixbot_key_prefix)
        store = Store(connect(config.redis_address(), timeout_seconds=redis_timeout_seconds), keys)
        return cls(name, config, SystemClock(), keys, store, signals, logger)

    def heartbeat(self) -> Heartbeat:
        """The sign of life under this process's name."""
        return Heartbeat(self.name, self.store, self.clock)


def process_name(worker: str, account: str | None) -> str:
    """A process for one further account has a heartbeat of its own beside the one for all."""
    return worker if account in {None, DEFAULT_ACCOUNT} else f"{worker}-{account}"


def chosen(config: Config, account: str | None) -> tuple[AccountConfig, ...]:
    """The accounts that a process works for: one, or all without a name. Raises ConfigError."""
    return config.accounts if account is None else (config.account(account),)
