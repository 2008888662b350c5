"""One account's trader: one thread that sends, whose faults pause trading and end nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from shared.errors import LeaseLost, SixbotError, StoreError, StoreUnreachable
from worker.core.types import OrderUpdate
from worker.runtime import StopSignals
from worker.trading.inbox import Inbox, Intake
from worker.trading.pulse import AccountPulse
from worker.trading.readiness import Readiness
from worker.trading.session import Session
from worker.trading.tenure import Tenure
from worker.venues.base import UpdateStream

RETRY_SECONDS = 1.0


class Service(Protocol):
    """What works beside the loop as long as that runs."""

    def start(self) -> None: ...

    def close(self) -> None: ...


class Trader:
    """Runs until the signals say stop: a session, and after every fault a pause and another one."""

    def __init__(
        self,
        session: Session,
        tenure: Tenure,
        readiness: Readiness,
        pulse: AccountPulse,
        inbox: Inbox,
        intake: Intake,
        open_stream: Callable[[Callable[[OrderUpdate], None]], UpdateStream],
        services: Sequence[Service],
        signals: StopSignals,
        logger: structlog.stdlib.BoundLogger,
    ) -> None:
        self._session, self._tenure, self._readiness, self._pulse = session, tenure, readiness, pulse
        self._inbox, self._intake = inbox, intake
        self._open_stream, self._services, self._signals, self._logger = open_stream, tuple(services), signals, logger

    def run(self) -> None:
        stream = self._open_stream(self._inbox.put)
        for service in self._services:
            service.start()
        try:
            while not self._signals.stopping.is_set():
                self._run_session(stream)
        finally:
            stream.close()
            for service in self._services:
                service.close()
            self._release()

    def _run_session(self, stream: UpdateStream) -> None:
        try:
            self._session.run(stream)
        except StoreUnreachable as error:
            self._pause("redis", f"Redis is away: {error}")
        except LeaseLost as error:
            self._pause("lease", str(error))
        except SixbotError as error:
            self._pause("venue", str(error))
        except Exception as error:  # the last net: whatever it is, trading pauses, says so and starts clean
            self._logger.exception("loop_failed")
            self._pause("loop", f"{type(error).__name__}: {error}")

    def _pause(self, source: str, why: str) -> None:
        self._logger.warning("paused", why=why)
        self._pulse.beat()  # what is away costs the trading, not the process
        self._readiness.tell_fault(source, why)
        self._intake.wait(RETRY_SECONDS)

    def _release(self) -> None:
        try:
            self._tenure.release()
        except StoreError:
            self._logger.warning("lease_not_released")
