"""What waits for a trader's loop is bounded: a decision may be dropped and counted, nothing else."""

from __future__ import annotations

from typing import cast

import pytest

from worker.core.types import OrderUpdate
from worker.trading.bots.pipeline import Crossing, Decision
from worker.trading.inbox import Inbox

DECISION = Decision(7, "AAPL", 0, 0.9, 100.0, 100.0, 0, 0)


def test_inbox_when_the_loop_is_held_up_drops_decisions_and_keeps_all_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.trading.inbox.MOST_WAITING", 3)
    inbox = Inbox()
    assert [inbox.offer(DECISION) for _ in range(5)] == [True, True, True, False, False]
    inbox.put(Crossing("AAPL", 99.0, 0))
    inbox.put(cast("OrderUpdate", "an order's update"))
    assert len(list(inbox.present())) == 5
