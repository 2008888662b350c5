"""Starting everything, watching over it, and stopping it again."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

from shared.audit import audit_entry
from shared.clock import Clock, rfc3339
from shared.config import Config
from shared.documents import TradingSettings, dump_json
from shared.errors import ConfigError
from shared.store import Store
from worker.runtime import StopSignals
from worker.supervisor.process import Child, Spec, in_stop_order

READY_SECONDS = 20.0
TICK_SECONDS = 0.25
DEMO_CYCLE_SECONDS = "5"
DEMO_SETTINGS = {"enabled": True, "buy_threshold_pct": 0.002, "sell_threshold_pct": 0.002, "strategy": "BALANCED"}


_COMMAND = (sys.executable, "-m", "worker", "worker")
JOBS_SPEC = Spec("jobs", (*_COMMAND, "jobs"))


def worker_specs(config: Config, *, jobs: bool = False) -> list[Spec]:
    """The workers of this installation, in their order of starting; jobs where something needs it all the time, or when
    asked.
    """
    specs = [
        Spec(f"exchange-{account.name}", (*_COMMAND, "exchange", "--account", account.name))
        for account in config.accounts
        if account.venue == "simulated" and not account.is_default and _is_here(account.url)
    ]
    names = ["exchange"] if config.venue == "simulated" else []
    names += ["emergency", "heartbeat", "trading", "web"]
    named = [Spec(name, (*_COMMAND, name)) for name in names]
    return [*specs, *named, *([JOBS_SPEC] if jobs or config.needs_jobs else [])]


def _is_here(url: str | None) -> bool:
    """Whether the exchange at that address would run on this host."""
    return urlsplit(url or "").hostname in {"127.0.0.1", "localhost", "::1"}


def child_environment(config: Config, address: str, *, demo: bool) -> dict[str, str]:
    """The parent's environment, with the address in force and what only the demo sets."""
    environment = dict(os.environ)
    environment["REDIS_URL"] = address
    environment["SIXBOT_HOME"] = str(config.sixbot_home.resolve())
    environment.setdefault("MALLOC_ARENA_MAX", "2")  # many small threads; an arena for each would only waste memory
    if demo:
        environment.setdefault("CYCLE_SECONDS", DEMO_CYCLE_SECONDS)
    return environment


def write_demo_settings(store: Store, config: Config, clock: Clock) -> bool:
    """Trading ON for the demo, only where no ``trading_settings`` exists and only on the simulated venue."""
    if config.mode != "simulated":
        raise ConfigError(
            f"--demo turns trading on, which it does on the simulated venue only; an account is {config.mode}"
        )
    document = TradingSettings().plain() | DEMO_SETTINGS
    document |= {"last_updated": rfc3339(clock.now()), "updated_by": "demo"}
    key, new = store.keys.trading_settings, dump_json(document)
    return store.write_document(key, None, new, audit_entry(clock, "sixbot", "demo", key, None, new))


class Supervisor:
    """Children by name. ``tell`` gets one line for everything that happens."""

    def __init__(self, clock: Clock, signals: StopSignals, tell: Callable[[str], None]) -> None:
        self._clock, self._signals, self._tell = clock, signals, tell
        self.children: dict[str, Child] = {}

    def start(self, spec: Spec, environment: Mapping[str, str], config: Config) -> Child:
        """Start one and wait until it is ready; returns it. Raises ConfigError where it is not in time."""
        child = Child(spec, environment, config.log_dir, self._clock)
        self.children[spec.name] = child
        child.start()
        if spec.ready is None:
            return child
        end = self._clock.monotonic() + READY_SECONDS
        while not spec.ready():
            if child.pid is None:
                raise ConfigError(f"{spec.name} did not start: {child.last_words()}")
            if self._clock.monotonic() > end:
                raise ConfigError(f"{spec.name} was not ready within {READY_SECONDS:g} s: {child.last_words()}")
            self._signals.stopping.wait(0.05)
        return child

    def watch(self, on_tick: Callable[[], None]) -> None:
        """Until a signal says stop."""
        while not self._signals.stopping.wait(TICK_SECONDS):
            for name, child in list(self.children.items()):
                happened = child.tend()
                if happened:
                    self._tell(happened)
                if child.retired and child.pid is None:
                    del self.children[name]
            on_tick()

    def stop(self) -> None:
        """One after the other, those that trade first."""
        for name in in_stop_order(list(self.children)):
            child = self.children[name]
            child.terminate()
            child.finish()

    def pids(self) -> Sequence[tuple[str, int]]:
        """Names and pids of what runs."""
        return [(name, child.pid) for name, child in self.children.items() if child.pid is not None]
