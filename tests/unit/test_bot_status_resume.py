"""What a bot's status carries over from the process before."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.bots import default_bot
from shared.clock import ManualClock, rfc3339
from shared.store import Store
from tests.builders import NOW
from worker.core.bots import BotManager
from worker.trading.bots.documents import BotDocument
from worker.trading.bots.pipeline import Lane
from worker.trading.bots.status import BotStatus, Shown


class _NoModel:
    current = None
    problem = "none"


class _Runner:
    """As much of a runner as a status looks at."""

    def __init__(self) -> None:
        self.manager = BotManager(default_bot(7), lambda _effect: "x")
        self.last_denial = ""


def told(store: Store, left: object) -> object:
    """The total that a new process writes after the old one has left that status."""
    store.put_json("bot:7:status", left)
    status = BotStatus(store, "default", ManualClock(NOW), lambda _kind, **_fields: None)
    status.resume(7)
    document = BotDocument(default_bot(7), "", None)
    shown = Shown(document, _Runner(), Lane(default_bot(7), _NoModel()), {}, 0)  # type: ignore[arg-type]
    status.publish({7: document}, lambda _bot_id: shown)
    found = store.get_json("bot:7:status")
    assert isinstance(found, dict)
    return found["unprotected_seconds_total"]


@pytest.mark.parametrize(("quantity", "total"), [("10", 95.5), ("0", 5.5)])
def test_unprotected_seconds_when_a_position_was_open_count_the_time_without_a_trader(
    store: Store, quantity: str, total: float
) -> None:
    """Nobody watched its stop-loss meanwhile."""
    dead_since = rfc3339(NOW - timedelta(seconds=90))
    positions = [{"quantity": quantity}]
    left = {"unprotected_seconds_total": 5.5, "positions": positions, "updated_at": dead_since}
    assert told(store, left) == total


@pytest.mark.parametrize(
    "left",
    [
        {"unprotected_seconds_total": 10**400},
        {"unprotected_seconds_total": -1},
        {"unprotected_seconds_total": True, "positions": 5},
        {"positions": [{"quantity": "NaN"}, {"quantity": 3}, 4], "updated_at": "yesterday"},
        {"positions": [{"quantity": "1"}], "updated_at": 10**400},
        {"positions": [{"quantity": "1"}], "updated_at": rfc3339(NOW + timedelta(days=1))},
        [],
    ],
)
def test_unprotected_seconds_when_the_status_was_mangled_begin_anew(store: Store, left: object) -> None:
    assert told(store, left) == 0
