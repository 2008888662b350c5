"""The model registry in Redis: ``models``, ``model:{id}`` and ``model:{id}:text``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, cast

from shared.clock import Clock, rfc3339
from shared.documents import dump_json
from shared.store import Store, translated_errors
from worker.core.bar_features import NAMES
from worker.models.training import TrainedModel


class ModelRegistry:
    """Registers and finds models."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock

    def register(self, model: TrainedModel, name: str, assigned_to: int | None) -> int:
        """Store a model of our own training; with ``assigned_to`` every other one is taken off that bot.

        Returns its id. Raises StoreError.
        """
        keys = self._store.keys

        def apply(pipe: Any) -> int:
            ids = {int(member) for member in cast("set[bytes]", pipe.smembers(keys.models))}
            documents = {i: self._store.get_json(keys.model(i)) for i in ids}
            new = max(ids, default=0) + 1
            pipe.multi()
            for i, found in documents.items():
                if assigned_to is not None and isinstance(found, dict) and assigned_to in found.get("assigned_to", []):
                    rest = [bot for bot in found["assigned_to"] if bot != assigned_to]
                    pipe.set(keys.model(i), dump_json({**found, "assigned_to": rest}))
            pipe.set(keys.model_text(new), model.text)
            pipe.set(keys.model(new), dump_json(self._document(new, model, name, assigned_to)))
            pipe.sadd(keys.models, new)
            return new

        return self._store.transact([keys.models], apply)

    def _document(self, model_id: int, model: TrainedModel, name: str, assigned_to: int | None) -> dict[str, Any]:
        raw = model.text.encode()
        return {
            "id": model_id,
            "name": name,
            "symbol": "*",
            "created_at": rfc3339(self._clock.now()),
            "size": len(raw),
            "sha256": hashlib.sha256(raw).hexdigest(),
            "num_features": len(NAMES),
            "feature_names": list(NAMES),
            "feature_version": model.feature_version,
            "objective": "regression",
            "trees": model.text.count("\nTree="),
            "horizon_minutes": model.horizon_minutes,
            "status": "valid",
            "metrics": model.metrics,
            "assigned_to": [] if assigned_to is None else [assigned_to],
        }

    def list(self) -> list[Mapping[str, Any]]:
        """All model documents by id; mangled ones are left out. Raises StoreError."""
        with translated_errors():
            ids = sorted(
                int(member) for member in cast("set[bytes]", self._store.client.smembers(self._store.keys.models))
            )
        found = [self._store.get_json(self._store.keys.model(i)) for i in ids]
        return [f for f in found if isinstance(f, dict)]

    def assigned(self, bot_id: int) -> Mapping[str, Any] | None:
        """The newest valid model of a bot. Raises StoreError."""
        fitting = [
            f
            for f in self.list()
            if f.get("status") == "valid" and isinstance(f.get("assigned_to"), list) and bot_id in f["assigned_to"]
        ]
        return fitting[-1] if fitting else None

    def text(self, model_id: int) -> str | None:
        """Raises StoreError."""
        raw = self._store.read_raw(self._store.keys.model_text(model_id))
        return None if raw is None else raw.decode()
