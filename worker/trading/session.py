"""From taking an account's lease to losing it: recover first, then trade."""

from __future__ import annotations

from collections.abc import Callable

from worker.failpoints import failpoint
from worker.runtime import StopSignals
from worker.trading.bots.fleet import Fleet
from worker.trading.cycles import Cycles
from worker.trading.inbox import Intake
from worker.trading.keepalive import KeepAlive
from worker.trading.oversight import Oversight
from worker.trading.readiness import Readiness
from worker.trading.startup import Startup
from worker.trading.tenure import Admission
from worker.venues.base import UpdateStream

TICK_SECONDS = 0.25


class Session:
    """One tenure of an account. ``prepare`` makes what must exist before the recovery; ``cycles`` is ``default``'s."""

    def __init__(
        self,
        admission: Admission,
        prepare: Callable[[], None],
        startup: Startup,
        keepalive: KeepAlive,
        oversight: Oversight,
        readiness: Readiness,
        cycles: Cycles | None,
        bots: Fleet,
        intake: Intake,
        signals: StopSignals,
    ) -> None:
        self._admission, self._prepare, self._startup, self._keepalive = admission, prepare, startup, keepalive
        self._oversight, self._readiness, self._cycles, self._bots = oversight, readiness, cycles, bots
        self._intake, self._signals = intake, signals

    def run(self, stream: UpdateStream) -> None:
        """Until the signals say stop. Raises SixbotError where it cannot go on: the caller begins another one."""
        failpoint("recover.begin")
        self._readiness.write_default()
        self._admission.wait()
        self._prepare()
        failpoint("recover.leased")
        while self._oversight.patient and not self._signals.stopping.is_set():
            self._keepalive.beat()
            self._intake.wait(TICK_SECONDS)
        generation = stream.generation
        self._startup.recover()
        self._readiness.recovered()
        if self._cycles is not None:
            self._cycles.start_over()
        while not self._signals.stopping.is_set():
            reconnected, generation = stream.generation != generation, stream.generation
            self._turn(reconnected=reconnected)
            self._intake.wait(TICK_SECONDS)

    def _turn(self, *, reconnected: bool) -> None:
        self._keepalive.beat()
        if reconnected:
            self._oversight.at_once()
        self._oversight.tend()
        look = self._readiness.look()
        self._readiness.watch_arming(look)
        self._bots.turn(ready=look.ready, switches=look.switches, epoch=look.epoch, snapshot=self._oversight.snapshot)
        if self._bots.waits_for_an_answer:
            self._oversight.soon()
        if self._cycles is not None and self._cycles.turn(
            look, paused=self._bots.cycle_paused or self._oversight.patient
        ):
            look = self._readiness.read_again(look)
        self._readiness.tell(look, self._cycles.next_at if self._cycles is not None else None)
