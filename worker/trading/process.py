"""The trading process: a thread per account, signals and heartbeat in the main thread.

Nothing that happens to one account ends or delays another: what an account's thread raises is told and tried again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from worker.runtime import AccountLock, AccountLocked, StopSignals
from worker.trading.pulse import AccountPulse, ProcessPulse

TICK_SECONDS = 0.1
RETRY_SECONDS = 1.0


class Running(Protocol):
    """An account's trader with what wakes it."""

    def run(self) -> None:
        """Until the signals say stop."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One account: its kernel lock, how to build what trades it, and its signs of life."""

    lock: AccountLock
    build: Callable[[], Running]
    pulse: AccountPulse
    logger: structlog.stdlib.BoundLogger


class TradingProcess:
    """Every account in a thread of its own."""

    def __init__(self, units: Sequence[Unit], pulse: ProcessPulse, signals: StopSignals) -> None:
        self._units, self._pulse, self._signals = units, pulse, signals

    def run(self) -> None:
        """Until the signals say stop. Raises AccountLocked where other processes trade every one of the accounts."""
        self._take_locks()
        threads = [
            threading.Thread(target=self._work, args=(unit,), name=f"account-{unit.pulse.account}", daemon=True)
            for unit in self._units
        ]
        for thread in threads:
            thread.start()
        while not self._signals.stopping.is_set():
            self._pulse.tend()
            self._pulse.urgent.wait(TICK_SECONDS)
        self._pulse.farewell()
        for thread in threads:
            thread.join()

    def _take_locks(self) -> None:
        refused: list[AccountLocked] = []
        for unit in self._units:
            try:
                unit.lock.acquire()
            except AccountLocked as error:
                refused.append(error)
        if len(refused) == len(self._units):
            raise refused[0]

    def _work(self, unit: Unit) -> None:
        told = ""
        try:
            while not self._signals.stopping.is_set():
                try:
                    unit.lock.acquire()
                    unit.pulse.serving = True
                    unit.build().run()
                except AccountLocked as error:
                    if str(error) != told:
                        unit.logger.warning("account_locked", error=str(error))
                    told = str(error)
                except Exception:  # the last net of an account: the others go on, and so will this one
                    unit.logger.exception("account_failed")
                unit.pulse.beat()
                self._signals.stopping.wait(RETRY_SECONDS)
        finally:
            unit.lock.release()
