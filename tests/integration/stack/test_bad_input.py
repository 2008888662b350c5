"""Keys mangled by hand: nobody dies, trading is OFF with the reason, the value stays, the next good SET resumes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.exchange import exchange_server
from tests.servers.stack import FREE_RISK, ON, Stack, simulated_environment
from tests.support import RedisServer, eventually
from tests.unit.test_documents import MANGLED

WORKERS = ["emergency", "heartbeat", "trading"]
FOR_RISK = {
    "not_json": b"x",
    "null": b"null",
    "a_list": b"[]",
    "string_for_true": b'{"emergency_stop_active": "true"}',
    "nan": b'{"daily_notional_cap": NaN}',
    "1e400": b'{"daily_notional_cap": 1e400}',
    "negative": b'{"daily_notional_cap": -1}',
    "huge_string": b'{"x": "' + b"a" * 200_000 + b'"}',
    "duplicate_keys": b'{"max_trades_per_run": 1, "max_trades_per_run": 2}',
    "deep": b"[" * 10_000,
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home, data = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("redis")
    server = RedisServer(data)
    server.start()
    with exchange_server(tmp_path_factory.mktemp("exchange")) as venue:
        stack = Stack(home, server, simulated_environment(venue))
        stack.set("risk_settings", FREE_RISK)
        stack.start(*WORKERS)
        yield stack
        stack.close()
    server.stop()


def resume(stack: Stack) -> None:
    stack.redis.delete("trading_settings", "risk_settings", "predictions")
    stack.set("risk_settings", FREE_RISK)
    stack.set("trading_settings", ON)
    stack.await_status("active", True)
    eventually(lambda: stack.status("last_error") is None, what=f"the error to be gone: {stack.status('last_error')}")


def refused(stack: Stack, key: str) -> None:
    stack.await_status("active", False)
    stack.await_status("stop_reason", "invalid_settings")
    eventually(lambda: key in str(stack.status("last_error")), what=f"{key} in {stack.status('last_error')}")
    assert sorted(stack.alive()) == WORKERS


@pytest.mark.parametrize("raw", MANGLED.values(), ids=MANGLED.keys())
def test_trading_settings_when_mangled_means_off_until_the_next_good_one(running: Stack, raw: bytes) -> None:
    resume(running)
    running.set("trading_settings", raw)
    refused(running, "trading_settings")
    assert running.redis.get("trading_settings") == raw
    running.set("trading_settings", ON)
    running.await_status("active", True)


@pytest.mark.parametrize("raw", FOR_RISK.values(), ids=FOR_RISK.keys())
def test_risk_settings_when_mangled_means_off_until_the_next_good_one(running: Stack, raw: bytes) -> None:
    resume(running)
    running.set("risk_settings", raw)
    refused(running, "risk_settings")
    assert running.redis.get("risk_settings") == raw
    running.set("risk_settings", FREE_RISK)
    running.await_status("active", True)


@pytest.mark.parametrize("key", ["trading_settings", "risk_settings"])
def test_settings_when_of_a_wrong_redis_type_mean_off_and_stay(running: Stack, key: str) -> None:
    resume(running)
    running.redis.delete(key)
    running.redis.rpush(key, "mangled")
    refused(running, key)
    assert running.redis.lrange(key, 0, -1) == [b"mangled"]


def test_trading_settings_when_deleted_mean_off_and_stay_deleted(running: Stack) -> None:
    resume(running)
    running.redis.delete("trading_settings")
    refused(running, "trading_settings")
    assert not running.redis.exists("trading_settings")


@pytest.mark.parametrize("raw", [b"x", b"null", b"[]", b'"true"', b"[" * 10_000, b'{"a": 1, "a": 2}', None])
@pytest.mark.parametrize(
    "key", ["trading_status", "system_status", "portfolio_positions", "trades_log", "stats", "predictions"]
)
def test_other_documents_when_mangled_cost_nobody_anything(running: Stack, key: str, raw: bytes | None) -> None:
    resume(running)
    with running.redis.pipeline(transaction=True) as pipe:  # or a worker may write it in between
        pipe.delete(key)
        if raw is None:
            pipe.rpush(key, "mangled")
        else:
            pipe.set(key, raw)
        pipe.execute()
    running.set("trading_settings", '{"enabled": false}')
    running.await_status("active", False)
    running.set("trading_settings", ON)
    running.await_status("active", True)
    assert sorted(running.alive()) == WORKERS


def test_trading_when_everything_was_mangled_before_still_trades(running: Stack) -> None:
    resume(running)
    running.trade_until(1, "filled", AAPL=0.08)
    for key in ("trades_log", "stats", "portfolio_positions"):
        running.set(key, "mangled")
    done = len(running.trades("filled"))
    running.trade_until(done + 1, "filled", MSFT=0.08)
    assert isinstance(running.json("stats"), dict)
