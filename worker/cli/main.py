"""``sixbot``: the commands."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, add_completion=True, help="An automated trader that any Redis key can stop.")


@app.callback()
def _root() -> None:
    """An automated trader that anything able to write a Redis key can stop."""


def main() -> None:
    """Entry point of the console script."""
    app()
