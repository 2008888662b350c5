"""Code, ``.env.example`` and the reference pages say the same: what differs from them is found here, not by a user."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from shared.accounts import AccountVariables
from shared.bots import BotSettings
from shared.config import Config
from shared.documents import RiskSettings, TradingSettings
from shared.keys import KEYS, Keys
from worker.cli.main import app

ROOT = Path(__file__).parents[2]
PREFIX = "prefix:"
EMPTY = "empty"


def table_rows(page: str, width: int, section: str = "") -> list[tuple[str, ...]]:
    """The cells of all rows of that many columns whose first cell is one name in backticks, in the page's order.

    With ``section``, only those under that heading.
    """
    rows = []
    text = (ROOT / "docs/reference" / page).read_text()
    if section:
        text = text.partition(f"\n### {section}\n")[2].partition("\n##")[0]
    for line in text.splitlines():
        cells = tuple(cell.strip() for cell in line.strip().strip("|").split(" | "))
        if line.startswith("| `") and len(cells) == width:
            rows.append(cells)
    return rows


def variables() -> dict[str, str]:
    """Every variable with its default, in the order of the code; those of an account with NAME for its name."""
    found = {}
    for name, field in Config.model_fields.items():
        if name == "nested_accounts":
            own = AccountVariables.model_fields
            found |= {
                f"ACCOUNTS__NAME__{n.upper()}": written("" if f.is_required() else f.default) for n, f in own.items()
            }
        else:
            found[name.upper()] = written(field.default)
    return found


def written(value: object) -> str:
    """A default as one writes it in an environment file."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, tuple) else str(value)


def example_entries() -> dict[str, tuple[str, str]]:
    """Variable: (its value, the comment line above it), from ``.env.example``; an account's stand commented out."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    found = {}
    for above, line in zip(["", *lines], lines, strict=False):
        name, equals, value = re.sub("^# (?=ACCOUNTS__)", "", line).partition("=")
        if equals and re.fullmatch(r"[A-Z0-9_]+", name):
            assert name not in found, f"{name} stands twice in .env.example"
            found[name] = (value, above)
    return found


def test_env_example_when_compared_with_the_code_names_every_variable_with_its_default() -> None:
    """A variable that nobody can find does not exist; a wrong default is worse."""
    assert {name: value for name, (value, _) in example_entries().items()} == variables()


def test_env_example_when_copied_as_it_stands_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Config.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    assert Config(_env_file=ROOT / ".env.example") == Config(_env_file=None)


def test_settings_page_when_compared_with_the_code_has_every_variable_with_its_default() -> None:
    rows = [(name, default) for name, _, default, _ in table_rows("settings.md", 4)]
    assert rows == [(f"`{name}`", f"`{default}`" if default else EMPTY) for name, default in variables().items()]


def test_settings_page_when_compared_with_env_example_says_the_same_of_each() -> None:
    """One sentence a variable, with its unit and default, in both places."""
    comments = {name: comment for name, (_, comment) in example_entries().items()}
    for name, unit, default, meaning in table_rows("settings.md", 4):
        bare = name.strip("`")
        assert comments[bare] == f"# {meaning}. Unit: {unit}. Default: {default.strip('`')}", bare


def test_keys_page_when_compared_with_the_code_declares_every_key_alike() -> None:
    expected = [
        (f"`{k.name}`", k.type, str(k.ttl) if k.ttl else "–", k.writer, k.reader, k.meaning)
        for contract in (True, False)
        for k in KEYS
        if k.contract is contract
    ]
    assert table_rows("keys.md", 6) == expected


def test_keys_page_when_compared_with_the_documents_names_every_field_of_both() -> None:
    """The defaults that the page gives are those in force."""
    told = {
        name: default.strip("`")
        for section in ("`trading_settings`", "`risk_settings`")
        for names, _, default in table_rows("keys.md", 3, section)
        for name in re.findall(r"`(\w+)`", names)
    }
    documents = {**TradingSettings().plain(), **RiskSettings().plain()}
    expected = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in documents.items()
        if name not in {"last_updated", "updated_by"}
    }
    assert told == expected


def test_keys_page_when_compared_with_a_bot_names_every_field_with_its_default() -> None:
    rows = {name.strip("`"): default.strip("`") for name, _, default in table_rows("keys.md", 3, "`bot:{id}`")}
    fields = BotSettings.model_fields
    assert list(rows) == list(fields)
    expected = {
        name: str(field.default).lower() if isinstance(field.default, bool) else str(field.default) or EMPTY
        for name, field in fields.items()
        if name != "bot_id"
    }
    assert {name: rows[name] for name in expected} == expected


def built_names() -> set[str]:
    """Every name that ``Keys`` can build, with ``{}`` for each part that is filled in."""
    keys = Keys(PREFIX)
    names = {value for name, value in vars(keys).items() if name != "prefix"}
    for name, method in inspect.getmembers(keys, inspect.ismethod):
        if not name.startswith("_"):
            names.add(method(*["{}"] * len(inspect.signature(method).parameters)))
    return names


def test_keys_when_declared_have_a_builder_each_and_no_builder_builds_another() -> None:
    """An undeclared key would be in no document, no access rule and no backup."""
    declared = {PREFIX + re.sub(r"\{\w+\}", "{}", key.name) for key in KEYS}
    assert built_names() == declared


def test_keys_when_declared_stand_once() -> None:
    names = [key.name for key in KEYS]
    assert len(names) == len(set(names))


def test_dependencies_page_when_compared_with_the_project_gives_every_package_a_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[<>=~! \[]", requirement)[0] for requirement in project["dependencies"]]
    rows = table_rows("../dependencies.md", 3)
    assert [row[0] for row in rows] == [f"`{name}`" for name in names]
    assert all(why and why_not for _, why, why_not in rows)


def leaves(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, with the words that call it."""
    for name, inner in getattr(command, "commands", {}).items():
        if hasattr(inner, "commands"):
            yield from leaves(inner, f"{path} {name}")
        else:
            yield f"{path} {name}", inner


def test_cli_page_when_compared_with_the_commands_has_every_command_with_its_options() -> None:
    rows = {
        " ".join(word for word in row[0].strip("`").split() if word == word.lower() and word[0].isalpha()): row
        for row in table_rows("cli.md", 3)
    }
    commands = dict(leaves(typer.main.get_command(app), "sixbot"))
    assert set(rows) == set(commands)
    for path, command in commands.items():
        options = {o for p in command.params if p.param_type_name == "option" for o in (*p.opts, *p.secondary_opts)}
        assert set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", rows[path][2])) == options, path


def test_pages_when_they_link_to_files_of_the_project_find_them() -> None:
    """A dead link in the page on safety is a step that nobody takes."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert not dead
