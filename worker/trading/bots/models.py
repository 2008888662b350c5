"""The models of an account's bots: looked for all the time, loaded beside each other, put in force whole."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import structlog

from shared.errors import SixbotError
from worker.predictors.base import Loading
from worker.trading.bots.pipeline import Lane, ModelSource

MODEL_SECONDS = 0.5
LARGE_BYTES = 1 << 20
"""A text of more takes seconds to load and memory besides: such are loaded one at a time, beside all others."""
SMALL_AT_ONCE = 2

Key = tuple[int, int]
"""A model's id, and which of its classes means buy."""


class Model(ModelSource, Protocol):
    """The place of a model of the registry."""

    def look(self, model_id: int, buy_class: int = 1) -> Loading | None:
        """Ask the registry, which is quick; what is to be loaded, or None where nothing is. Raises StoreError."""


@dataclass(frozen=True, slots=True)
class _NoModel:
    current: None = None
    problem: str = "no model is loaded yet"


NO_MODEL = _NoModel()


@dataclass(slots=True)
class _Place:
    model: Model
    loading: bool = False
    known: bool = False
    """Whether it was looked for to the end once: before that its bots go on with the model that they have."""


class ModelLoader:
    """Bots that want the same model share it; one that is off keeps it. ``lanes`` gives those of all, in any thread.

    One thread looks, others load, so that a model which takes long, or fails, keeps no other waiting.
    """

    def __init__(
        self,
        lanes: Callable[[], Iterable[Lane]],
        new_model: Callable[[], Model],
        logger: structlog.stdlib.BoundLogger,
    ) -> None:
        self._lanes, self._new_model, self._logger = lanes, new_model, logger
        self._places: dict[Key, _Place] = {}
        self._small: queue.SimpleQueue[tuple[Key, _Place, Loading]] = queue.SimpleQueue()
        self._large: queue.SimpleQueue[tuple[Key, _Place, Loading]] = queue.SimpleQueue()
        self._stop, self._wake = threading.Event(), threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="bot-models", daemon=True)

    def start(self) -> None:
        """Begin to look for models."""
        self._watcher.start()
        for waiting in [self._large, *[self._small] * SMALL_AT_ONCE]:
            threading.Thread(target=self._load, args=(waiting,), name="bot-model", daemon=True).start()

    def stop(self) -> None:
        """Begin no other look."""
        self._stop.set()
        self._wake.set()

    def join(self, seconds: float) -> None:
        """Wait for the look that runs, so long at most; a model that is being loaded is not waited for."""
        if self._watcher.is_alive():
            self._watcher.join(timeout=seconds)

    def _watch(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(MODEL_SECONDS)
            self._wake.clear()
            self._look()

    def _look(self) -> None:
        wanted: dict[Key, list[Lane]] = {}
        named: set[Key] = set()
        for lane in self._lanes():
            key = lane.settings.model_id, lane.settings.buy_class
            named.add(key)
            if lane.settings.enabled:
                wanted.setdefault(key, []).append(lane)
        for key, lanes in wanted.items():
            place = self._places.get(key)
            if place is None:
                place = self._places[key] = _Place(self._new_model())
            if not place.loading:
                self._ask(key, place)
            if place.known:
                for lane in lanes:
                    if lane.model is not place.model:
                        lane.model = place.model
        for key in self._places.keys() - named:
            if not self._places[key].loading:
                del self._places[key]

    def _ask(self, key: Key, place: _Place) -> None:
        try:
            found = place.model.look(*key)
        except SixbotError as error:
            self._logger.info("model_not_read", model_id=key[0], error=str(error))
            return
        except Exception:  # the last net of this thread: the next look may find a better model
            self._logger.exception("model_failed", model_id=key[0])
            return
        if found is None:
            place.known = True
            return
        place.loading = True
        (self._large if found.size > LARGE_BYTES else self._small).put((key, place, found))

    def _load(self, waiting: queue.SimpleQueue[tuple[Key, _Place, Loading]]) -> None:
        while not self._stop.is_set():
            key, place, found = waiting.get()
            try:
                found.run()
                place.known = True
            except SixbotError as error:
                self._logger.info("model_not_read", model_id=key[0], error=str(error))
            except Exception:  # the last net of this thread
                self._logger.exception("model_failed", model_id=key[0])
            finally:
                place.loading = False
                self._wake.set()
