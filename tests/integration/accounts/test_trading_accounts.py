"""Trading for several accounts: in one process, in one for each, and with one account's venue away."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

import pytest

from tests.integration.accounts.conftest import Installation
from tests.support import eventually


def test_trading_when_one_account_has_no_venue_trades_the_others_and_tells_positions_of_each(
    installation: Installation,
) -> None:
    stack = installation.stack
    installation.break_other("dead")
    installation.broker.held["MSFT"] = (Decimal(3), Decimal(300))
    installation.exchange.set_price("AAPL", Decimal(100))
    stack.set("risk_settings", '{"daily_notional_cap": 0, "cooldown_minutes": 0}')
    stack.environment["CYCLE_SECONDS"] = "0.5"
    installation.turn_on()
    stack.trade_until(1, "filled", AAPL=0.2)
    status = stack.json("trading_status")
    assert "simulated venue does not answer" in status["accounts"]["b"]["last_error"]
    assert status["mode"] == "paper"
    assert status["accounts"]["stocks"]["mode"] == "paper"

    def held() -> set[tuple[str, str]]:
        return {(row["account"], row["ticker"]) for row in stack.json("portfolio_positions") or []}

    eventually(lambda: held() == {("default", "AAPL"), ("stocks", "MSFT")}, what=f"rows of each: {held()}")
    installation.mend_other()
    eventually(
        lambda: stack.json("trading_status")["accounts"]["b"]["last_error"] is None, what="the third one recovers"
    )
    assert all(stack.redis.exists(f"lease:account:{name}") for name in ("default", "b", "stocks"))


def test_trading_when_a_process_for_one_account_runs_beside_trades_it_alone(installation: Installation) -> None:
    """Two processes, each with its own account; the one for all takes what is free, and over when the other ends."""
    stack = installation.stack
    if "trading" in stack.alive():
        stack.kill("trading")
    stack.start("trading-b", "trading-stocks")
    stack.start("trading")
    pids = {name: stack.processes[f"trading-{name}"].pid for name in ("b", "stocks")}

    def served() -> dict[str, int]:
        accounts = (stack.json("trading_status") or {}).get("accounts", {})
        return {name: row.get("worker_pid") for name, row in accounts.items()}

    eventually(lambda: served() == pids, what=f"each its own: {served()}")
    eventually(lambda: stack.status("worker_pid") == stack.processes["trading"].pid, what="the default")
    stack.kill("trading-b")
    eventually(
        lambda: served() == {**pids, "b": stack.processes["trading"].pid}, what=f"the other takes over: {served()}"
    )


@pytest.mark.parametrize("worker", ["trading", "emergency"])
def test_worker_when_the_account_is_unknown_lists_those_that_are(installation: Installation, worker: str) -> None:
    command = [sys.executable, "-m", "worker", "worker", worker, "--account", "nope"]
    environment = installation.stack.environment
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "no account is called 'nope': choose from default, b, stocks" in done.stderr
