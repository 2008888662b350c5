"""What waits for a trader's loop is bounded: a decision may be dropped and counted, nothing else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from worker.trading.bots.pipeline import Crossing, Decision
from worker.trading.worker import Trader

DECISION = Decision(7, "AAPL", 0, 0.9, 100.0, 100.0, 0, 0)


def test_inbox_when_the_loop_is_held_up_drops_decisions_and_keeps_all_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.trading.worker.MOST_WAITING", 3)
    missed: list[Decision] = []
    parts = SimpleNamespace(bots=SimpleNamespace(missed=missed.append))
    trader = Trader(cast("Any", parts), cast("Any", None), lambda: None)
    for _ in range(5):
        trader.post(DECISION)
    trader.post(Crossing("AAPL", 99.0, 0))
    trader.update(cast("Any", "an order's update"))
    assert (len(missed), trader._inbox.qsize()) == (2, 5)
