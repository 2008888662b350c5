"""``sixbot model``: check, train, list."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from shared.clock import SystemClock
from worker.cli.common import exit_codes, fail, open_store, print_json

model_app = typer.Typer(no_args_is_help=True, help="LightGBM models of the cycle.")


@model_app.command("check")
def check(file: Path) -> None:
    """Judge a model file without loading it: 0 accepted, 1 refused with the field and the value."""
    from worker.models.validation import MAX_BYTES, ModelRefused, check_text

    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
            facts = check_text(opened.read(MAX_BYTES + 1))
    except ModelRefused as error:
        fail(f"{file}: {error}")
    except (OSError, EOFError, zlib.error) as error:
        fail(f"{file}: cannot be read: {error}")
    else:
        typer.echo(f"{file}: accepted, {facts.trees} trees, {facts.objective}, {len(facts.feature_names)} features")


@model_app.command("train")
def train(
    data: Annotated[list[Path], typer.Option(help="A bar file; may be given several times.")],
    name: Annotated[str, typer.Option(help="What to call it.")] = "",
    horizon: Annotated[int, typer.Option(help="Minutes ahead.", min=1, max=1440)] = 60,
    assign: Annotated[bool, typer.Option(help="Let the cycle use it from now on.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON value.")] = False,
) -> None:
    """Train a model on bar files and register it."""
    from worker.feeds.bars import load_series
    from worker.models.child import train_in_child
    from worker.models.registry import ModelRegistry

    with exit_codes():
        store = open_store()
        series = [s.minutes().regular() for s in load_series(data)]
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("training", total=None)
            model = train_in_child(series, horizon, lambda d, t: progress.update(task, completed=d, total=t))
        registry = ModelRegistry(store, SystemClock())
        number = registry.register(model, name or ", ".join(s.ticker for s in series), 1 if assign else None)
        if json:
            print_json({"id": number, "metrics": model.metrics, "feature_version": model.feature_version})
        else:
            typer.echo(f"model {number}{' is used by the cycle' if assign else ''}: {model.metrics}")


@model_app.command("list")
def list_models(json: Annotated[bool, typer.Option("--json", help="Print one JSON value.")] = False) -> None:
    """List registered models."""
    from worker.models.registry import ModelRegistry

    with exit_codes():
        rows = ModelRegistry(open_store(), SystemClock()).listed()
        if json:
            print_json(rows)
        for row in [] if json else rows:
            used = " (in use)" if row.get("assigned_to") else ""
            typer.echo(f"{row.get('id')}\t{row.get('status')}\t{row.get('feature_version')}\t{row.get('name')}{used}")
