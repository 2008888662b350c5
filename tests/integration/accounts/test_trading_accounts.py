"""Trading for several accounts: in one process, in one for each, and with one account's venue away."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from typing import Any

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


def test_status_when_there_are_several_accounts_shows_each(installation: Installation) -> None:
    stack = installation.stack
    for name in [name for name in stack.alive() if name.startswith("trading-")]:
        stack.kill(name)
    installation.turn_on("emergency", "trading", "heartbeat")

    def sixbot(*words: str) -> Any:
        command = [sys.executable, "-m", "worker", *words, "--json"]
        done = subprocess.run(command, env=stack.environment, capture_output=True, timeout=60, check=False)
        return json.loads(done.stdout)

    def shown() -> bool:
        status = sixbot("status")
        pids = {name: stack.processes[name].pid for name in ("trading", "emergency")}
        rows = [(row["venue"], row["mode"], *(row[name] == pids[name] for name in pids)) for row in status["accounts"]]
        venues = [("simulated", "simulated"), ("simulated", "simulated"), ("alpaca", "paper")]
        return rows == [(*venue, True, True) for venue in venues] and status["healthy"]

    eventually(shown, 60, what=f"every account is traded and guarded: {sixbot('status')}")
    components = stack.json("system_status")["components"]
    assert {components[name]["state"] for name in ("venue", "venue:b", "venue:stocks", "alpaca")} == {"ok"}
    found = {row["name"]: row["detail"] for row in sixbot("doctor")}
    assert (found["account b"], found["account stocks"]) == ("simulated, simulated", "alpaca, paper")
