"""Trading at Alpaca through the real library, the venue's ledger as the oracle."""

from __future__ import annotations

import json
import signal
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tests.servers.alpaca import AlpacaServer
from tests.servers.forked import sixbot
from tests.servers.stack import FREE_RISK, ON, Stack
from tests.support import eventually

LIES = {
    "timeout": "slow",
    "reset": "reset",
    "429": (429, '{"message": "rate limit exceeded"}'),
    "500": 500,
    "502": 502,
    "504": 504,
    "garbage": "!?",
    "empty": "",
    "html": "<html></html>",
    "no_id": "{}",
}


def running(stocks: Stack, **settings: str) -> None:
    stocks.start("emergency", "trading", **settings)
    stocks.set("trading_settings", ON)
    stocks.await_status("active", True)


def test_round_trip_when_predictions_turn_buys_then_sells_and_the_figures_agree(
    stocks: Stack, broker: AlpacaServer
) -> None:
    running(stocks)
    stocks.trade_until(1, "filled", AAPL=0.08)
    broker.set_price("AAPL", "103.50")

    def sold() -> bool:
        stocks.predict(AAPL=-0.08)
        return len(stocks.trades("filled")) == 2

    eventually(sold, what=f"the sale: {stocks.json('trades_log')} {stocks.json('trading_status')}")
    stocks.set("trading_settings", '{"enabled": false}')
    stocks.await_status("active", False)
    eventually(lambda: (stocks.json("stats") or {}).get("wins") == 1, what=f"the win: {stocks.json('stats')}")
    stats = stocks.json("stats")
    assert (stats["total_pnl"], stats["today_pnl"], stats["win_rate"]) == (3.5, 3.5, 100.0)
    assert broker.cash == Decimal("100003.50")
    assert set(broker.posts.values()) == {1}
    assert len(broker.orders) == 2
    eventually(lambda: stocks.json("portfolio_positions") == [], what="no position to be left")
    stocks.await_status("trades_today", 2)
    assert stocks.status("total_volume") == 203.5
    closed = stocks.redis.zrange("positions:closed", 0, -1)
    row = stocks.redis.hgetall(f"position:{closed[0].decode()}")
    assert (row[b"status"], row[b"realized_pnl"], row[b"is_winning"]) == (b"CLOSED", b"3.50", b"true")


@pytest.mark.parametrize("lie", LIES)
def test_order_when_the_venue_lies_after_accepting_is_found_and_never_sent_again(
    stocks: Stack, broker: AlpacaServer, lie: str
) -> None:
    broker.lie("POST /v2/orders", LIES[lie])
    running(stocks)
    accepted = lie != "429"

    def settled() -> bool:
        stocks.predict(AAPL=0.08)
        entries = stocks.trades()
        return bool(entries) and entries[0]["status"] == ("filled" if accepted else "unknown")

    eventually(settled, what=f"the order's fate: {stocks.json('trades_log')} {stocks.json('trading_status')}")
    stocks.set("trading_settings", '{"enabled": false}')
    stocks.await_status("active", False)
    entries = stocks.trades()
    assert broker.requests["POST /v2/orders"] == len(entries)
    assert max(broker.posts.values(), default=1) == 1
    if accepted:
        eventually(lambda: [p["qty"] for p in stocks.json("portfolio_positions") or []] == ["1"], what="the position")
    else:
        assert broker.orders == {}
        assert len(entries) == 1


def test_order_when_refused_is_an_entry_with_its_reason_and_a_failure(stocks: Stack, broker: AlpacaServer) -> None:
    broker.lie("POST /v2/orders", (403, '{"code": 40310000, "message": "new orders are rejected by user request"}'))
    running(stocks)
    entry = stocks.trade_until(1, "rejected", AAPL=0.08)[0]
    assert "new orders are rejected by user request" in entry["reason"]
    assert stocks.json("stats")["failed_trades"] == 1


def test_trader_when_killed_between_send_and_answer_finds_its_order_at_start(
    stocks: Stack, broker: AlpacaServer
) -> None:
    broker.lie("POST /v2/orders", "slow")
    running(stocks)
    eventually(lambda: stocks.predict(AAPL=0.08) or broker.posts, what="the order to arrive")
    stocks.kill("trading")
    name = next(iter(broker.posts))
    assert stocks.redis.hget(f"order:{name}", "state") == b"INTENT"
    stocks.set("predictions", "{}")
    stocks.start("trading")
    eventually(lambda: stocks.trades("filled"), what=f"the order's fate: {stocks.json('trades_log')}")
    assert dict(broker.posts) == {name: 1}
    eventually(lambda: [p["qty"] for p in stocks.json("portfolio_positions") or []] == ["1"], what="the position")


def test_second_trader_when_the_account_is_traded_refuses_to_start(stocks: Stack) -> None:
    running(stocks)
    second = sixbot(stocks.environment, "worker", "trading")
    assert second.returncode == 2
    assert f"held by process {stocks.processes['trading'].pid}" in second.stderr
    assert stocks.alive() == ["emergency", "trading"]


def test_second_trader_when_on_another_host_waits_for_the_lease(stocks: Stack, broker: AlpacaServer) -> None:
    """Another SIXBOT_HOME shares no lock file, as another host would not."""
    running(stocks)
    elsewhere = stocks.home / "elsewhere"
    elsewhere.mkdir()
    other = Stack(elsewhere, stocks.server, stocks.environment | {"SIXBOT_HOME": str(elsewhere)})
    try:
        other.start("trading")
        eventually(lambda: "waiting_for_lease" in other.output("trading"), what="the second trader to wait")
        stocks.trade_until(1, "filled", AAPL=0.08)
        assert set(broker.posts.values()) == {1}
        stocks.kill("trading")
        stocks.trade_until(2, "filled", MSFT=0.08)
        assert set(broker.posts.values()) == {1}
    finally:
        other.close()


def test_market_when_closed_keeps_active_and_trades_nothing(stocks: Stack, broker: AlpacaServer) -> None:
    broker.is_open = False
    running(stocks)
    stocks.predict(AAPL=0.08)
    stocks.await_status("market_open", False)
    assert stocks.status("active") is True
    tomorrow = (datetime.now(UTC) + timedelta(hours=16)).isoformat()
    eventually(lambda: (stocks.status("next_run") or "") > tomorrow, what=f"no run before: {stocks.status('next_run')}")
    assert broker.posts == {}
    broker.is_open = True
    stocks.trade_until(1, "filled", AAPL=0.08)  # one wrong answer of the clock must not cost the day
    times = [f[b"time"].decode() for key in ("events", "equity") for _, f in stocks.redis.xrange(key)]
    times += [at for name in stocks.redis.keys("order:*") for at, _ in json.loads(stocks.redis.hget(name, "history"))]
    assert times
    assert all(at.endswith("Z") for at in times), times


def test_position_when_held_by_someone_else_is_shown_and_its_symbol_left_alone(
    stocks: Stack, broker: AlpacaServer
) -> None:
    broker.held["AAPL"] = (Decimal(10), Decimal(1000))
    foreign = broker.foreign_order("MSFT")
    running(stocks)

    def left_alone() -> bool:
        stocks.predict(AAPL=0.08, MSFT=0.08)
        denied = (stocks.status("last_cycle") or {}).get("denied", [])
        return any(d.startswith("AAPL: SYMBOL_FROZEN") for d in denied) and any(d.startswith("MSFT: ") for d in denied)

    eventually(left_alone, what=f"both to be left alone: {stocks.status('last_cycle')}")
    assert broker.posts == {}
    eventually(lambda: [p["ticker"] for p in stocks.json("portfolio_positions") or []] == ["AAPL"], what="its row")
    assert stocks.redis.hget(f"order:{foreign['id']}", "bot_id") == b"EXTERNAL"


def test_emergency_when_dead_means_that_nothing_trades(stocks: Stack, broker: AlpacaServer) -> None:
    running(stocks)
    stocks.kill("emergency")
    eventually(lambda: not stocks.redis.exists("trading_armed"), what="the arming to lapse")
    sent = len(broker.posts)
    for _ in range(3):
        stocks.predict(AAPL=0.08, MSFT=0.08)
        time.sleep(0.5)  # three cycles' worth of time in which nothing must happen
    assert len(broker.posts) == sent
    stocks.start("emergency")
    stocks.trade_until(1, "filled", AAPL=0.08)


def test_stop_when_the_trader_is_frozen_cancels_and_kills_it(stocks: Stack, broker: AlpacaServer) -> None:
    broker.fill_market_orders = False
    running(stocks)
    stocks.trade_until(2, "submitted", AAPL=0.08, MSFT=0.08)
    stocks.signal("trading", signal.SIGSTOP)
    stocks.set("trading_settings", '{"enabled": false}')
    report = stocks.await_stopped("emergency_stop")
    assert broker.open_ids() == []
    assert report["orders_canceled"] == 2
    assert report["accounts"]["default"]["trader"] == f"killed process {stocks.processes['trading'].pid}"
    stocks.set("risk_settings", FREE_RISK)
    stocks.start("trading")
    eventually(lambda: len(stocks.trades("canceled")) == 2, what="recovery to see the cancels")


def test_redis_when_it_dies_and_comes_back_is_survived_without_a_restart(stocks: Stack, broker: AlpacaServer) -> None:
    running(stocks, REDIS_LOST_STOP_SECONDS="60")
    stocks.trade_until(1, "filled", AAPL=0.08)
    stocks.server.stop()
    time.sleep(1.5)  # long enough for every worker to notice, shorter than a lost Redis
    stocks.server.start()
    stocks.trade_until(2, "filled", MSFT=0.08)
    assert sorted(stocks.alive()) == ["emergency", "trading"]
    assert set(broker.posts.values()) == {1}


def test_redis_when_lost_for_long_stops_at_the_venue_and_latches(stocks: Stack, broker: AlpacaServer) -> None:
    broker.fill_market_orders = False
    running(stocks, REDIS_LOST_STOP_SECONDS="2")
    stocks.trade_until(2, "submitted", AAPL=0.08, MSFT=0.08)
    stocks.server.stop()
    eventually(lambda: broker.open_ids() == [], what="the entries to be cancelled without Redis")
    stocks.server.start()
    stocks.await_stopped("redis_lost")
    stocks.await_status("active", False)
    stocks.await_status("stop_reason", "redis_lost")
    eventually(lambda: (stocks.json("risk_settings") or {}).get("emergency_stop_active") is True, what="the flag")
    assert stocks.json("stop_latch")["reason"] == "redis_lost"
    stocks.set("trading_settings", ON)
    time.sleep(1)  # an `enabled` alone must not lift a latch
    assert stocks.status("active") is False
    stocks.set("risk_settings", '{"emergency_stop_active": false}')
    stocks.await_status("active", True)


def test_start_when_book_and_venue_are_apart_without_an_explanation_stops_and_latches(
    stocks: Stack, broker: AlpacaServer
) -> None:
    running(stocks)
    stocks.trade_until(1, "filled", AAPL=0.08)
    stocks.kill("trading")
    broker.held.clear()  # a position gone at the venue, with no order that would say how
    stocks.start("trading")
    report = stocks.await_stopped("reconcile_mismatch")
    assert "AAPL: 1 in the book, 0 at the venue" in report["detail"]
    assert report["policy"] == "cancel_entries"
    stocks.await_status("active", False)
    eventually(lambda: "AAPL" in str(stocks.status("last_error")), what="the drift to be told")
    eventually(lambda: (stocks.json("stop_latch") or {}).get("reason") == "reconcile_mismatch", what="the latch")


def test_drift_when_it_appears_while_running_is_acted_on_when_seen_twice(stocks: Stack, broker: AlpacaServer) -> None:
    running(stocks)
    stocks.trade_until(1, "filled", AAPL=0.08)
    eventually(lambda: stocks.json("portfolio_positions"), what="the position")
    stocks.set("predictions", "{}")
    broker.held.clear()
    eventually(lambda: "REDUCING" in str(stocks.status("last_error")), what="the drift to be told")
    stocks.await_status("state", "REDUCING")

    def denied() -> bool:
        stocks.predict(MSFT=0.08)
        return any("REDUCING" in d for d in (stocks.status("last_cycle") or {}).get("denied", []))

    eventually(denied, what="entries to be denied")
    assert stocks.status("active") is True
    assert broker.requests["POST /v2/orders"] == 1
