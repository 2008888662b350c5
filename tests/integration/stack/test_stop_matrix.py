"""The stop with everything else broken: real workers, and the exchange's own book as the oracle."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.servers.alpaca import AlpacaServer
from tests.servers.bystanders import kill_all_of, mute_receiver, start_busy_jobs, start_web
from tests.servers.exchange import ExchangeServer, simulated_venue
from tests.servers.stack import OFF, ON, Stack
from tests.support import eventually
from worker.core import ids
from worker.core.types import Effect, OrderRequest, OrderType, Side, TimeInForce, VenueOrder
from worker.runtime import lock_is_held

COUNT = 5


def place(exchange: ExchangeServer, name: str, side: Side = Side.BUY, price: str | None = "1") -> VenueOrder:
    """One order at the venue; a limit of 1 rests, no price is a market order."""
    request = OrderRequest(
        name,
        "AAPL",
        side,
        Decimal(1),
        OrderType.MARKET if price is None else OrderType.LIMIT,
        TimeInForce.DAY,
        limit_price=None if price is None else Decimal(price),
    )
    with simulated_venue(exchange) as venue:
        return venue.submit(request, lambda: None)


def mint(number: int, effect: Effect = Effect.ENTRY) -> str:
    return ids.mint(effect, 1, f"{number:012d}")


def turn_on(stack: Stack, *workers: str, risk: str | None = None) -> None:
    stack.start(*(workers or ("emergency", "trading")), CYCLE_SECONDS="600")
    if risk is not None:
        stack.set("risk_settings", risk)
    stack.set("trading_settings", ON)
    stack.await_status("active", True)
    eventually(lambda: stack.redis.exists("trading_armed"), what="armed")


def working(stack: Stack, exchange: ExchangeServer, *workers: str) -> None:
    """Trading is on and orders of ours rest at the venue."""
    turn_on(stack, *workers)
    for number in range(COUNT):
        place(exchange, mint(number))
    assert len(exchange.engine.working()) == COUNT


def is_empty(exchange: ExchangeServer) -> bool:
    return exchange.engine.working() == []


def account(stack: Stack) -> dict[str, Any]:
    report = stack.json("stop_report")
    found: dict[str, Any] = report["accounts"]["default"] if isinstance(report, dict) else {}
    return found


def stop_file(stack: Stack) -> Path:
    return stack.home / "run" / "STOP"


@pytest.mark.parametrize("trader", ["frozen", "dead", "spinning"])
def test_stop_when_the_trader_does_not_answer_cancels_all_the_same_and_ends_it(
    stack: Stack, exchange: ExchangeServer, trader: str
) -> None:
    """Nothing that the trader does or does not do may keep the stop from its proof."""
    spinner = None
    if trader == "spinning":
        code = (
            "import sys; from pathlib import Path; from worker.runtime import AccountLock;"
            "AccountLock(Path(sys.argv[1]), 'default').acquire()\nwhile True: pass"
        )
        working(stack, exchange, "emergency")
        spinner = subprocess.Popen([sys.executable, "-c", code, str(stack.home / "run")])
        eventually(lambda: lock_is_held(stack.home / "run" / "account-default.lock"), what="the account's lock")
    else:
        working(stack, exchange)
        stack.signal("trading", signal.SIGSTOP if trader == "frozen" else signal.SIGKILL)
    try:
        stack.set("trading_settings", OFF)
        report = stack.await_stopped("emergency_stop")
        assert is_empty(exchange)
        assert (report["orders_found"], report["orders_canceled"]) == (COUNT, COUNT)
        told = account(stack)["trader"]
        assert told.startswith("killed process") if trader != "dead" else told == "none runs"
        holder = spinner or stack.processes["trading"]
        assert holder.wait(30) == -signal.SIGKILL
    finally:
        if spinner is not None:
            spinner.kill()
            spinner.wait(30)


def test_stop_when_the_jobs_worker_was_killed_in_the_middle_of_a_job_is_proven(
    stack: Stack, exchange: ExchangeServer
) -> None:
    """What goes through RQ may be late or lost, and a stop goes through none of it."""
    working(stack, exchange)
    with mute_receiver() as receiver:
        start_busy_jobs(stack, receiver)
        stack.kill("jobs")
        stack.set("trading_settings", OFF)
        report = stack.await_stopped("emergency_stop")
    assert is_empty(exchange)
    assert (report["orders_found"], report["orders_canceled"]) == (COUNT, COUNT)
    assert account(stack)["trader"] == "acknowledged"
    assert sorted(stack.alive()) == ["emergency", "trading"]


def test_stop_when_the_web_was_killed_is_proven(stack: Stack, exchange: ExchangeServer) -> None:
    working(stack, exchange)
    start_web(stack)
    kill_all_of(stack, "web")
    stack.set("trading_settings", OFF)
    report = stack.await_stopped("emergency_stop")
    assert is_empty(exchange)
    assert (report["orders_found"], report["orders_canceled"]) == (COUNT, COUNT)
    assert account(stack)["trader"] == "acknowledged"
    assert sorted(stack.alive()) == ["emergency", "trading"]


@pytest.mark.parametrize("redis", ["hung", "down", "full", "read_only"])
def test_stop_file_when_redis_does_not_work_cancels_at_the_venue_and_is_told_later(
    stack: Stack, exchange: ExchangeServer, redis: str
) -> None:
    working(stack, exchange)
    server = stack.server.process
    assert server is not None
    if redis == "hung":
        server.send_signal(signal.SIGSTOP)
    elif redis == "down":
        stack.server.stop()
    elif redis == "full":
        stack.redis.config_set("maxmemory", 1)
    else:
        stack.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    stop_file(stack).touch()
    eventually(lambda: is_empty(exchange), what="cancelled at the venue")
    if redis in {"full", "read_only"}:
        eventually(lambda: not stack.redis.exists("trading_armed"), what="nothing is armed")
    if redis == "hung":
        server.send_signal(signal.SIGCONT)
    elif redis == "down":
        stack.server.start()
    elif redis == "full":
        stack.redis.config_set("maxmemory", 256 * 2**20)
    else:
        stack.redis.execute_command("REPLICAOF", "NO", "ONE")
    report = stack.await_stopped("emergency_stop")
    assert report["source"] == "stop_file"
    assert report["orders_found"] == COUNT
    eventually(lambda: stack.json("stop_latch"), what="the latch to show")


def test_stop_when_redis_is_full_by_a_deleted_document_fences_and_cancels(
    stack: Stack, exchange: ExchangeServer
) -> None:
    """A full server refuses SET; DEL is what a person has left, and a missing document is OFF."""
    working(stack, exchange)
    stack.redis.config_set("maxmemory", 1)
    stack.redis.delete("trading_settings")
    eventually(lambda: is_empty(exchange), what="cancelled at the venue")
    eventually(lambda: not stack.redis.exists("trading_armed"), what="disarmed")
    stack.redis.config_set("maxmemory", 256 * 2**20)
    assert stack.await_stopped()["reason"] == "invalid_settings"
    eventually(lambda: account(stack)["fenced"], what="the epoch is raised as soon as it can be")


def test_stop_when_redis_is_flushed_cancels_latches_and_a_lone_switch_does_not_resume(
    stack: Stack, exchange: ExchangeServer
) -> None:
    working(stack, exchange)
    stack.redis.flushall()
    stack.await_stopped()
    assert is_empty(exchange)
    eventually(lambda: stack.json("stop_latch"), what="the latch to show")
    stack.set("trading_settings", ON)
    eventually(lambda: stack.status("active") is False and stack.redis.exists("trading_epoch"))
    assert not stack.redis.exists("trading_armed")


FAULTS: dict[str, tuple[int, str] | str] = {
    "429": (429, '{"message": "slow down"}'),
    "500": (500, "<html>upstream</html>"),
    "garbage": (200, "!?"),
    "mute": "mute",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_stop_when_the_venue_fails_says_stopping_until_it_is_read_and_empty(
    stack: Stack, exchange: ExchangeServer, fault: str
) -> None:
    working(stack, exchange)
    exchange.fail(FAULTS[fault])
    stack.set("trading_settings", OFF)
    eventually(lambda: account(stack).get("unread"), what=f"the venue is unread: {stack.json('stop_report')}")
    assert stack.json("stop_report")["state"] == "STOPPING"
    assert not stack.redis.exists("trading_armed")
    exchange.fail(None)
    report = stack.await_stopped("emergency_stop")
    assert is_empty(exchange)
    assert (report["orders_found"], report["orders_unconfirmed"]) == (COUNT, 0)
    assert account(stack)["errors"]


@pytest.mark.parametrize("fault", ["429", "mute"])
def test_stop_when_the_venue_takes_no_cancel_says_how_many_are_unconfirmed(
    stack: Stack, exchange: ExchangeServer, fault: str
) -> None:
    working(stack, exchange)
    exchange.fail(FAULTS[fault], spare_lists=True)
    stack.set("trading_settings", OFF)
    eventually(
        lambda: (stack.json("stop_report") or {}).get("orders_unconfirmed") == COUNT,
        what=f"{COUNT} unconfirmed: {stack.json('stop_report')}",
    )
    assert stack.json("stop_report")["state"] == "STOPPING"
    exchange.fail(None)
    report = stack.await_stopped("emergency_stop")
    assert is_empty(exchange)
    assert (report["orders_found"], report["orders_canceled"]) == (COUNT, COUNT)


def test_stop_when_others_have_orders_cancels_those_from_before_and_leaves_later_ones(
    stack: Stack, exchange: ExchangeServer
) -> None:
    working(stack, exchange)
    place(exchange, "by-hand-before")
    stack.set("trading_settings", OFF)
    assert stack.await_stopped()["orders_canceled"] == COUNT + 1
    place(exchange, "by-hand-after")
    place(exchange, mint(77))
    eventually(
        lambda: [o.client_order_id for o in exchange.engine.working()] == ["by-hand-after"],
        what="ours is cancelled by the watch after the stop, the owner's is not",
    )
    report = stack.await_stopped()
    assert len(report["accounts"]["default"]["foreign_after_stop"]) == 1


def test_stop_when_the_policy_is_cancel_entries_keeps_exits(stack: Stack, exchange: ExchangeServer) -> None:
    exchange.set_price("AAPL", Decimal(100))
    turn_on(stack, risk='{"on_stop": "cancel_entries"}')
    place(exchange, mint(0), price=None)
    eventually(lambda: "AAPL" in exchange.engine.book.holdings, what="a position")
    place(exchange, mint(1))
    place(exchange, mint(2, Effect.EXIT), Side.SELL, "900")
    stack.set("trading_settings", OFF)
    report = stack.await_stopped()
    assert [o.client_order_id for o in exchange.engine.working()] == [mint(2, Effect.EXIT)]
    assert report["policy"] == "cancel_entries"
    assert len(account(stack)["left_alone"]) == 1


def test_flatten_when_configured_closes_positions_after_the_proof(stack: Stack, exchange: ExchangeServer) -> None:
    exchange.set_price("AAPL", Decimal(100))
    turn_on(stack, risk='{"on_stop": "flatten"}')
    place(exchange, mint(0), price=None)
    eventually(lambda: "AAPL" in exchange.engine.book.holdings, what="a position")
    place(exchange, mint(1))
    stack.set("trading_settings", OFF)
    eventually(lambda: account(stack).get("flatten") == "CLOSED", what=f"flat: {stack.json('stop_report')}")
    report = stack.await_stopped("emergency_stop")
    assert report["positions_open"] == 0
    assert exchange.engine.book.holdings["AAPL"].qty == 0
    closing = [o for o in exchange.engine.book.orders.values() if (o.client_order_id or "").startswith("f-")]
    assert [(o.client_order_id, o.side) for o in closing] == [(f"f-{report['stop_id']}-AAPL-1", Side.SELL)]
    assert is_empty(exchange)


def queued(stocks: Stack, broker: AlpacaServer) -> str:
    """A flatten that waits for the open; returns the stop's id."""
    broker.held["AAPL"] = (Decimal(3), Decimal(300))
    broker.is_open = False
    turn_on(stocks, "emergency", risk='{"on_stop": "flatten"}')
    stocks.set("trading_settings", OFF)
    eventually(lambda: account(stocks).get("flatten") == "QUEUED", what=f"queued: {stocks.json('stop_report')}")
    report = stocks.await_stopped()
    assert report["positions_open"] == 1
    return str(report["stop_id"])


def test_flatten_when_the_market_is_closed_waits_for_the_open_across_a_restart(
    stocks: Stack, broker: AlpacaServer
) -> None:
    stop_id = queued(stocks, broker)
    stocks.kill("emergency")
    stocks.start("emergency")
    assert not broker.posts
    broker.is_open = True
    eventually(lambda: account(stocks).get("flatten") == "CLOSED", what=f"flat: {stocks.json('stop_report')}")
    assert dict(broker.posts) == {f"f-{stop_id}-AAPL-1": 1}
    assert broker.held["AAPL"][0] == 0


def test_flatten_when_refused_by_the_venue_is_tried_again_under_another_id(stocks: Stack, broker: AlpacaServer) -> None:
    broker.lie("POST /v2/orders", (403, '{"code": 40310000, "message": "rejected by user request"}'))
    stop_id = queued(stocks, broker)
    broker.is_open = True
    eventually(lambda: account(stocks).get("flatten") == "CLOSED", what=f"flat: {stocks.json('stop_report')}")
    assert dict(broker.posts) == {f"f-{stop_id}-AAPL-2": 1}


def test_flatten_when_the_answer_is_lost_sends_nothing_twice(stocks: Stack, broker: AlpacaServer) -> None:
    broker.lie("POST /v2/orders", "reset")
    stop_id = queued(stocks, broker)
    broker.is_open = True
    eventually(lambda: account(stocks).get("flatten") == "CLOSED", what=f"flat: {stocks.json('stop_report')}")
    assert dict(broker.posts) == {f"f-{stop_id}-AAPL-1": 1}
    assert broker.held["AAPL"][0] == 0


def test_flatten_when_trading_is_resumed_before_the_open_is_dropped(stocks: Stack, broker: AlpacaServer) -> None:
    queued(stocks, broker)
    stocks.set("trading_settings", ON)
    stocks.await_status("active", True)
    eventually(lambda: account(stocks).get("flatten") == "DROPPED", what="the report to say so")
    assert not broker.posts


def test_flatten_when_trading_is_resumed_while_emergency_is_dead_is_not_gone_on_with(
    stocks: Stack, broker: AlpacaServer
) -> None:
    queued(stocks, broker)
    stocks.kill("emergency")
    broker.is_open = True
    stocks.set("trading_settings", ON)
    stocks.start("emergency")
    stocks.await_status("active", True)
    assert not broker.posts
    assert broker.held["AAPL"][0] == 3


def test_latch_when_emergency_is_killed_and_redis_emptied_still_forbids_trading(
    stack: Stack, exchange: ExchangeServer
) -> None:
    working(stack, exchange)
    stop_file(stack).touch()
    stack.await_stopped("emergency_stop")
    stop_file(stack).unlink()
    stack.kill("emergency")
    stack.redis.flushall()
    stack.set("trading_settings", ON)
    stack.set("risk_settings", json.dumps({"cooldown_minutes": 1}))
    stack.start("emergency")
    eventually(lambda: stack.json("stop_latch"), what="the latch to show again")
    eventually(lambda: stack.status("stop_reason") == "emergency_stop", what="the reason to show again")
    assert not stack.redis.exists("trading_armed")
    assert stack.json("risk_settings")["emergency_stop_active"] is True


def test_dead_man_switch_when_everything_of_ours_is_dead_lets_the_venue_cancel_by_itself(
    stack: Stack, exchange: ExchangeServer
) -> None:
    """The one thing that still works when the host is gone; only a venue can do it."""
    stack.environment["DEAD_MAN_SWITCH_SECONDS"] = "3"
    working(stack, exchange)
    eventually(lambda: any(a.path == "/orders/cancel-after" for a in exchange.arrivals), what="the switch is armed")
    stack.kill("trading")
    stack.kill("emergency")
    eventually(lambda: is_empty(exchange), what="the venue cancels")


def test_dead_man_switch_when_the_trader_drains_is_taken_back(stack: Stack, exchange: ExchangeServer) -> None:
    stack.environment["DEAD_MAN_SWITCH_SECONDS"] = "3"
    turn_on(stack)
    eventually(lambda: any(a.path == "/orders/cancel-after" for a in exchange.arrivals), what="the switch is armed")
    stack.signal("trading", signal.SIGTERM)
    assert stack.processes["trading"].wait(30) == 0
    assert exchange.exchange.cancels_at is None


def test_stop_when_the_signal_comes_while_the_worker_starts_is_carried_out(
    stack: Stack, exchange: ExchangeServer
) -> None:
    """By default SIGUSR1 ends a process: the stop would be lost with it."""
    working(stack, exchange, "emergency")
    stack.kill("emergency")
    told = stack.home / "run" / "emergency-default.pid"
    told.unlink()
    stack.launch("emergency")
    eventually(lambda: told.exists() and told.read_text().strip(), what="its pid")
    stack.signal("emergency", signal.SIGUSR1)
    report = stack.await_stopped("emergency_stop")
    assert report["source"] == "signal"
    assert is_empty(exchange)
    assert stack.alive() == ["emergency"]
