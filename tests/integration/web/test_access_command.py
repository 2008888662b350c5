"""``sixbot user link``: who gets a way in, and who is asked for first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from typer.testing import CliRunner

from shared.access import Access, AccessError
from tests.integration.web.conftest import Browser
from worker.cli.main import app as command

PASSWORD = "correct horse battery"


@pytest.fixture
def link(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``sixbot user link`` with these arguments, in this process."""
    monkeypatch.chdir(tmp_path)
    variables = {"SIXBOT_HOME": str(tmp_path), "REDIS_URL": redis_url}
    return lambda *given: CliRunner().invoke(command, ["user", "link", *given], env=variables, catch_exceptions=False)


def test_link_when_nobody_is_named_lets_the_operator_in(link: Any, app: Flask, access: Access) -> None:
    """What somebody types on a new machine, and what a program does."""
    made = json.loads(link("--json").stdout)
    assert (made["user"], access.users()[0].role) == ("operator", "operator")
    path = "/" + made["url"].split("/", 3)[3]
    browser = Browser(app)
    assert browser.post(path, path, password=PASSWORD, again=PASSWORD).status_code == 303
    assert browser.get("/").status_code == 200
    assert link().exit_code == 0
    assert [user.name for user in access.users()] == ["operator"]


def test_link_when_the_name_is_nobodys_says_who_there_is_and_makes_nobody(link: Any, access: Access) -> None:
    """A slip of the finger would otherwise be one more operator."""
    access.add_user("ada", "viewer")
    done = link("adda")
    assert done.exit_code == 1
    assert "'adda'" in done.stderr
    assert "ada. " in done.stderr
    assert "--role viewer" in done.stderr
    assert [user.name for user in access.users()] == ["ada"]


def test_link_when_a_role_is_given_makes_that_user_and_changes_no_other(link: Any, access: Access) -> None:
    assert link("vic", "--role", "viewer").exit_code == 0
    assert access.user("vic") is not None
    assert [user.role for user in access.users()] == ["viewer"]
    assert link("vic", "--role", "operator").exit_code == 1
    assert link("bob", "--role", "boss").exit_code == 1
    assert link("vic\n", "--role", "viewer").exit_code == 1
    assert [(user.name, user.role) for user in access.users()] == [("vic", "viewer")]


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "x" * 81])
def test_token_when_its_name_is_not_one_printable_line_is_refused(access: Access, name: str) -> None:
    """`sixbot token list` shows it, and `audit` says who did what by it."""
    with pytest.raises(AccessError, match="one line"):
        access.create_token(name, ["read"])
    assert access.tokens() == []
