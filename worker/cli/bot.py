"""``sixbot bot``: list, show, change, run one in the foreground."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from shared.bots import BotControl, judge_bot, read_strays
from shared.clock import SystemClock, parse_rfc3339, rfc3339
from shared.config import load_config
from shared.documents import dump_json, parse_json
from shared.errors import DocumentError
from shared.store import Store, translated_errors
from worker.cli.common import exit_codes, fail, open_store, print_json
from worker.cli.operate import actor

bot_app = typer.Typer(no_args_is_help=True, help="Bots: bot 1 is the cycle, every other one decides on live trades.")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]
WIDE = 200
"""Columns of a table where there is no terminal to fill."""
SILENT_SECONDS = 30
"""A status is written every ten seconds at least; one that is older is nobody's word any more."""
BotId = Annotated[int, typer.Argument(help="The bot's number.", min=1)]


def _control() -> tuple[Store, BotControl]:
    store = open_store()
    return store, BotControl(store, SystemClock())


def _row(store: Store, control: BotControl, bot_id: int) -> dict[str, Any]:
    """A bot's document as it is read, with its version, the reason where it cannot be, and what the trader tells."""
    reading = control.read(bot_id)
    return {
        **reading.value.plain(),
        "version": reading.version,
        "error": str(reading.error) if reading.error else None,
        "status": store.get_json(store.keys.bot_status(bot_id)),
    }


@bot_app.command("list")
def list_bots(as_json: Json = False) -> None:
    """All bots."""
    with exit_codes():
        store, control = _control()
        rows = [_row(store, control, bot_id) for bot_id in control.ids()]
        for stray in read_strays(store):
            typer.echo(f"sixbot: {stray}", err=True)
    if as_json:
        print_json(rows)
        return
    table = Table("bot", "name", "kind", "symbol", "account", "enabled", "state", "open", "problem")
    for row in rows:
        status = row["status"] if isinstance(row["status"], dict) else {}
        state = _state(status)
        positions = status.get("positions")
        table.add_row(
            str(row["bot_id"]),
            row["name"],
            row["kind"],
            row["symbol"] if row["kind"] == "stream" else "–",
            row["account"],
            "yes" if row["enabled"] else "no",
            state,
            str(len(positions)) if isinstance(positions, list) else "–",
            str(row["error"] or status.get("config_error") or ""),
        )
    Console(highlight=False, width=None if sys.stdout.isatty() else WIDE).print(table)


def _state(status: Mapping[str, Any]) -> str:
    """What the bot does, as long as somebody runs it to say so."""
    try:
        age = SystemClock().now() - parse_rfc3339(str(status.get("updated_at")))
    except ValueError:
        return "no trader"
    if age.total_seconds() > SILENT_SECONDS:
        return f"no trader since {status['updated_at']}"
    return str(status.get("state", "–"))


def _hint(store: Store, bot_id: int) -> str:
    """Where only the list lacks it: its document was SET and its number not SADDed."""
    with translated_errors():
        there = store.client.exists(store.keys.bot(bot_id))
    return f"; {store.keys.bot(bot_id)} is set, and SADD {store.keys.bots} {bot_id} makes it one" if there else ""


@bot_app.command("show")
def show(bot_id: BotId, as_json: Json = True) -> None:
    """One bot's values, with version, error and status, as JSON."""
    with exit_codes():
        store, control = _control()
        if bot_id not in control.ids():
            fail(f"there is no bot {bot_id}: `sixbot bot list` shows them{_hint(store, bot_id)}")
        print_json(_row(store, control, bot_id))


def _fields(text: str, option: str) -> dict[str, Any]:
    """A JSON object from an option. Raises DocumentError."""
    value = parse_json(text.encode())
    if not isinstance(value, dict):
        raise DocumentError(option, "must be a JSON object", value)
    return value


def _change(bot_id: int, changes: dict[str, Any], *, create: bool = False) -> None:
    with exit_codes():
        store, control = _control()
        if not create and bot_id not in control.ids():
            fail(f"there is no bot {bot_id}: `sixbot bot set {bot_id} --json …` creates it{_hint(store, bot_id)}")
        control.change(bot_id, changes, actor())
        print_json(_row(store, control, bot_id))


@bot_app.command("set")
def set_bot(
    bot_id: BotId,
    fields: Annotated[str, typer.Option("--json", help='The fields to change, like \'{"symbol": "BTCUSDC"}\'.')],
) -> None:
    """Change fields of a bot, or create it; prints the whole."""
    with exit_codes():
        changes = _fields(fields, "--json")
    _change(bot_id, changes, create=True)


@bot_app.command("create")
def create(
    bot_id: BotId,
    fields: Annotated[str, typer.Option("--json", help='Its fields, like \'{"symbol": "BTCUSDC"}\'.')] = "{}",
) -> None:
    """Make a bot, off unless it says otherwise, what is left out by its default; prints the whole."""
    with exit_codes():
        if bot_id in _control()[1].ids():
            fail(f"there is a bot {bot_id} already: `sixbot bot set {bot_id} --json …` changes it")
        changes = _fields(fields, "--json")
    _change(bot_id, changes, create=True)


@bot_app.command("enable")
def enable(bot_id: BotId, as_json: Json = True) -> None:
    """Let a bot enter positions, while the master switch allows trading."""
    _change(bot_id, {"enabled": True, "close_positions": False})


@bot_app.command("disable")
def disable(bot_id: BotId, as_json: Json = True) -> None:
    """No more entries; what is open is managed until it is closed."""
    _change(bot_id, {"enabled": False})


@bot_app.command("close")
def close(bot_id: BotId, as_json: Json = True) -> None:
    """No more entries, and close what is open at market."""
    _change(bot_id, {"enabled": False, "close_positions": True})


@bot_app.command("delete")
def delete(bot_id: BotId, as_json: Json = False) -> None:
    """Remove a bot; what is open is managed until it is closed."""
    with exit_codes():
        _control()[1].delete(bot_id, actor())
    if as_json:
        print_json({"deleted": bot_id})
    else:
        typer.echo(f"bot {bot_id} is deleted")


@bot_app.command("run")
def run(
    bot_id: Annotated[int, typer.Option("--bot-id", help="The bot's number, from 2.", min=2)],
    symbol: Annotated[str | None, typer.Option("--symbol", help="What to trade, instead of the document's.")] = None,
    config_json: Annotated[
        str | None, typer.Option("--config-json", help="The bot's fields as a JSON object, written to its document.")
    ] = None,
) -> None:
    """Run one bot in the foreground, with its account's lease: one JSON object a line; SIGTERM drains, a second ends.

    The values given are written to the bot's document, as every change is, and the bot is enabled.
    """
    from worker.compose.trading import run_bot

    with exit_codes():
        changes = _fields(config_json, "--config-json") if config_json is not None else {}
        if symbol is not None:
            changes["symbol"] = symbol
        config, control = load_config(), _control()[1]
        changes = {"enabled": True, "close_positions": False} | changes
        judged = judge_bot(bot_id, dump_json({"bot_id": bot_id} | changes), control.read(bot_id).value)
        if judged.error is not None:
            raise judged.error
        run_bot(config, bot_id, judged.value.account, lambda: control.change(bot_id, changes, actor()), _line)


def _line(kind: str, /, **fields: object) -> None:
    """One JSON object a line: what a program that started this bot reads."""
    told = {"time": rfc3339(SystemClock().now()), "event": kind, **fields}
    sys.stdout.write(json.dumps(told, default=str) + "\n")
    sys.stdout.flush()
