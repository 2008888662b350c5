"""The exit codes that scripts rest on."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from shared.store import Store
from tests.support import PASSWORD, free_port
from worker.cli.main import app


def code_of(home: Path, url: str, *arguments: str) -> int:
    variables = {"SIXBOT_HOME": str(home), "REDIS_URL": url}
    return CliRunner().invoke(app, list(arguments), env=variables, catch_exceptions=False).exit_code


def test_command_when_redis_refuses_is_told_apart_from_a_redis_that_is_away(
    store: Store, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever gets 3 waits for Redis; a user without the right would wait for ever."""
    monkeypatch.chdir(tmp_path)
    change = ("settings", "set", "strategy=BALANCED")
    store.client.execute_command("ACL", "SETUSER", "looker", "on", f">{PASSWORD}", "~*", "+@read", "+@connection")
    try:
        assert code_of(tmp_path, redis_url.replace(":test-password", f"looker:{PASSWORD}"), *change) == 1
    finally:
        store.client.execute_command("ACL", "DELUSER", "looker")
    assert code_of(tmp_path, f"redis://127.0.0.1:{free_port()}/0", *change) == 3
    assert code_of(tmp_path, redis_url, *change) == 0


@pytest.mark.parametrize("limit", ["0", "-3", "x"])
def test_trades_when_the_limit_makes_no_sense_is_a_usage_error(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert code_of(tmp_path, redis_url, "trades", "--limit", limit) == 2
