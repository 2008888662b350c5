"""One supervised child: started in a session of its own, restarted with back-off, stopped with a grace."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from shared.clock import Clock
from worker.runtime import end_with_parent

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
HEALTHY_SECONDS = 60.0
GRACE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Spec:
    """What to run. ``ready`` is asked until it is true before the next process starts."""

    name: str
    arguments: tuple[str, ...]
    ready: Callable[[], bool] | None = None


class Child:
    """A spec and its process."""

    def __init__(self, spec: Spec, environment: Mapping[str, str], log_dir: Path, clock: Clock) -> None:
        self.spec, self._environment, self._log_dir, self._clock = spec, dict(environment), log_dir, clock
        self.process: subprocess.Popen[bytes] | None = None
        self.restarts = 0
        self.note = ""
        self.retired = False
        self._pause = FIRST_PAUSE_SECONDS
        self._started_at = self._restart_at = 0.0

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None and self.process.poll() is None else None

    def start(self) -> None:
        self._log_dir.mkdir(parents=True, exist_ok=True)
        with self._output() as output:
            self.process = subprocess.Popen(
                self.spec.arguments,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
        self._started_at = self._clock.monotonic()

    def _output(self) -> IO[bytes]:
        """What the child prints outside its log: a start that failed, a traceback."""
        return (self._log_dir / f"{self.spec.name}.out").open("wb")

    def tend(self) -> str:
        """Restart it if it ended, when its pause is over; returns what happened, or nothing."""
        if self.retired:
            return ""
        if self.process is None or self.process.poll() is None:
            if self.process is not None and self._clock.monotonic() - self._started_at > HEALTHY_SECONDS:
                self._pause = FIRST_PAUSE_SECONDS
            return ""
        now = self._clock.monotonic()
        if not self._restart_at:
            self._restart_at = now + self._pause
            self.note = f"{self.spec.name} ended with code {self.process.returncode}: {self.last_words()}"
            self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
            return self.note
        if now < self._restart_at:
            return ""
        self._restart_at = 0.0
        self.restarts += 1
        self.start()
        return f"{self.spec.name} restarted"

    def last_words(self) -> str:
        """The last line it printed."""
        try:
            lines = (self._log_dir / f"{self.spec.name}.out").read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1][-300:] if lines else "no output"

    def retire(self) -> None:
        """It is not needed any more: the polite signal, as much time as it takes, and no restart."""
        self.retired = True
        self.terminate()

    def terminate(self) -> None:
        """First the polite signal."""
        if self.pid is not None and self.process is not None:
            self.process.send_signal(signal.SIGTERM)

    def finish(self) -> None:
        """Wait out the grace, then SIGKILL the whole session."""
        if self.process is None:
            return
        try:
            self.process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def in_stop_order(names: Sequence[str]) -> list[str]:
    """trading and web first, then all others, then emergency, the exchange and last the server."""
    exchanges = [n for n in names if n.partition("-")[0] == "exchange"]
    first, last = ["trading", "web"], ["emergency", *exchanges, "server"]
    middle = [n for n in names if n not in first and n not in last]
    return [n for n in [*first, *middle, *last] if n in names]
