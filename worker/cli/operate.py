"""Looking and switching: status, stop, start, settings, risk, trades, positions."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from shared.clock import SystemClock, parse_rfc3339
from shared.config import load_config, load_for_a_stop
from shared.control import Actor, Control
from shared.documents import parse_json
from shared.errors import ConfigError, DocumentError, StoreError
from shared.places import Places
from shared.store import Store
from worker.cli.accounts import account_rows
from worker.cli.common import Exit, exit_codes, fail, open_store, print_json
from worker.cli.jobs import jobs_line, jobs_state

settings_app = typer.Typer(no_args_is_help=True, help="The document trading_settings.")
risk_app = typer.Typer(no_args_is_help=True, help="The document risk_settings.")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]
JsonAnyway = Annotated[bool, typer.Option("--json", help="Print one JSON value, which it does in any case.")]
STOP_WAIT_SECONDS = 5.0
NEW_STOP_SECONDS = 1.0


def actor() -> Actor:
    """Whoever runs the command."""
    return Actor(os.environ.get("SUDO_USER") or os.environ.get("USER") or "cli", "cli")


def status(
    json: Json = False, memory: Annotated[bool, typer.Option("--memory", help="Show memory per process.")] = False
) -> None:
    """What trading does now; exit code 4 when something is unhealthy."""
    with exit_codes():
        config = load_config()
        store = open_store(config)
        keys = store.keys
        names = ("trading_status", "system_status", "stop_report", "stop_latch")
        found = {name: store.get_json(getattr(keys, name)) for name in names}
        store.read_raw(keys.trading_status)
        found["jobs"] = jobs_state(config, store)
    accounts = account_rows(config, found, _workers(found))
    healthy = _healthy(found, accounts)
    if json:
        print_json({"healthy": healthy, "accounts": accounts, **found})
    else:
        _print_status(found, accounts)
        if memory:
            _print_memory(found)
    raise typer.Exit(Exit.OK if healthy else Exit.UNHEALTHY)


def _healthy(found: Mapping[str, Any], accounts: list[dict[str, Any]]) -> bool:
    """Every account is traded and guarded, none has an error, and the last stop was not left unproven."""
    status_ = found["trading_status"]
    running = all(row["trading"] and row["emergency"] and not row["last_error"] for row in accounts)
    report = found["stop_report"]
    proven = not isinstance(report, dict) or report.get("state") != "NOT_PROVEN"
    return running and proven and isinstance(status_, dict)


def _print_status(found: Mapping[str, Any], accounts: list[dict[str, Any]]) -> None:
    console = Console(highlight=False)
    status_ = found["trading_status"] if isinstance(found["trading_status"], dict) else {}
    table = Table(show_header=False, box=None)
    for name in ("mode", "state", "active", "stop_reason", "last_error", "last_run", "next_run", "trades_today"):
        table.add_row(name, _shown(status_.get(name)))
    table.add_row("total_volume", _shown(status_.get("total_volume")))
    report = found["stop_report"]
    if isinstance(report, dict):
        done = f"{report.get('orders_canceled')} of {report.get('orders_found')} cancelled"
        table.add_row(
            "last stop", f"{report.get('requested_at')} {report.get('reason')}: {report.get('state')}, {done}"
        )
    if isinstance(found["stop_latch"], dict):
        table.add_row("latched", f"{found['stop_latch'].get('reason')}; `sixbot start` lifts it")
    table.add_row("jobs", jobs_line(found["jobs"]))
    for row in accounts if len(accounts) > 1 else ():
        said = [f"{row['venue']}, {row['mode']}", *(f"{w} {_shown(row[w])}" for w in ("trading", "emergency"))]
        said += [f"last stop {row['last_stop']}"] if row["last_stop"] else []
        said += [f"! {row['last_error']}"] if row["last_error"] else []
        table.add_row(f"account {row['account']}", "; ".join(said))
    for worker in _workers(found):
        table.add_row(f"worker {worker.get('name')}", f"{worker.get('state')}, pid {worker.get('pid')}")
    console.print(table)


def _workers(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    system = found["system_status"]
    rows = system.get("workers") if isinstance(system, dict) else None
    return [w for w in rows if isinstance(w, dict)] if isinstance(rows, list) else []


def _print_memory(found: Mapping[str, Any]) -> None:
    from worker.memory import memory_of

    named = [(str(w["name"]), int(w["pid"])) for w in _workers(found) if isinstance(w.get("pid"), int)]
    rows = memory_of([*named, *_others({pid for _, pid in named})])
    table = Table("process", "pid", "PSS MB", "RSS MB")
    for row in rows:
        table.add_row(row.name, str(row.pid), f"{row.pss_mb:.1f}", f"{row.rss_mb:.1f}")
    table.add_row("sum", "", f"{sum(r.pss_mb for r in rows):.1f}", f"{sum(r.rss_mb for r in rows):.1f}")
    Console(highlight=False).print(table)


def _others(known: set[int]) -> list[tuple[str, int]]:
    """The supervisor, and those of its children that write no heartbeat: the server and the web."""
    import psutil

    rows: list[tuple[str, int]] = []
    for parent in {psutil.Process(pid).ppid() for pid in known if psutil.pid_exists(pid)} - {0, 1}:
        process = psutil.Process(parent)
        if "up" not in process.cmdline():
            continue
        for child in process.children():
            if child.pid not in known:
                rows.append(("web" if "gunicorn" in " ".join(child.cmdline()) else "server", child.pid))
        rows.append(("up", parent))
    return rows


def _shown(value: object) -> str:
    return "–" if value is None else str(value)


# -- stop and start ---------------------------------------------------------------------------------------------------


def stop(json: Json = False) -> None:
    """Stop trading now: the switch, the STOP file and a signal to the emergency worker; also with Redis down."""
    clock = SystemClock()
    began = clock.now()
    with exit_codes():
        config, wrong = load_for_a_stop()
    if wrong:
        typer.echo(f"sixbot: stopping all the same; {wrong}", err=True)
    told: dict[str, Any] = {}
    is_told = _write_stop_file(config, told)
    told["signalled"] = _signal_emergency(config)
    try:
        store = open_store(config)
        Control(store, clock).stop(actor())
        told["redis"] = "trading_settings.enabled is false"
        is_told = True
        told["stop_report"] = _await_report(store, began)
    except (StoreError, ConfigError, DocumentError) as error:
        told["redis"] = f"not reached: {error}"
    if json:
        print_json(told)
    else:
        _print_stop(told)
    if not is_told and not told["signalled"]:
        fail("nothing was told to stop: neither the STOP file nor the emergency worker nor Redis was reached")


def _print_stop(told: Mapping[str, Any]) -> None:
    typer.echo(f"STOP file written: {told['stop_file']}")
    signalled = ", ".join(map(str, told["signalled"]))
    typer.echo(f"emergency worker signalled: {signalled or 'none is running on this host'}")
    typer.echo(f"Redis: {told['redis']}")
    report = told.get("stop_report")
    if isinstance(report, dict):
        typer.echo(f"{report.get('state')}: cancelled {report.get('orders_canceled')} of {report.get('orders_found')}")
    typer.echo("`sixbot start` lifts the stop.")


def _write_stop_file(config: Places, told: dict[str, Any]) -> bool:
    """A full or read-only disk is told, and costs the other two channels nothing."""
    path = config.stop_path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        told["stop_file"] = f"not written: {error}"
        return False
    told["stop_file"] = str(path)
    return True


def _signal_emergency(config: Places) -> list[int]:
    """SIGUSR1 to every emergency worker of this installation that still runs."""
    import psutil

    reached = []
    for file in sorted(config.run_dir.glob("emergency-*.pid")):
        try:
            pid = int(file.read_text())
            if "emergency" in " ".join(psutil.Process(pid).cmdline()):
                os.kill(pid, signal.SIGUSR1)
                reached.append(pid)
        except (ValueError, OSError, psutil.Error):
            continue
    return reached


def _await_report(store: Store, began: datetime) -> object:
    """This stop's report once it is STOPPED, else what is known after five seconds.

    The emergency worker may be done before we look. An older report is this one's where trading was stopped already: so
    long after the signal a new stop would show.
    """
    report: object = None
    asked = time.monotonic()
    while (waited := time.monotonic() - asked) < STOP_WAIT_SECONDS:
        report = store.get_json(store.keys.stop_report)
        if isinstance(report, dict) and report.get("state") == "STOPPED":
            status_ = store.get_json(store.keys.trading_status)
            is_off = isinstance(status_, dict) and status_.get("active") is False
            if _requested(report) >= began or (is_off and waited >= NEW_STOP_SECONDS):
                return report
        time.sleep(0.05)
    return report


def _requested(report: Mapping[str, Any]) -> datetime:
    try:
        return parse_rfc3339(str(report.get("requested_at"))) + timedelta(milliseconds=1)  # it is cut to milliseconds
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def start(yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False, json: Json = False) -> None:
    """Start trading: states mode, strategy and limits, lifts the stop, removes the STOP file."""
    with exit_codes():
        config = load_config()
        store = open_store(config)
        control = Control(store, SystemClock())
        settings, risk = control.settings().value, control.risk().value
        status_ = store.get_json(store.keys.trading_status)
        mode = status_.get("mode") if isinstance(status_, dict) else None
        typer.echo(f"mode {str(mode or config.mode).upper()}, strategy {settings.strategy}", err=json)
        typer.echo(f"buy above {settings.buy_threshold_pct}, sell below -{settings.sell_threshold_pct}", err=json)
        for name, value in risk.plain().items():
            typer.echo(f"  {name} {value}", err=json)
        if not yes:
            if not sys.stdin.isatty():
                fail("nobody is here to ask: `sixbot start --yes` starts without asking", Exit.USAGE)
            if not typer.confirm("Start trading?", err=json):
                raise typer.Exit(Exit.FAILURE)
        control.start(actor())
        config.stop_path.unlink(missing_ok=True)
        if json:
            print_json(
                {"mode": mode or config.mode, "settings": control.settings().value.plain(), "risk": risk.plain()}
            )
        else:
            typer.echo("started: trading_settings.enabled is true")


# -- documents --------------------------------------------------------------------------------------------------------


def _changes(pairs: list[str]) -> dict[str, Any]:
    """``name=value``; a value that is not JSON is text. Raises DocumentError."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise DocumentError(pair, "write it as name=value")
        try:
            found[name] = parse_json(text.encode())
        except DocumentError:
            found[name] = text
    return found


def _show(reading: Any) -> None:
    print_json(
        {**reading.value.plain(), "version": reading.version, "error": str(reading.error) if reading.error else None}
    )


@settings_app.command("get")
def settings_get(json: JsonAnyway = True) -> None:
    """The values in force, as JSON."""
    with exit_codes():
        _show(Control(open_store(), SystemClock()).settings())


@settings_app.command("set")
def settings_set(pairs: Annotated[list[str], typer.Argument(help="field=value …")], json: JsonAnyway = True) -> None:
    """Change fields of trading_settings."""
    with exit_codes():
        _show(Control(open_store(), SystemClock()).change_settings(_changes(pairs), actor()))


@risk_app.command("get")
def risk_get(json: JsonAnyway = True) -> None:
    """The limits in force, as JSON."""
    with exit_codes():
        _show(Control(open_store(), SystemClock()).risk())


@risk_app.command("set")
def risk_set(pairs: Annotated[list[str], typer.Argument(help="field=value …")], json: JsonAnyway = True) -> None:
    """Change fields of risk_settings."""
    with exit_codes():
        _show(Control(open_store(), SystemClock()).change_risk(_changes(pairs), actor()))


def trades(limit: Annotated[int, typer.Option(min=1, help="How many.")] = 20, json: Json = False) -> None:
    """The newest orders, newest last."""
    with exit_codes():
        store = open_store()
        _rows(store.get_json(store.keys.trades_log), limit, json, ("time", "side", "qty", "ticker", "price", "status"))


def positions(json: Json = False) -> None:
    """What is held."""
    with exit_codes():
        store = open_store()
        fields = ("account", "ticker", "side", "qty", "avg_entry_price", "market_value", "unrealized_pl")
        _rows(store.get_json(store.keys.portfolio_positions), 1000, json, fields)


def _rows(found: object, limit: int, json: bool, fields: tuple[str, ...]) -> None:
    rows = [r for r in found if isinstance(r, dict)][-limit:] if isinstance(found, list) else []
    if json:
        print_json(rows)
        return
    table = Table(*fields)
    for row in rows:
        table.add_row(*(_shown(row.get(f)) for f in fields))
    Console(highlight=False).print(table if rows else "nothing yet")
