"""The documented way of driving it: plain redis-cli against the running workers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.clock import rfc3339
from tests.servers.exchange import ExchangeServer
from tests.servers.stack import ON, Stack
from tests.support import eventually


def redis_cli(stack: Stack, *words: str) -> str:
    if shutil.which("redis-cli") is None:
        if os.environ.get("CI"):
            pytest.fail("redis-cli is missing (redis-tools)")
        pytest.skip("redis-cli is missing (redis-tools)")
    url = stack.server.url.replace("://:", "://default:")
    run = ["redis-cli", "--no-auth-warning", "-u", url, *words]
    return subprocess.run(run, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def test_trading_when_switched_by_redis_cli_starts_tells_and_stops(stack: Stack) -> None:
    stack.start("emergency", "trading", "heartbeat")
    first = json.loads(redis_cli(stack, "GET", "trading_settings"))
    assert first["enabled"] is False
    assert first["updated_by"] == "backend_init"
    assert redis_cli(stack, "SET", "trading_settings", ON) == "OK"
    stack.await_status("active", True)
    bought = stack.trade_until(1, "filled", AAPL=0.08)[0]
    assert (bought["ticker"], bought["side"], bought["qty"]) == ("AAPL", "buy", 1)
    assert bought["total_value"] == pytest.approx(bought["price"])
    stack.await_status("trades_today", 1)
    status = json.loads(redis_cli(stack, "GET", "trading_status"))
    assert status["total_volume"] == pytest.approx(bought["total_value"])
    assert status["worker_pid"] == stack.processes["trading"].pid
    assert status["applied"]["settings"]["strategy"] == "CONSERVATIVE"
    eventually(lambda: json.loads(redis_cli(stack, "GET", "portfolio_positions")), what="the position to show")
    positions = json.loads(redis_cli(stack, "GET", "portfolio_positions"))
    assert [(p["ticker"], p["qty"], p["side"]) for p in positions] == [("AAPL", "1", "long")]
    redis_cli(stack, "SET", "trading_settings", '{"enabled": false}')
    stack.await_status("active", False)
    assert stack.await_stopped()["reason"] == "emergency_stop"
    stack.predict(MSFT=0.08)
    orders = len(stack.trades())
    eventually(lambda: stack.status("next_run") is None)
    assert len(stack.trades()) == orders
    applied = json.loads(redis_cli(stack, "GET", "trading_status"))["applied"]
    assert applied["settings"]["enabled"] is False
    assert applied["settings"]["max_position_per_trade"] == 1
    eventually(lambda: (stack.json("system_status") or {}).get("worker_running") is True, what="a health report")
    health = json.loads(redis_cli(stack, "GET", "system_status"))
    assert {type(health[name]) for name in ("uptime_seconds", "memory_usage_mb")} == {int}
    assert isinstance(health["cpu_usage_percent"], int | float)
    assert set(health["components"]["redis"]) == {"state", "latency_ms", "checked_at"}


def test_risk_when_set_by_redis_cli_is_in_force_at_the_next_decision(stack: Stack) -> None:
    stack.start("emergency", "trading")
    redis_cli(
        stack,
        "SET",
        "risk_settings",
        '{"daily_notional_cap": 10000, "max_position_per_ticker": 3, "cooldown_minutes": 30, "note": "mine"}',
    )
    redis_cli(stack, "SET", "trading_settings", ON)
    stack.trade_until(1, "filled", AAPL=0.08)
    redis_cli(stack, "SET", "risk_settings", '{"daily_notional_cap": 1, "cooldown_minutes": 0}')

    def denied() -> bool:
        stack.predict(MSFT=0.08)
        cycle = stack.status("last_cycle") or {}
        return any("DAILY_NOTIONAL_CAP" in d for d in cycle.get("denied", []))

    eventually(denied, what="the new cap to deny")
    assert len(stack.trades()) == 1
    assert stack.status("applied")["risk"]["daily_notional_cap"] == 1


def test_stop_when_orders_rest_cancels_them_at_the_venue_and_proves_it(
    resting: Stack, exchange: ExchangeServer
) -> None:
    resting.start("emergency", "trading")
    resting.set("risk_settings", '{"cooldown_minutes": 0, "max_trades_per_run": 5}')
    redis_cli(resting, "SET", "trading_settings", ON)
    resting.trade_until(3, "submitted", AAPL=0.08, MSFT=0.08, NVDA=0.08)
    assert len(exchange.engine.working()) == 3
    redis_cli(resting, "SET", "trading_settings", '{"enabled": false}')
    report = resting.await_stopped("emergency_stop")
    assert exchange.engine.working() == []
    assert (report["orders_found"], report["orders_canceled"], report["orders_unconfirmed"]) == (3, 3, 0)
    assert report["accounts"]["default"]["trader"] == "acknowledged"
    eventually(lambda: len(resting.trades("canceled")) == 3, what="the log to show the cancels")
    eventually(lambda: resting.redis.scard("orders:open") == 0, what="the book to show them")


def test_installations_when_prefixed_share_a_server_and_nothing_else(
    stack: Stack, exchange: ExchangeServer, tmp_path: Path
) -> None:
    stack.start("emergency", "trading")
    home = tmp_path / "paper"
    home.mkdir()
    other = Stack(home, stack.server, stack.environment | {"SIXBOT_HOME": str(home), "SIXBOT_KEY_PREFIX": "paper:"})
    try:
        for name in ("emergency", "trading"):
            other.launch(name)
        eventually(lambda: other.json("paper:trading_status"), what="the other installation's status")
        other.set("paper:trading_settings", ON)
        eventually(lambda: (other.json("paper:trading_status") or {}).get("active") is True)

        def traded() -> bool:
            now = rfc3339(datetime.now(UTC))
            other.set("paper:predictions", json.dumps({"AAPL": {"change_pct": 0.08, "time": now}}))
            return any(t["status"] == "filled" for t in other.json("paper:trades_log") or [])

        eventually(traded, what=f"a trade: {other.json('paper:trading_status')}")
        assert stack.status("active") is False
        assert stack.trades() == []
        assert len(exchange.engine.book.orders) == 1
        strangers = [k for k in stack.redis.scan_iter() if not k.startswith(b"paper:") and b"order:" in k]
        assert strangers == []
    finally:
        other.close()
