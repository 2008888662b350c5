"""``sixbot stop-drill`` as a user runs it."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.servers.exchange import ExchangeServer
from tests.servers.forked import sixbot
from tests.servers.stack import ON, Stack
from tests.support import eventually
from worker.drill import CHANNELS


def drill(stack: Stack, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return sixbot({**stack.environment, **settings}, "stop-drill", *words)


def test_drill_when_held_by_any_channel_measures_the_stop_and_leaves_everything_as_it_was(
    stack: Stack, exchange: ExchangeServer
) -> None:
    stack.start("emergency", "trading", "heartbeat", CYCLE_SECONDS="600")
    stack.set("trading_settings", ON)
    stack.set("risk_settings", '{"cooldown_minutes": 7, "mine": 1}')
    stack.await_status("active", True)
    for channel in CHANNELS:
        eventually(lambda: stack.redis.exists("trading_armed"), what="armed")
        report = held(stack, channel)
        assert exchange.engine.working() == []
        assert stack.redis.get("trading_settings") == ON.encode()
        assert stack.redis.get("risk_settings") == b'{"cooldown_minutes": 7, "mine": 1}'
        stack.await_status("active", True)
        assert not (stack.home / "run" / "STOP").exists()
    assert json.loads((stack.home / "drills" / "last-passed.json").read_text())["at"] == report["at"]

    def shown() -> bool:
        health = (stack.json("system_status") or {}).get("components", {})
        return bool(health.get("last_drill", {}).get("at") == report["at"])

    eventually(shown, what="system_status to show it")


def held(stack: Stack, channel: str) -> dict[str, Any]:
    """The report of a drill that passed."""
    done = drill(stack, "--channel", channel, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["passed"] is True
    assert report["channel"] == channel
    assert 0 < report["first_cancel_seen_ms"] <= report["empty_seen_ms"]
    assert (report["stop_report"]["orders_found"], report["stop_report"]["state"]) == (report["orders"], "STOPPED")
    assert report["restored"] == "trading resumed, documents as before"
    return report


def test_drill_when_the_account_is_live_or_trading_is_off_refuses_and_places_nothing(
    stack: Stack, exchange: ExchangeServer
) -> None:
    live = {"VENUE": "alpaca", "ALPACA_PAPER": "false", "I_UNDERSTAND_LIVE": "yes"}
    refused = drill(stack, **live)
    assert refused.returncode == 1
    assert "LIVE" in refused.stderr
    stack.start("emergency")
    refused = drill(stack)
    assert refused.returncode == 1
    assert "not active" in refused.stderr
    assert exchange.engine.book.orders == {}
    assert not (stack.home / "drills").exists()
