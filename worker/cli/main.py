"""``sixbot``: the commands, put together."""

from __future__ import annotations

import typer

from worker.cli.worker import worker

app = typer.Typer(no_args_is_help=True, help="An automated trader that anything able to write a Redis key can stop.")
app.command("worker")(worker)


@app.callback()
def _root() -> None:
    """An automated trader that anything able to write a Redis key can stop."""


def main() -> None:
    """Entry point of the console script."""
    app()
