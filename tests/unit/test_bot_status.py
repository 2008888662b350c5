"""``bot:{id}:status`` of many bots: a bounded number a look, and none is forgotten."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from shared.bots import default_bot
from shared.clock import ManualClock
from shared.store import Store
from tests.builders import NOW, switches
from tests.unit.test_bot_orders import Bench
from worker.replay.bots import FixedModel
from worker.trading.bots.documents import BotDocument
from worker.trading.bots.pipeline import Lane
from worker.trading.bots.status import BotStatus, Shown, blocked_by

AT_ONCE, MANY = 4, 10


class Crowd:
    """Bots of which everything changes all the time; ``written`` counts by bot how often it was told."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.written, self.looks = ManualClock(NOW), Counter[int](), 0
        self.documents = {n: BotDocument(default_bot(n), "one", None) for n in range(2, MANY + 2)}
        self.status = BotStatus(store, "default", self.clock, _silent)
        self._runner = Bench().bot
        put: Callable[[str, object], None] = store.put_json

        def counted(key: str, value: object) -> None:
            self.written[int(key.split(":")[1])] += 1
            put(key, value)

        monkeypatch.setattr(store, "put_json", counted)
        monkeypatch.setattr("worker.trading.bots.status.MOST_AT_ONCE", AT_ONCE)

    def show(self, bot_id: int) -> Shown:
        document = self.documents[bot_id]
        lane = Lane(document.value, FixedModel(None))  # type: ignore[arg-type]
        return Shown(document, self._runner, lane, {"state": "live", "trades": self.looks}, 0)

    def look(self) -> int:
        """One turn of the trader's loop, a quarter of a second after the last; how many it wrote."""
        before = self.written.total()
        self.looks += 1
        self.clock.advance(0.25)
        self.status.publish({n: d for n, d in self.documents.items() if self.status.due(n, d)}, self.show)
        return self.written.total() - before


@pytest.fixture
def crowd(store: Store, monkeypatch: pytest.MonkeyPatch) -> Crowd:
    return Crowd(store, monkeypatch)


def test_status_when_more_bots_change_than_are_written_at_once_gives_each_its_turn(crowd: Crowd) -> None:
    written = [crowd.look() for _ in range(40)]
    assert max(written) == AT_ONCE
    counts = [crowd.written[n] for n in crowd.documents]
    assert min(counts) >= 8  # once a second, as a bot alone has it
    assert max(counts) - min(counts) <= 1


def test_status_when_a_document_changes_in_a_crowd_tells_it_with_the_next_look(crowd: Crowd) -> None:
    for _ in range(7):
        crowd.look()
    last = MANY + 1
    crowd.documents[last] = BotDocument(default_bot(last), "two", None)
    before = crowd.written[last]
    crowd.look()
    assert crowd.written[last] == before + 1


def test_status_when_all_documents_change_at_once_tells_every_bot_in_turn(crowd: Crowd) -> None:
    for version in range(30):
        for n in crowd.documents:
            crowd.documents[n] = BotDocument(default_bot(n), str(version), None)
        crowd.look()
    counts = [crowd.written[n] for n in crowd.documents]
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(
    ("settings", "risk", "on", "drift", "said"),
    [
        ({"enabled": True}, {}, True, "", None),
        ({"enabled": False}, {}, False, "", ("trading_off", "trading_settings.enabled is not true")),
        ({"enabled": True}, {"emergency_stop_active": True}, False, "", ("trading_off", "emergency_stop_active")),
        ({"enabled": True}, {}, False, "", ("trading_off", "not armed")),
        ({"enabled": True}, {"reduce_only": True}, True, "", ("running", "reduce_only")),
        ({"enabled": True}, {}, True, "AAPL: 1 here, 2 there", ("running", "REDUCING: AAPL: 1 here, 2 there")),
    ],
)
def test_status_when_a_switch_keeps_bots_from_entering_says_which(
    store: Store,
    settings: dict[str, object],
    risk: dict[str, object],
    on: bool,
    drift: str,
    said: tuple[str, str] | None,
) -> None:
    """It said `running` under a master switch that was OFF, and nobody saw why nothing happened."""
    document = BotDocument(default_bot(7).model_copy(update={"enabled": True}), "one", None)
    lane = Lane(document.value, FixedModel(lambda _row: 0.0))  # type: ignore[arg-type]
    blocked = blocked_by(switches(risk, **settings), on=on, drift=drift)
    shown = Shown(document, Bench().bot, lane, {"state": "live", "ready": True}, 0, blocked)
    BotStatus(store, "default", ManualClock(NOW), _silent).publish({7: document}, lambda _: shown)
    found = store.get_json(store.keys.bot_status(7))
    assert found["state"] == ("running" if said is None else said[0])
    assert found["entries_blocked_by"] is None if said is None else said[1] in found["entries_blocked_by"]


def test_status_when_many_bots_can_run_nowhere_tells_them_in_turn_too(crowd: Crowd) -> None:
    """A thousand documents of a vanished account must not keep a stop-loss waiting."""
    written = []
    for _ in range(8):
        before = crowd.written.total()
        crowd.clock.advance(0.25)
        crowd.status.publish_lost(crowd.documents)
        written.append(crowd.written.total() - before)
    assert written == [AT_ONCE, AT_ONCE, MANY - 2 * AT_ONCE, 0, 0, 0, 0, 0]
    assert set(crowd.written) == set(crowd.documents)


def _silent(_kind: str, /, **_fields: object) -> None:
    return None
