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
        found = self._registry.version(model_id)
        key = None if found is None else (model_id, found, buy_class)
        if key is not None and key == self._loaded:
            return False
        before = self.current
        try:
            if key is None:
                raise PredictionError(self._why(model_id))
            if self._refused is not None and self._refused[0] == key:
                raise PredictionError(self._refused[1])
            self.current, self.problem = self._load(key), ""
            self._loaded = key
        except PredictionError as error:
            self._refused = None if key is None else (key, str(error))
            self._loaded, self.current, self.problem = None, None, str(error)
        return self.current is not before

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
            judge_in_child(raw)
            text, source = raw.decode("ascii"), f"lightgbm:{model_id}"
            return load_row_predictor(text, source, self._names, self._version, buy_class)
        except (ModelMissing, ModelRefused) as error:
            raise PredictionError(f"model {model_id} is refused: {error}") from error
