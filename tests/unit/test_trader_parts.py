"""The trader's small parts: what it asks the emergency worker for, and what other threads leave it."""

from __future__ import annotations

import queue

import pytest

from shared.clock import SystemClock
from worker.trading.bots.pipeline import Crossing
from worker.trading.halt import LOSS, MISMATCH, HaltRequest
from worker.trading.inbox import Inbox
from worker.trading.pulse import AccountPulse


@pytest.fixture
def pulse() -> AccountPulse:
    return AccountPulse("default", SystemClock())


def test_halt_when_a_second_reason_comes_the_first_stands_until_it_is_over(pulse: AccountPulse) -> None:
    halt = HaltRequest(pulse, SystemClock())
    halt.ask(LOSS, "lost 5 today")
    halt.ask(MISMATCH, "AAPL: 1 here, 2 there")
    assert pulse.extra["halt"]["reason"] == LOSS
    halt.withdraw(MISMATCH)
    assert "halt" in pulse.extra
    halt.withdraw(LOSS)
    assert "halt" not in pulse.extra


def test_reducing_when_the_drift_is_over_is_no_longer_shown(pulse: AccountPulse) -> None:
    halt = HaltRequest(pulse, SystemClock())
    halt.reducing("AAPL: 1 here, 2 there")
    assert pulse.extra == {"reducing": "AAPL: 1 here, 2 there"}
    halt.reducing("")
    assert pulse.extra == {}


def test_inbox_when_woken_often_does_not_fill_with_wakes() -> None:
    inbox = Inbox()
    for _ in range(10):
        inbox.wake()
    assert [inbox.take(0.001), inbox.take(0.001)] == [None, None]
    with pytest.raises(queue.Empty):
        inbox.take(0.001)


def test_present_when_taking_one_in_fails_leaves_the_others_there() -> None:
    """Redis may go away in the middle of it: a decision that was not looked at is not lost."""
    first, second = Crossing("AAPL", 1.0, 0), Crossing("MSFT", 1.0, 0)
    inbox = Inbox()
    inbox.put(first)
    inbox.put(second)
    assert next(inbox.present()) is first
    assert inbox.take(0.001) is second
