"""``sixbot model``: the registry by hand; training is in ``model_train``."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from shared.clock import SystemClock
from shared.config import Config, load_config
from shared.jobs import attendance, enqueue, nobody_judges, queue_connection
from shared.keys import MODEL_TEXT_BYTES, Keys
from shared.store import Store, connect
from worker.cli.common import Exit, exit_codes, fail, open_store, print_json
from worker.cli.operate import actor
from worker.models.registry import ModelRegistry

model_app = typer.Typer(no_args_is_help=True, help="LightGBM models of the cycle and of stream bots.")

TEXT_TIMEOUT_SECONDS = 30.0
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]


def open_registry(config: Config | None = None) -> ModelRegistry:
    """The registry of this installation; its client has time for 64 MB. Raises ConfigError."""
    config = config or load_config()
    client = connect(config.redis_address(), timeout_seconds=TEXT_TIMEOUT_SECONDS)
    return ModelRegistry(Store(client, Keys(config.sixbot_key_prefix)), SystemClock())


def read_file(file: Path) -> bytes:
    """A model file, unpacked where its name ends in .gz, and at most one byte too long. Ends with 1 on failure."""
    if file.exists() and not file.is_file():
        fail(f"{file}: cannot be read: it is {'a folder' if file.is_dir() else 'a pipe or a device'}, not a file")
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
            return opened.read(MODEL_TEXT_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        fail(f"{file}: cannot be read: {error}")


def show_document(document: Mapping[str, Any]) -> str:
    """One line; what people typed is shown escaped where it could move the cursor."""
    parts = (document.get(n) for n in ("id", "status", "feature_version", "symbol", "name"))
    used = document.get("assigned_to")
    line = "\t".join("–" if part is None else printable(part) for part in parts)
    return line + (f"\t(bot {', '.join(map(str, used))})" if isinstance(used, list) and used else "")


def printable(value: object) -> str:
    """Text for a terminal: anything may have been written to Redis."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value))


@model_app.command("check")
def check(file: Path) -> None:
    """Judge a model file, Redis not needed: 0 accepted, 1 refused with the field and the value; within 20 seconds."""
    from worker.models.probe import judge_in_child, seconds_left
    from worker.models.validation import ModelRefused

    try:
        facts = judge_in_child(read_file(file), seconds_left())
    except ModelRefused as error:
        fail(f"{file}: {error}")
    typer.echo(f"{file}: accepted, {facts.trees} trees, {facts.objective}, {len(facts.feature_names)} features")


@model_app.command("upload")
def upload(
    file: Path,
    name: Annotated[str, typer.Option(help="What to call it; the file's name where it is left out.")] = "",
    symbol: Annotated[str, typer.Option(help="The symbol it is for; * is any.")] = "*",
    now: Annotated[bool, typer.Option("--now", help="Validate here, even where a jobs worker runs.")] = False,
    json: Json = False,
) -> None:
    """Store a LightGBM text and have it validated; 1 where that refuses it."""
    raw = read_file(file)
    with exit_codes():
        registry = open_registry()
        document: Mapping[str, Any] = registry.upload(raw, name or file.name, symbol, actor())
        if now or not _queued(document["id"]):
            document = _validated(registry, document["id"])
    _tell(document, json)


def _queued(model_id: int) -> bool:
    """Leave validation to the jobs worker; False where none is alive."""
    config = load_config()
    store = open_store(config)
    alive = attendance(store) == "running"
    if alive:
        connection = queue_connection(config, store)
        enqueue(connection, "validate_model", model_id=model_id)
        connection.close()
    return alive


@model_app.command("validate")
def validate_again(model_id: int, json: Json = False) -> None:
    """Validate a stored model here and now; 1 where that refuses it."""
    with exit_codes():
        document = _validated(open_registry(), model_id)
    _tell(document, json)


def _validated(registry: ModelRegistry, model_id: int) -> Mapping[str, Any]:
    from worker.models.judge import validate

    return validate(registry, model_id)


def _tell(document: Mapping[str, Any], json: bool) -> None:
    if json:
        print_json(document)
    elif document.get("status") != "invalid":
        typer.echo(show_document(document))
    if document.get("status") == "invalid":
        fail(f"model {document['id']} is refused: {document.get('reason')}", Exit.FAILURE)


def _hint(documents: Sequence[Mapping[str, Any]]) -> None:
    """On stderr, where a model waits for somebody who is not there. Raises StoreError."""
    waiting = [d for d in documents if d.get("status") in ("uploaded", "validating")]
    if waiting and attendance(open_store()) == "none":
        for document in waiting:
            typer.echo(f"sixbot: model {document['id']} waits: {nobody_judges(document['id'])}", err=True)


@model_app.command("list")
def list_models(
    symbol: Annotated[str | None, typer.Option(help="Only those for a symbol, and those for any.")] = None,
    json: Json = False,
) -> None:
    """List registered models."""
    with exit_codes():
        rows = open_registry().listed(symbol)
        _hint(rows)
    if json:
        print_json(rows)
    for row in [] if json else rows:
        typer.echo(show_document(row))


@model_app.command("show")
def show(model_id: int, json: Json = False) -> None:
    """Print everything that is known of a model."""
    with exit_codes():
        document = open_registry().get(model_id)
        _hint([document])
    if json:
        print_json(document)
    for name, value in {} if json else document.items():
        typer.echo(f"{printable(name)}\t{printable(value)}")


@model_app.command("rename")
def rename(model_id: int, name: str) -> None:
    """Give a model another name."""
    with exit_codes():
        typer.echo(show_document(open_registry().rename(model_id, name, actor())))


@model_app.command("assign")
def assign(model_id: int, bot: Annotated[int, typer.Option(help="The bot's id; 1 is the cycle.")]) -> None:
    """Let a bot use a model from its next prediction on."""
    with exit_codes():
        typer.echo(show_document(open_registry().assign(model_id, bot, actor())))


@model_app.command("swap")
def swap(old: int, new: int) -> None:
    """Put model NEW in OLD's place at every bot that uses it."""
    with exit_codes():
        bots = open_registry().swap(old, new, actor())
        typer.echo(f"model {new} is used by bot {', '.join(map(str, bots))}" if bots else f"no bot uses model {old}")


@model_app.command("delete")
def delete(model_id: int) -> None:
    """Remove a model that no bot uses."""
    with exit_codes():
        open_registry().delete(model_id, actor())
        typer.echo(f"model {model_id} is deleted")
