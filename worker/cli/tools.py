"""Tools around Redis and the logs: redis, redis-url, logs, doctor."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import redis
import typer

from shared.config import load_config
from shared.errors import ConfigError
from shared.store import connect
from worker.cli.common import Exit, exit_codes, fail, print_json


def redis_url() -> None:
    """Print the URL in force, password included: `redis-cli -u "$(sixbot redis-url)" GET trading_status`."""
    with exit_codes():
        typer.echo(_with_user(load_config().redis_address()))


def _with_user(url: str) -> str:
    """redis-cli takes an empty user name for a name; the default user's is ``default``."""
    return url.replace("://:", "://default:", 1)


def redis_command(context: typer.Context) -> None:
    """What redis-cli does, where that is absent: `sixbot redis GET trading_status`."""
    with exit_codes():
        client = connect(load_config().redis_address())
        if not context.args:
            fail("say a command, like `sixbot redis GET trading_status`", Exit.USAGE)
        try:
            # a bare parse keeps the server's own answer: no conversion by command name
            connection = client.connection_pool.get_connection()
            connection.send_command(*context.args)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
            answer = connection.read_response()
        except redis.ResponseError as error:
            typer.echo(f"(error) {error}")
            raise typer.Exit(Exit.FAILURE) from None
        except (redis.RedisError, OSError) as error:
            fail(f"Redis does not answer: {error}", Exit.REDIS_UNREACHABLE)
        typer.echo(_reply(answer))


def _reply(answer: Any, indent: str = "") -> str:
    if answer is None:
        return f"{indent}(nil)"
    if isinstance(answer, bytes):
        return indent + answer.decode(errors="replace")
    if isinstance(answer, bool | int | float):
        return f"{indent}(integer) {int(answer)}" if not isinstance(answer, float) else f"{indent}{answer}"
    if isinstance(answer, dict):
        answer = [part for pair in answer.items() for part in pair]
    if isinstance(answer, list | set | tuple):
        rows = sorted(answer) if isinstance(answer, set) else list(answer)
        return "\n".join(f"{indent}{n}) {_reply(row)}" for n, row in enumerate(rows, 1)) or f"{indent}(empty array)"
    return indent + str(answer)


def logs(
    name: Annotated[str, typer.Argument(help="One worker; all without it.")] = "",
    follow: Annotated[bool, typer.Option("-f", help="Go on as lines are written.")] = False,
) -> None:
    """Print the workers' logs."""
    with exit_codes():
        directory = load_config().log_dir
        files = sorted(directory.glob(f"{name or '*'}.jsonl"))
        if not files:
            raise ConfigError(f"no log of {name or 'any worker'} in {directory}")
        try:
            _print_logs(files, follow=follow)
        except KeyboardInterrupt:
            raise typer.Exit(Exit.INTERRUPTED) from None


def _print_logs(files: list[Path], *, follow: bool) -> None:
    ends = {}
    for file in files:
        text = file.read_text(errors="replace")
        ends[file] = len(text.encode())
        for line in text.splitlines()[-200:]:
            typer.echo(line)
    while follow:
        time.sleep(0.3)
        for file, end in ends.items():
            size = file.stat().st_size
            if size < end:
                end = 0
            if size > end:
                with file.open("rb") as handle:
                    handle.seek(end)
                    typer.echo(handle.read(size - end).decode(errors="replace"), nl=False)
                ends[file] = size


def doctor(json: Annotated[bool, typer.Option("--json", help="Print one JSON value.")] = False) -> None:
    """Check this installation and say how to mend what is wrong; exit code 4 when something is."""
    from worker.doctor import examine

    with exit_codes():
        findings = examine(load_config())
    if json:
        print_json([{"name": f.name, "state": f.state, "detail": f.detail, "remedy": f.remedy} for f in findings])
    else:
        for finding in findings:
            remedy = f"\n      mend it: {finding.remedy}" if finding.remedy else ""
            typer.echo(f"{finding.state:7} {finding.name}: {finding.detail}{remedy}")
    raise typer.Exit(Exit.UNHEALTHY if any(f.state == "failed" for f in findings) else Exit.OK)
