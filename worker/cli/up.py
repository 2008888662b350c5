"""``sixbot up``: start everything and show it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from shared.clock import SystemClock, parse_rfc3339
from shared.config import Config, load_config
from shared.errors import ConfigError, StoreError
from shared.keys import Keys
from shared.store import Store, connect
from worker.cli.common import Exit, exit_codes
from worker.redis_safety import refuse_unsafe_server
from worker.runtime import StopSignals
from worker.supervisor.demand import JobsOnDemand
from worker.supervisor.server import embedded_server
from worker.supervisor.up import JOBS_SPEC, Supervisor, child_environment, worker_specs, write_demo_settings

QUIET_SECONDS = 10.0


def up(
    demo: Annotated[
        bool, typer.Option("--demo", help="Turn trading on at the first start, on the simulated venue only.")
    ] = False,
    jobs: Annotated[
        bool, typer.Option("--jobs", help="Keep a jobs worker running, not only while there are jobs.")
    ] = False,
) -> None:
    """Start every process of this installation; Ctrl-C stops them all."""
    console = Console(highlight=False)
    with exit_codes():
        config = load_config()
        code = _Up(config, console, demo=demo, jobs=jobs).run()
    raise typer.Exit(code)


class _Up:
    """One run of the command."""

    def __init__(self, config: Config, console: Console, *, demo: bool, jobs: bool) -> None:
        self._config, self._console, self._demo, self._jobs = config, console, demo, jobs
        self._clock, self._signals = SystemClock(), StopSignals()
        self._supervisor = Supervisor(self._clock, self._signals, self._tell)
        self._store: Store | None = None
        self._on_demand: JobsOnDemand | None = None
        self._live: Live | None = None
        self._shown_trades: set[str] = set()
        self._last_line, self._next_plain = "", 0.0
        self._progress = ""

    def run(self) -> int:
        self._signals.install()
        try:
            self._start()
            self._watch()
            self._console.print("stopping …")
        finally:
            self._supervisor.stop()
        self._console.print("stopped")
        return Exit.OK

    def _tell(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)

    def _start(self) -> None:
        config = self._config
        config.make_home()
        if self._demo and config.mode != "simulated":
            raise ConfigError(
                f"--demo is for the simulated venue only, and VENUE is {config.venue}, in mode {config.mode}"
            )
        if config.redis_url is None:
            server = embedded_server(config)
            self._tell(f"starting the embedded server on port {config.embedded_redis_port}")
            self._supervisor.start(server, {}, config)
        address = config.redis_address()
        client = connect(address)
        refuse_unsafe_server(client)
        self._store = Store(client, Keys(config.sixbot_key_prefix))
        self._pass_over(self._store.get_json(self._store.keys.trades_log))
        if self._demo and write_demo_settings(self._store, config, self._clock):
            self._tell("demo: trading is ON, on the simulated market, with play money")
        environment = child_environment(config, address, demo=self._demo)
        specs = worker_specs(config, jobs=self._jobs)
        for spec in specs:
            self._supervisor.start(spec, environment, config)
        if JOBS_SPEC not in specs:
            self._on_demand = JobsOnDemand(
                self._store,
                client if config.queue_address() == address else connect(config.queue_address()),
                self._clock,
                lambda: self._supervisor.start(JOBS_SPEC, environment, config),
                self._tell,
                config.jobs_idle_seconds,
            )
        self._tell(f"started: {', '.join(self._supervisor.children)}   logs: {config.log_dir}")
        self._invite()

    def _invite(self) -> None:
        """Until somebody has a password, a way in: a link for one use, good for fifteen minutes."""
        from shared.access import FIRST_ROLE, FIRST_USER, Access

        if self._store is None:
            return
        access = Access(self._store, self._clock, "sixbot", "up")
        base = f"http://{self._config.web_bind}"
        users = access.users()
        if any(user.has_password for user in users):
            self._tell(f"web: {base}")
            return
        if all(user.name != FIRST_USER for user in users):
            access.add_user(FIRST_USER, FIRST_ROLE)
        link = access.create_link(FIRST_USER, base)
        invitation = Text.assemble("web: open ", (link.url, "bold cyan"), " to set a password (good for 15 minutes)")
        self._console.print(invitation, soft_wrap=True)

    # -- the status line ------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        if not self._console.is_terminal:
            self._supervisor.watch(self._plain)
            return
        with Live(console=self._console, refresh_per_second=4, transient=True) as live:
            self._live = live
            self._supervisor.watch(self._lively)

    def _lively(self) -> None:
        self._look_at_jobs()
        line = self._line()
        if self._live is not None:
            self._live.update(Text(line))

    def _look_at_jobs(self) -> None:
        if self._on_demand is not None:
            self._on_demand.tick()

    def _plain(self) -> None:
        self._look_at_jobs()
        line, now = self._line(), self._clock.monotonic()
        if now >= self._next_plain and line != self._last_line:
            self._tell(line)
            self._last_line, self._next_plain = line, now + QUIET_SECONDS

    def _line(self) -> str:
        if self._store is None:
            return ""
        try:
            status = self._store.get_json(self._store.keys.trading_status)
            self._trades(self._store.get_json(self._store.keys.trades_log))
            training = self._training(self._store)
        except StoreError as error:
            return f"Redis: {error}"
        found: Mapping[str, Any] = status if isinstance(status, dict) else {}
        parts = [
            str(found.get("mode", "")).upper(),
            str(found.get("state") or "starting"),
            training or f"next run {_until(found.get('next_run'))}",
            f"{found.get('trades_today', 0)} trades today, volume {found.get('total_volume', 0):,.2f}",
        ]
        if self._on_demand is not None:
            parts.append(self._on_demand.state)
        if found.get("stop_reason"):
            parts.insert(2, f"({found['stop_reason']})")
        if found.get("last_error"):
            parts.append(f"! {found['last_error']}"[:160])
        return " · ".join(p for p in parts if p)

    @staticmethod
    def _training(store: Store) -> str:
        import socket

        beat = store.get_json(store.keys.heartbeat("trading", socket.gethostname()))
        progress = beat.get("progress") if isinstance(beat, dict) else None
        if not isinstance(progress, dict) or not progress.get("total"):
            return ""
        share = progress["done"] / progress["total"]
        return f"{progress['what']} [{'#' * int(share * 20):<20}] {share:4.0%}"

    @staticmethod
    def _filled(log: object) -> list[dict[str, Any]]:
        rows = [row for row in log if isinstance(row, dict)] if isinstance(log, list) else []
        return [row for row in rows if row.get("status") == "filled"]

    def _pass_over(self, log: object) -> None:
        """What had filled before this start is no news."""
        self._shown_trades.update(str(entry.get("client_order_id")) for entry in self._filled(log))

    def _trades(self, log: object) -> None:
        """Each trade once, as it fills."""
        for entry in self._filled(log):
            name = str(entry.get("client_order_id"))
            if name not in self._shown_trades:
                self._shown_trades.add(name)
                at = str(entry.get("time"))[11:19]
                self._tell(
                    f"{at} {str(entry.get('side')).upper()} {entry.get('qty')} {entry.get('ticker')} "
                    f"at {entry.get('price')}  {entry.get('reason')}"
                )


def _until(text: object) -> str:
    try:
        seconds = (parse_rfc3339(str(text)) - datetime.now(UTC)).total_seconds()
    except ValueError:
        return "–"
    return f"in {max(seconds, 0):.0f} s"
