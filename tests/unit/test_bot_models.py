"""The models of many bots: one that takes long, or fails, keeps no other waiting."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import structlog

from shared.bots import BotSettings
from shared.errors import StoreUnreachable
from tests.support import eventually
from worker.predictors.base import Loading
from worker.replay.bots import FixedModel
from worker.trading.bots.models import LARGE_BYTES, ModelLoader
from worker.trading.bots.pipeline import Lane

SMALL = 10


class Place:
    """A place whose model is loaded when the test says so."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self.current = None
        self.problem = "no model is loaded yet"
        self.loaded: tuple[int, int] | None = None

    def look(self, model_id: int, buy_class: int = 1) -> Loading | None:
        version = model_id, self._shelf.version.get(model_id, 0)
        if self.loaded == version:
            return None
        return Loading(self._shelf.sizes.get(model_id, SMALL), lambda: self._load(version))

    def _load(self, version: tuple[int, int]) -> None:
        self._shelf.begun.append(version)
        if version in self._shelf.held:
            assert self._shelf.held[version].wait(30)
        if version in self._shelf.away:
            self._shelf.away.discard(version)
            raise StoreUnreachable("away")
        self.loaded, self.problem = version, ""


class Shelf:
    """Bots 2, 3, … each with a model of the same number."""

    def __init__(self) -> None:
        self.version: dict[int, int] = {}
        self.sizes: dict[int, int] = {}
        self.held: dict[tuple[int, int], threading.Event] = {}
        self.away: set[tuple[int, int]] = set()
        self.begun: list[tuple[int, int]] = []
        self.lanes = {n: Lane(BotSettings(bot_id=n, model_id=n, enabled=True), FixedModel(None)) for n in range(2, 6)}  # type: ignore[arg-type]
        self.models = ModelLoader(
            lambda: list(self.lanes.values()),
            lambda: Place(self),
            structlog.stdlib.get_logger(),
        )

    def in_force(self, number: int) -> tuple[int, int] | None:
        model = self.lanes[number].model
        return model.loaded if isinstance(model, Place) else None

    def await_model(self, number: int, version: int = 0) -> None:
        eventually(lambda: self.in_force(number) == (number, version), what=f"model {number} in version {version}")


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    made = Shelf()
    yield made
    for event in made.held.values():
        event.set()
    made.models.stop()
    made.models.join(30)


def test_models_when_one_takes_long_load_and_swap_the_others_beside_it(shelf: Shelf) -> None:
    """One after another, a slow one kept every bot of the account from its model."""
    shelf.held[2, 0] = threading.Event()
    shelf.models.start()
    eventually(lambda: (2, 0) in shelf.begun, what="the slow one to be loading")
    for number in (3, 4, 5):
        shelf.await_model(number)
    shelf.version[4] = 1
    shelf.await_model(4, 1)
    assert shelf.in_force(2) is None
    shelf.held[2, 0].set()
    shelf.await_model(2)
    assert shelf.begun.count((2, 0)) == 1


def test_models_when_many_are_large_keep_the_small_ones_on_their_way(shelf: Shelf) -> None:
    for number in (2, 3, 4):
        shelf.sizes[number] = LARGE_BYTES + 1
        shelf.held[number, 0] = threading.Event()
    shelf.models.start()
    shelf.await_model(5)
    assert len(shelf.begun) == 2  # of the large ones one at a time: memory
    for event in shelf.held.values():
        event.set()
    for number in (2, 3, 4):
        shelf.await_model(number)


def test_models_when_a_bot_names_another_keep_the_old_one_in_force_until_it_is_there(shelf: Shelf) -> None:
    shelf.models.start()
    shelf.await_model(2)
    shelf.held[2, 1] = threading.Event()
    shelf.version[2] = 1
    eventually(lambda: (2, 1) in shelf.begun, what="the new one to be loading")
    assert shelf.in_force(2) == (2, 0)
    shelf.held[2, 1].set()
    shelf.await_model(2, 1)


def test_models_when_redis_is_away_while_one_loads_try_again(shelf: Shelf) -> None:
    shelf.away.add((3, 0))
    shelf.models.start()
    shelf.await_model(3)
    assert shelf.begun.count((3, 0)) == 2


def test_models_when_a_bot_is_off_for_a_while_keep_what_is_loaded(shelf: Shelf) -> None:
    shelf.models.start()
    shelf.await_model(2)
    lane = shelf.lanes[2]
    lane.configure(lane.settings.model_copy(update={"enabled": False}))
    shelf.version[3] = 1
    shelf.await_model(3, 1)  # a look has passed
    lane.configure(lane.settings.model_copy(update={"enabled": True}))
    shelf.version[4] = 1
    shelf.await_model(4, 1)
    assert (shelf.in_force(2), shelf.begun.count((2, 0))) == ((2, 0), 1)
