"""``sixbot worker NAME``: one process, in the foreground, as a service manager or ``sixbot up`` runs it."""

from __future__ import annotations

from typing import Annotated

import typer

from shared.config import load_config
from shared.errors import ConfigError, SixbotError, StoreError
from worker.runtime import AccountLocked, ExitCode


def worker(
    name: Annotated[str, typer.Argument(help="trading, emergency, heartbeat, exchange or web")],
    account: Annotated[str, typer.Option(help="The account to work for.")] = "default",
) -> None:
    """Run one worker until it is told to stop."""
    from worker.compose import run_worker

    try:
        code = run_worker(name, load_config(), account)
    except (ConfigError, AccountLocked) as error:
        _fail(str(error), ExitCode.CONFIG)
    except StoreError as error:
        _fail(str(error), ExitCode.REDIS_UNREACHABLE)
    except SixbotError as error:
        _fail(str(error), ExitCode.FAILURE)
    else:
        raise typer.Exit(code)


def _fail(message: str, code: ExitCode) -> None:
    typer.echo(f"sixbot worker: {message}", err=True)
    raise typer.Exit(code)
