"""``sixbot worker NAME``: one process, in the foreground, as a service manager or ``sixbot up`` runs it."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.cli.process import run


def worker(
    name: Annotated[str, typer.Argument(help="trading, emergency, heartbeat, jobs, exchange or web")],
    account: Annotated[
        str | None, typer.Option(help="The one account that trading, emergency or exchange works for; all without it.")
    ] = None,
) -> None:
    """Run one worker until it is told to stop."""
    raise typer.Exit(run(name, account))
