"""The last word on an order that the venue does not know is a person's."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.servers.alpaca import AlpacaServer
from tests.servers.stack import ON, Stack
from tests.support import eventually


def sixbot(stocks: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "worker", "orders", *words]
    return subprocess.run(command, env=stocks.environment, capture_output=True, text=True, timeout=60, check=False)


def test_absent_order_when_resolved_by_hand_frees_its_ticker(stocks: Stack, broker: AlpacaServer) -> None:
    broker.lie("POST /v2/orders", (429, '{"message": "rate limit exceeded"}'))
    stocks.start("emergency", "trading", UNKNOWN_RESOLVE_SECONDS="1")
    stocks.set("trading_settings", ON)
    name = stocks.trade_until(1, "unknown", AAPL=0.08)[0]["client_order_id"]
    early = sixbot(stocks, "resolve", name)
    assert early.returncode == 2
    eventually(lambda: stocks.redis.hget(f"order:{name}", "state") == b"ABSENT", what="the order to be absent")
    assert [row["state"] for row in json.loads(sixbot(stocks, "list", "--json").stdout)] == ["ABSENT"]
    assert sixbot(stocks, "resolve", name, "--absent").returncode == 0
    assert stocks.redis.hget(f"order:{name}", "state") == b"NOT_SENT"
    stocks.trade_until(1, "filled", AAPL=0.08)
    again = sixbot(stocks, "resolve", name, "--absent")
    assert again.returncode == 1
    assert "NOT_SENT" in again.stderr
