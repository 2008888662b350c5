"""The registry as workers use it: models of our own training, and the text to load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.control import Actor
from shared.model_terms import CYCLE_FEATURES, STREAM_FEATURES, ModelMissing
from shared.models import ModelRegistry as SharedRegistry
from worker.core.bar_features import NAMES
from worker.core.features import FEATURE_NAMES
from worker.models.training import TrainedModel
from worker.models.validation import ModelFacts, check_text

OURSELVES = Actor("sixbot", "training")


class ModelRegistry(SharedRegistry):
    """Registers and finds models."""

    def register(
        self, model: TrainedModel, name: str, assigned_to: int | None, symbol: str = "*", actor: Actor = OURSELVES
    ) -> int:
        """Store a model of our own training; with ``assigned_to`` that bot uses it from now on.

        Returns its id. Raises StoreError, ModelError (name, symbol, no such bot) or ModelRefused.
        """
        raw = model.text.encode()
        facts = facts_fields(check_text(raw)) | {
            "feature_version": model.feature_version,
            "status": "valid",
            "metrics": model.metrics,
            **({} if model.horizon_minutes is None else {"horizon_minutes": model.horizon_minutes}),
            **model.facts,
        }
        number: int = self.add(raw, name, symbol, facts, actor)["id"]
        if assigned_to is not None:
            self.assign(number, assigned_to, actor)
        return number

    def assigned(self, bot_id: int) -> Mapping[str, Any] | None:
        """The newest valid model that names a bot: the cycle bot's. Raises StoreError."""
        fitting = [
            f
            for f in self.documents()
            if f.get("status") == "valid" and isinstance(f.get("assigned_to"), list) and bot_id in f["assigned_to"]
        ]
        return fitting[-1] if fitting else None

    def text(self, model_id: int) -> str | None:
        """Raises StoreError."""
        try:
            return self.raw(model_id).decode(errors="replace")
        except ModelMissing:
            return None


def facts_fields(facts: ModelFacts) -> dict[str, Any]:
    """What a checked file says of itself, as ``model:{id}`` holds it."""
    return {
        "num_features": len(facts.feature_names),
        "feature_names": list(facts.feature_names),
        "feature_version": feature_version_of(facts.feature_names),
        "objective": facts.objective,
        "trees": facts.trees,
        "reason": None,
    }


_VERSIONS: dict[tuple[str, ...], int | str] = {NAMES: CYCLE_FEATURES, FEATURE_NAMES: STREAM_FEATURES}


def feature_version_of(names: tuple[str, ...]) -> int | str | None:
    """The version whose table these names are, in order; None where they are nobody's."""
    return _VERSIONS.get(names)
