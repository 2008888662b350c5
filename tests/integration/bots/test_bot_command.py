"""``sixbot bot``: documents by command, and one bot in the foreground."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from shared.store import Store
from tests.integration.bots.test_bots import held
from tests.servers.bots import BOT, BotStack
from tests.servers.forked import sixbot
from tests.servers.stack import ON
from tests.support import eventually
from worker.cli.main import app


class Foreground:
    """``sixbot bot run`` with its output in a file."""

    def __init__(self, stack: BotStack, *words: str) -> None:
        self.path = stack.home / "bot.out"
        with self.path.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "worker", "bot", "run", *words],
                env=stack.environment,
                stdout=output,
                stderr=subprocess.DEVNULL,
            )

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["event"] == kind]


@pytest.fixture
def foreground(stack: BotStack) -> Iterator[Foreground]:
    stack.start("emergency")
    stack.set("trading_settings", ON)
    fields = {k: v for k, v in BOT.items() if k not in {"symbol", "enabled"}}
    bot = Foreground(stack, "--bot-id", "7", "--symbol", "AAPL", "--config-json", json.dumps(fields))
    yield bot
    if bot.process.poll() is None:
        bot.process.kill()
    bot.process.wait(30)


def test_bot_run_when_in_the_foreground_trades_tells_each_event_as_a_line_and_drains(
    stack: BotStack, foreground: Foreground
) -> None:
    eventually(lambda: (stack.bot_status(7).get("model") or {"problem": 1})["problem"] is None, 90, what="the model")
    stack.market.warm_up()
    position = held(stack)
    assert foreground.lines()[0] | {"time": ""} == {
        "time": "", "event": "started", "bot_id": 7, "account": "default", "venue": "simulated", "mode": "simulated",
    }  # fmt: skip
    states = {("buy", "FILLED"), ("sell", "ACCEPTED")}
    eventually(lambda: states <= {(o["side"], o["state"]) for o in foreground.events("order")}, what="both orders told")
    assert stack.json("bot:7")["symbol"] == "AAPL"
    second = sixbot(stack.environment, "bot", "run", "--bot-id", "7")
    assert second.returncode == 1
    assert f"process {foreground.process.pid}" in second.stderr
    # another bot, where the account has its trader: refused, and not switched on behind that refusal
    for words in (["--bot-id", "8"], ["--bot-id", "8", "--config-json", '{"account": "nowhere"}']):
        refused = sixbot(stack.environment, "bot", "run", *words, "--symbol", "AAPL")
        assert refused.returncode != 0
    assert "'nowhere'" in refused.stderr
    assert (stack.json("bot:8"), stack.redis.sismember("bots", 8)) == (None, 0)
    # the lease goes to another host: whoever reads these lines is told
    stack.set("lease:account:default", "elsewhere/1/2-3#x")
    eventually(lambda: foreground.events("waiting_for_lease"), what="the loss of the lease to be told")
    assert foreground.events("waiting_for_lease")[0]["holder"] == "elsewhere/1/2-3#x"
    stack.redis.delete("lease:account:default")
    foreground.process.send_signal(signal.SIGTERM)
    assert foreground.process.wait(30) == 0
    assert foreground.lines()[-1]["event"] == "stopped"
    assert stack.json("bot:7:status")["positions"][0]["id"] == position["id"]  # left with its exit at the venue


def test_bot_commands_when_used_change_the_document_and_refuse_what_is_wrong(
    store: Store, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    runner = CliRunner()

    def bot(*words: str) -> Any:
        return runner.invoke(app, ["bot", *words])

    made = bot("create", "7", "--json", '{"symbol": "AAPL", "holding_time": 60}')
    assert (made.exit_code, json.loads(made.stdout)["holding_time"]) == (0, 60)
    again = bot("create", "7")
    assert (again.exit_code, "there is a bot 7 already" in again.stderr) == (1, True)
    wrong = bot("set", "7", "--json", '{"stop_loss_pct": 2}')
    assert (wrong.exit_code, "stop_loss_pct: " in wrong.stderr, "(got 2)" in wrong.stderr) == (1, True, True)
    assert json.loads(bot("enable", "7", "--json").stdout) == json.loads(bot("show", "7", "--json").stdout)
    assert "no trader" in bot("list").stdout
    long_ago = {"state": "running", "positions": [], "updated_at": "2025-01-01T00:00:00Z"}
    store.put_json("bot:7:status", long_ago)
    assert "running" not in bot("list").stdout
    rows = json.loads(bot("list", "--json").stdout)
    assert [(r["bot_id"], r["kind"], r["enabled"]) for r in rows] == [(1, "cycle", True), (7, "stream", True)]
    assert json.loads(bot("close", "7").stdout)["close_positions"] is True
    assert json.loads(bot("delete", "7", "--json").stdout) == {"deleted": 7}
    gone = bot("show", "7")
    assert (gone.exit_code, "there is no bot 7" in gone.stderr) == (1, True)
    assert bot("delete", "1").exit_code == 1
    assert store.client.xlen("audit") == 4
