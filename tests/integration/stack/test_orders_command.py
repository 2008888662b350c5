"""The last word on an order that the venue does not know is a person's."""

from __future__ import annotations

import json

from tests.servers.alpaca import AlpacaServer
from tests.servers.forked import sixbot
from tests.servers.stack import ON, Stack
from tests.support import eventually


def test_intent_when_found_at_start_freezes_its_ticker_and_is_taken_up_however_late_it_shows(
    stocks: Stack, broker: AlpacaServer
) -> None:
    """Killed before the answer; the venue does not show the order for so long that a person gives it up."""
    broker.lie("POST /v2/orders", "slow")
    stocks.start("emergency", "trading")
    stocks.set("trading_settings", ON)
    eventually(lambda: stocks.predict(AAPL=0.08) or broker.posts, what="the order to arrive")
    name = next(iter(broker.posts))
    broker.hidden.add(name)
    stocks.kill("trading")
    assert stocks.redis.hget(f"order:{name}", "state") == b"INTENT"
    stocks.start("trading", UNKNOWN_RESOLVE_SECONDS="3")

    def frozen() -> bool:
        stocks.predict(AAPL=0.08)
        denied = (stocks.status("last_cycle") or {}).get("denied", [])
        return any(d.startswith("AAPL: SYMBOL_FROZEN: an order in AAPL is ") for d in denied)

    eventually(frozen, 60, what=f"the ticker to be frozen: {stocks.json('trading_status')}")
    stocks.set("predictions", "{}")
    eventually(lambda: stocks.redis.hget(f"order:{name}", "state") == b"ABSENT", 60, what="the order to be absent")
    assert sixbot(stocks.environment, "orders", "resolve", name, "--absent").returncode == 0
    broker.hidden.clear()
    eventually(lambda: stocks.redis.hget(f"order:{name}", "state") == b"FILLED", 60, what="the order after all")
    eventually(lambda: stocks.redis.hget(f"position:{name}", "quantity") == b"1", what="its position")
    assert dict(broker.posts) == {name: 1}
    stocks.await_status("state", "ACTIVE")


def test_absent_order_when_resolved_by_hand_frees_its_ticker(stocks: Stack, broker: AlpacaServer) -> None:
    broker.lie("POST /v2/orders", (429, '{"message": "rate limit exceeded"}'))
    stocks.start("emergency", "trading", UNKNOWN_RESOLVE_SECONDS="1")
    stocks.set("trading_settings", ON)
    name = stocks.trade_until(1, "unknown", AAPL=0.08)[0]["client_order_id"]
    early = sixbot(stocks.environment, "orders", "resolve", name)
    assert early.returncode == 2
    eventually(lambda: stocks.redis.hget(f"order:{name}", "state") == b"ABSENT", what="the order to be absent")
    assert [row["state"] for row in json.loads(sixbot(stocks.environment, "orders", "list", "--json").stdout)] == [
        "ABSENT"
    ]
    assert sixbot(stocks.environment, "orders", "resolve", name, "--absent").returncode == 0
    assert stocks.redis.hget(f"order:{name}", "state") == b"NOT_SENT"
    stocks.trade_until(1, "filled", AAPL=0.08)
    again = sixbot(stocks.environment, "orders", "resolve", name, "--absent")
    assert again.returncode == 1
    assert "NOT_SENT" in again.stderr
