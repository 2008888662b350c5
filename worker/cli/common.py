"""What every command shares: the store, output as text or JSON, errors as exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import NoReturn

import typer

from shared.config import load_config
from shared.errors import ConfigError, SixbotError, StoreUnreachable
from shared.keys import Keys
from shared.places import Places
from shared.store import Store, connect


class Exit(IntEnum):
    """Exit codes of the command."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    REDIS_UNREACHABLE = 3
    UNHEALTHY = 4
    INTERRUPTED = 130


def open_store(config: Places | None = None) -> Store:
    """The store of this installation. Raises ConfigError where no Redis is known."""
    config = config or load_config()
    return Store(connect(config.redis_address()), Keys(config.sixbot_key_prefix))


def print_json(value: object) -> None:
    """One JSON value on stdout: what ``--json`` promises."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn our errors into one line on stderr and the code that names what to do."""
    try:
        yield
    except ConfigError as error:
        fail(str(error), Exit.USAGE)
    except StoreUnreachable as error:
        fail(str(error), Exit.REDIS_UNREACHABLE)
    except SixbotError as error:
        fail(str(error), Exit.FAILURE)
    except KeyboardInterrupt:
        fail("interrupted", Exit.INTERRUPTED)


def fail(message: str, code: Exit = Exit.FAILURE) -> NoReturn:
    """Say why on stderr and end with the code."""
    typer.echo(f"sixbot: {message}", err=True)
    raise typer.Exit(code)
