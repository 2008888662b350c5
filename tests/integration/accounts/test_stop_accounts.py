"""A stop over three accounts: each is cancelled and proven by itself, whatever the others' venues do."""

from __future__ import annotations

import json
import signal

import pytest

from tests.integration.accounts.conftest import COUNT, NAMES, Installation
from tests.servers.stack import OFF, ON
from tests.support import eventually

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
    eventually(lambda: states() == {"b": "STOPPED"}, what=f"the rest of the stop: {rows()}")
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


def test_stop_when_emergency_guards_one_account_only_leaves_the_others_alone_and_its_latch_counts_for_all(
    installation: Installation,
) -> None:
    stack, run = installation.stack, installation.stack.home / "run"
    if "emergency" in stack.alive():
        stack.kill("emergency")
    installation.turn_on("emergency-b")
    eventually(lambda: stack.json("trading_status")["accounts"]["b"]["state"] == "ACTIVE", what="its own status")
    installation.place(installation.exchange)
    installation.place(installation.other)
    (run / "STOP").touch()
    eventually(lambda: installation.states() == {"b": "STOPPED"}, what=f"stopped: {installation.rows()}")
    assert not installation.other.engine.working()
    assert len(installation.exchange.engine.working()) == COUNT
    stack.signal("emergency-b", signal.SIGTERM)
    assert stack.processes["emergency-b"].wait(30) == 0
    (run / "STOP").unlink()
    stack.redis.flushall()
    stack.start("emergency")
    eventually(lambda: stack.json("stop_latch"), what="the latch")
    stack.set("trading_settings", ON)
    eventually(lambda: stack.status("active") is False, what="no resume")
    assert not installation.armed()
