"""A stream bot's model in force, swapped whole between two predictions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from shared.errors import PredictionError
from shared.model_terms import ModelMissing
from worker.core.features import FEATURE_NAMES, FEATURE_VERSION
from worker.models.probe import judge_in_child
from worker.models.registry import ModelRegistry
from worker.models.validation import ModelRefused
from worker.predictors.base import Loading
from worker.predictors.row import RowPredictor, load_row_predictor

Key = tuple[int, str, int]


class ModelSlot:
    """``current`` is read by whoever predicts, once a decision; ``refresh`` is for another thread, since it takes long.

    ``current`` stays as it is while another model is loaded. A model that is missing, not valid or refused leaves None,
    and ``problem`` says why: no bot goes on with a model that it was not told to use.
    """

    def __init__(
        self, registry: ModelRegistry, names: Sequence[str] = FEATURE_NAMES, version: int = FEATURE_VERSION
    ) -> None:
        self._registry, self._names, self._version = registry, tuple(names), version
        self._loaded: Key | None = None
        self._refused: tuple[Key, str] | None = None
        self.current: RowPredictor | None = None
        self.problem = "no model is loaded yet"

    def refresh(self, model_id: int, buy_class: int = 1) -> bool:
        """Make ``current`` the registry's model ``model_id``; one GET where nothing changed. Returns whether it did.

        Raises StoreError, and then everything stays.
        """
        before = self.current
        loading = self.look(model_id, buy_class)
        if loading is not None:
            loading.run()
        return self.current is not before

    def look(self, model_id: int, buy_class: int = 1) -> Loading | None:
        """Ask the registry, one GET where nothing changed; what is to be loaded, or None where nothing is.

        Raises StoreError, and then everything stays.
        """
        document = self._registry.valid(model_id)
        if document is None:
            self._without(None, self._why(model_id))
            return None
        key, size = (model_id, str(document["sha256"]), buy_class), document.get("size")
        if key == self._loaded:
            return None
        if self._refused is not None and self._refused[0] == key:
            self._without(*self._refused)
            return None
        return Loading(size if isinstance(size, int) else 0, lambda: self._take(key))

    def _take(self, key: Key) -> None:
        """Load what was found. Raises StoreError, and then everything stays."""
        try:
            self.current, self.problem = self._load(key), ""
            self._loaded, self._refused = key, None
        except PredictionError as error:
            self._without(key, str(error))

    def _without(self, refused: Key | None, problem: str) -> None:
        self._refused = None if refused is None else (refused, problem)
        self._loaded, self.current, self.problem = None, None, problem

    def _why(self, model_id: int) -> str:
        try:
            document = self._registry.get(model_id)
        except ModelMissing as error:
            return str(error)
        reason = document.get("reason")
        return f"model {model_id} is {document.get('status')}, not valid" + (f": {reason}" if reason else "")

    def _load(self, key: Key) -> RowPredictor:
        model_id, sha256, buy_class = key
        try:
            raw = self._registry.raw(model_id)
            if hashlib.sha256(raw).hexdigest() != sha256:
                raise PredictionError(f"model {model_id}: its text is not the one that was validated")
            facts, source = judge_in_child(raw), f"lightgbm:{model_id}"
            return load_row_predictor(raw.decode(), source, self._names, self._version, buy_class, facts)
        except (ModelMissing, ModelRefused) as error:
            raise PredictionError(f"model {model_id} is refused: {error}") from error
