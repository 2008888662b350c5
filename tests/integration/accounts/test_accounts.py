"""Three accounts in one installation: each is traded, cancelled and proven, whatever the others' venues do."""

from __future__ import annotations

import json
import signal
from decimal import Decimal
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.integration.accounts.conftest import COUNT, NAMES, Installation
from tests.servers.stack import OFF, ON
from tests.support import eventually
from worker.cli.main import app

ALL_STOPPED = dict.fromkeys(NAMES, "STOPPED")
B_GOES_ON = {**ALL_STOPPED, "b": "STOPPING"}


@pytest.mark.parametrize("trader", ["well", "frozen"])
def test_stop_when_three_accounts_work_cancels_and_proves_each(installation: Installation, trader: str) -> None:
    """One process trades them all, so that ending it for one account counts for the others."""
    installation.working()
    stack = installation.stack
    if trader == "frozen":
        stack.signal("trading", signal.SIGSTOP)
    stack.set("trading_settings", OFF)
    eventually(lambda: installation.states() == ALL_STOPPED, what=f"stopped: {installation.rows()}")
    report = stack.await_stopped("emergency_stop")
    assert installation.left() == 0
    rows = report["accounts"]
    assert {(row["orders_found"], row["orders_canceled"]) for row in rows.values()} == {(COUNT, COUNT)}
    assert (report["orders_found"], report["orders_canceled"], report["orders_unconfirmed"]) == (9, 9, 0)
    assert report["first_cancel_ms"] == min(row["first_cancel_ms"] for row in rows.values())
    assert [rows[name]["venue"] for name in NAMES] == ["simulated", "simulated", "alpaca"]
    assert not installation.armed()
    if trader == "frozen":
        assert stack.processes["trading"].wait(30) == -signal.SIGKILL
        assert any(row["trader"].startswith("killed process") for row in rows.values())


@pytest.mark.parametrize("fault", ["mute", "dead"])
def test_stop_when_one_venue_of_three_fails_proves_the_others_at_once_and_that_one_when_it_is_back(
    installation: Installation, fault: str
) -> None:
    installation.working()
    stack, states, rows = installation.stack, installation.states, installation.rows
    installation.break_other(fault)
    stack.set("trading_settings", OFF)
    eventually(lambda: states() == B_GOES_ON and rows()["b"]["unread"], what=f"the other two: {rows()}")
    assert not installation.exchange.engine.working()
    assert not installation.broker.open_ids()
    report = stack.json("stop_report")
    assert (report["state"], report["finished_at"]) == ("STOPPING", None)
    assert not any(rows()[name]["errors"] for name in ("default", "stocks"))
    stack.set("trading_settings", ON)  # nothing resumes into a stop that goes on at one of the venues
    installation.mend_other()
    eventually(lambda: states() == ALL_STOPPED, what=f"all: {rows()}")
    assert installation.left() == 0
    assert stack.json("stop_report")["state"] == "STOPPED"
    assert rows()["b"]["orders_found"] == COUNT
    eventually(installation.armed, what="the resume, once all are proven")


def test_stop_when_emergency_restarts_goes_on_with_the_account_that_was_not_proven_only(
    installation: Installation,
) -> None:
    """What the owner has placed by hand at a venue that was proven is not cancelled again."""
    installation.working()
    stack, states, rows = installation.stack, installation.states, installation.rows
    installation.break_other("mute")
    stack.set("trading_settings", OFF)
    eventually(lambda: states() == B_GOES_ON, what=f"the other two: {rows()}")

    def remembered() -> bool:
        run = stack.home / "run"
        files = [json.loads((run / f"emergency-{name}.json").read_text()) for name in NAMES]
        return [file["proven"] for file in files] == [True, False, True]

    eventually(remembered, what="the memories")
    stack.kill("emergency")
    by_hand = installation.broker.foreign_order()["id"]
    installation.mend_other()
    stack.start("emergency")
    eventually(lambda: states() == ALL_STOPPED, what=f"the rest of the stop: {rows()}")
    assert not installation.other.engine.working()
    assert installation.broker.open_ids() == [by_hand]
    installation.broker.orders[by_hand]["status"] = "canceled"


def test_stop_when_one_of_ours_appears_later_at_one_venue_reopens_that_account(installation: Installation) -> None:
    installation.working()
    stack, rows = installation.stack, installation.rows
    stack.set("trading_settings", OFF)
    eventually(lambda: installation.states() == ALL_STOPPED and not installation.left(), what=f"stopped: {rows()}")
    cancels = sum(a.cancels for a in installation.exchange.arrivals)
    installation.place(installation.other, count=1)
    eventually(lambda: rows()["b"]["orders_canceled"] == COUNT + 1, what=f"it is cancelled and reported: {rows()}")
    assert stack.await_stopped()["orders_canceled"] == 3 * COUNT + 1
    assert installation.left() == 0
    assert sum(a.cancels for a in installation.exchange.arrivals) == cancels


def test_trading_when_one_account_has_no_venue_trades_the_others_and_tells_positions_of_each(
    installation: Installation,
) -> None:
    stack = installation.stack
    installation.break_other("dead")
    installation.broker.held["MSFT"] = (Decimal(3), Decimal(300))
    installation.exchange.set_price("AAPL", Decimal(100))
    installation.turn_on()
    stack.trade_until(1, "filled", AAPL=0.2)

    def told(account: str, field: str) -> Any:
        return (stack.json("trading_status") or {}).get("accounts", {}).get(account, {}).get(field, "untold")

    eventually(lambda: "venue does not answer" in str(told("b", "last_error")), what="what is wrong with the third")
    eventually(lambda: (stack.status("mode"), told("stocks", "mode")) == ("paper", "paper"), what="the modes")

    def held() -> set[tuple[str, str]]:
        return {(row["account"], row["ticker"]) for row in stack.json("portfolio_positions") or []}

    eventually(lambda: held() == {("default", "AAPL"), ("stocks", "MSFT")}, what=f"rows of each: {held()}")
    installation.mend_other()
    eventually(lambda: told("b", "last_error") is None, what="the third one recovers")
    assert all(stack.redis.exists(f"lease:account:{name}") for name in ("default", "b", "stocks"))


def test_trading_when_a_process_for_one_account_runs_beside_trades_it_alone(installation: Installation) -> None:
    """Two processes, each with its own account; the one for all takes what is free, and over when the other ends."""
    stack = installation.stack
    if "trading" in stack.alive():
        stack.kill("trading")
    stack.start("trading-b")
    stack.start("trading")
    mine, its = stack.processes["trading"].pid, stack.processes["trading-b"].pid

    def served() -> dict[str, int]:
        accounts = (stack.json("trading_status") or {}).get("accounts", {})
        return {name: row.get("worker_pid") for name, row in accounts.items()}

    eventually(lambda: served() == {"b": its, "stocks": mine}, what=f"each its own: {served()}")
    eventually(lambda: stack.status("worker_pid") == mine, what="the default")
    stack.kill("trading-b")
    eventually(lambda: served() == {"b": mine, "stocks": mine}, what=f"the other takes over: {served()}")


def sixbot(installation: Installation, *words: str) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(app, list(words), env=installation.stack.environment)


@pytest.mark.parametrize("worker", ["trading", "emergency"])
def test_worker_when_the_account_is_unknown_lists_those_that_are(installation: Installation, worker: str) -> None:
    done = sixbot(installation, "worker", worker, "--account", "nope")
    assert done.exit_code == 2
    assert "no account is called 'nope': choose from default, b, stocks" in done.stderr


def test_status_when_there_are_several_accounts_shows_each(installation: Installation) -> None:
    stack = installation.stack
    installation.turn_on("emergency", "trading", "heartbeat")

    def shown() -> bool:
        status = json.loads(sixbot(installation, "status", "--json").stdout)
        pids = {name: stack.processes[name].pid for name in ("trading", "emergency")}
        rows = [(row["venue"], row["mode"], *(row[name] == pids[name] for name in pids)) for row in status["accounts"]]
        venues = [("simulated", "simulated"), ("simulated", "simulated"), ("alpaca", "paper")]
        return rows == [(*venue, True, True) for venue in venues] and status["healthy"]

    eventually(shown, 60, what=f"every account is traded and guarded: {stack.json('system_status')}")
    components = stack.json("system_status")["components"]
    assert {components[name]["state"] for name in ("venue", "venue:b", "venue:stocks", "alpaca")} == {"ok"}
    found = {row["name"]: row["detail"] for row in json.loads(sixbot(installation, "doctor", "--json").stdout)}
    assert (found["account b"], found["account stocks"]) == ("simulated, simulated", "alpaca, paper")


def test_stop_when_emergency_guards_one_account_only_leaves_the_others_alone(
    installation: Installation,
) -> None:
    stack, run = installation.stack, installation.stack.home / "run"
    if "emergency" in stack.alive():
        stack.kill("emergency")
    installation.turn_on("emergency-b")

    def told() -> Any:
        return (stack.json("trading_status") or {}).get("accounts", {}).get("b", {}).get("state")

    eventually(lambda: told() == "ACTIVE", what="its own status")
    installation.place(installation.exchange)
    installation.place(installation.other)
    (run / "STOP").touch()
    eventually(lambda: installation.states() == {"b": "STOPPED"}, what=f"stopped: {installation.rows()}")
    assert not installation.other.engine.working()
    assert len(installation.exchange.engine.working()) == COUNT
    assert json.loads((run / "emergency-b.json").read_text())["latch"]["source"] == "stop_file"
