"""The models of an account's bots, looked for in a thread of their own: loading one may take seconds, during which a
bot goes on with the one that it has."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import structlog

from shared.errors import SixbotError
from worker.trading.bots.pipeline import Lane, ModelSource

MODEL_SECONDS = 0.5


class Model(ModelSource, Protocol):
    """A model that can be looked for again; that may take seconds."""

    def refresh(self, model_id: int, buy_class: int = 1) -> bool: ...


@dataclass(frozen=True, slots=True)
class _NoModel:
    current: None = None
    problem: str = "no model is loaded yet"


NO_MODEL = _NoModel()


class ModelLoader:
    """Bots that want the same model share it. ``lanes`` gives those of all bots, in any thread."""

    def __init__(
        self,
        lanes: Callable[[], Iterable[Lane]],
        new_model: Callable[[], Model],
        logger: structlog.stdlib.BoundLogger,
    ) -> None:
        self._lanes, self._new_model, self._logger = lanes, new_model, logger
        self._models: dict[tuple[int, int], Model] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bot-models", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Begin no other look."""
        self._stop.set()

    def join(self, seconds: float) -> None:
        """Wait for the look that runs, so long at most."""
        if self._thread.is_alive():
            self._thread.join(timeout=seconds)

    def _run(self) -> None:
        while not self._stop.wait(MODEL_SECONDS):
            done: set[tuple[int, int]] = set()
            for lane in self._lanes():
                if not lane.settings.enabled:
                    continue
                key = _key(lane)
                model = self._models.get(key) or self._models.setdefault(key, self._new_model())
                if key not in done and not self._refreshed(model, key):
                    continue
                done.add(key)
                if lane.model is not model:
                    lane.model = model
            for key in self._models.keys() - done:
                if all(_key(lane) != key for lane in self._lanes()):
                    del self._models[key]

    def _refreshed(self, model: Model, key: tuple[int, int]) -> bool:
        try:
            model.refresh(*key)
        except SixbotError as error:
            self._logger.info("model_not_read", model_id=key[0], error=str(error))
            return False
        except Exception:  # the last net of this thread: the next look may find a better model
            self._logger.exception("model_failed", model_id=key[0])
            return False
        return True


def _key(lane: Lane) -> tuple[int, int]:
    return lane.settings.model_id, lane.settings.buy_class
