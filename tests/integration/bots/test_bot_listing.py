"""What a person sees of a bot whose document, list entry or account is not as it should be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from shared.config import load_config
from shared.store import Store
from tests.servers.bots import BotStack
from tests.support import eventually
from worker.cli.main import app
from worker.doctor import examine


def told(stack: BotStack, bot_id: int, error: str) -> dict[str, Any]:
    """The status once its error begins so."""
    eventually(
        lambda: str(stack.bot_status(bot_id).get("config_error")).startswith(error),
        what=f"{error} of bot {bot_id}",
        tell=lambda: str(stack.bot_status(bot_id)),
    )
    return stack.bot_status(bot_id)


def test_status_when_a_bots_document_or_account_is_gone_says_so_and_goes_with_the_bot(stack: BotStack) -> None:
    """A bot that ran is what people look at: its status must not stay as it was when it ran."""
    stack.bot(7)
    stack.bot(8)
    stack.bot(10, symbol="NOSUCH")
    stack.redis.sadd("bots", 9)
    stack.start("emergency", "trading")
    assert told(stack, 9, "document: bot:9 is missing")["state"] == "no_document"
    for bot_id in (7, 8):
        eventually(lambda bot_id=bot_id: stack.bot_status(bot_id).get("enabled"), what="the bots to run")
    eventually(
        lambda: "no trade of NOSUCH" in str(stack.bot_status(10).get("feed")),
        what="the symbol that nobody trades",
        tell=lambda: str(stack.bot_status(10)),
    )
    stack.bot(7, account="nowhere")
    status = told(stack, 7, "account: no account is called 'nowhere'")
    assert (status["state"], status["config"]["account"]) == ("no_account", "nowhere")
    stack.redis.delete("bot:8")
    status = told(stack, 8, "document: bot:8 is missing")
    assert (status["state"], status["enabled"]) == ("no_document", False)
    stack.bot(8)
    eventually(lambda: stack.bot_status(8).get("enabled"), what="bot 8 to run again")
    for bot_id in (7, 9):
        stack.redis.srem("bots", bot_id)
        eventually(lambda bot_id=bot_id: stack.json(f"bot:{bot_id}:status") is None, what="the status to go")


def test_bots_when_a_document_is_not_listed_or_a_name_is_no_number_are_named_where_people_look(
    store: Store, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bot that was SET and not SADDed does not run, and "07" is not bot 7: SREM bots 7 would not end it."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    store.client.set("bot:9", json.dumps({"enabled": True}))
    store.client.set("bot:9:status", "{}")
    store.client.set("bot:07", "{}")
    store.client.sadd("bots", "07", "x", "-1")
    listed = CliRunner().invoke(app, ["bot", "list", "--json"])
    assert [row["bot_id"] for row in json.loads(listed.stdout)] == [1]
    assert "bot:9 is not in the set bots and does not run: SADD bots 9" in listed.stderr
    assert "'07' is no bot's number" in listed.stderr
    assert "SADD bots 9" in CliRunner().invoke(app, ["bot", "show", "9"]).stderr
    found = {f.name: f for f in examine(load_config()) if f.name == "bots"}["bots"]
    assert (found.state, "bot:9" in found.detail, "'x'" in found.detail) == ("warning", True, True)
    store.client.delete("bot:9", "bot:07")
    store.client.srem("bots", "07", "x", "-1")
    assert [f.state for f in examine(load_config()) if f.name == "bots"] == ["ok"]
    store.client.delete("bots")
    store.client.set("bots", "7")
    assert "SADD bots" in CliRunner().invoke(app, ["bot", "list"]).stderr
    assert [f.state for f in examine(load_config()) if f.name == "bots"] == ["failed"]
