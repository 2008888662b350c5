"""The model registry: ``models``, ``model:{id}`` and ``model:{id}:text``, as frontends and workers use it.

A model's text is untrusted until its document says ``valid``: uploaded → validating → valid or invalid, with a reason.
Nothing here loads a model. A document's ``sha256`` is that of its text, and the version that consumers watch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, cast

from redis.client import Pipeline

from shared.audit import shown
from shared.bots import CYCLE_BOT, BotControl
from shared.clock import Clock, rfc3339
from shared.control import Actor
from shared.documents import dump_json, parse_json
from shared.errors import DocumentError
from shared.keys import MODEL_TEXT_BYTES, STREAM_LIMITS
from shared.model_terms import ModelConflict, ModelError, ModelMissing, checked_name, checked_symbol, misfit
from shared.store import MAX_RECORD_BYTES, Store, translated_errors


class ModelRegistry:
    """Every method raises StoreError where Redis does not do its part; then nothing was written."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._bots = BotControl(store, clock)

    # -- reading --------------------------------------------------------------------------------------------------

    def documents(self) -> list[dict[str, Any]]:
        """All documents by id, as they stand; mangled ones are left out."""
        with translated_errors():
            members = cast("set[bytes]", self._store.client.smembers(self._store.keys.models))
        found = [self._store.get_json(self._store.keys.model(i)) for i in sorted(_ids(members))]
        return [f for f in found if isinstance(f, dict)]

    def listed(self, symbol: str | None = None) -> list[dict[str, Any]]:
        """All documents by id, ``assigned_to`` as the bots say; with ``symbol`` its models and those for any."""
        users = self._users()
        found = [d | {"assigned_to": self._assigned(d, users)} for d in self.documents()]
        return [d for d in found if symbol is None or d.get("symbol") in (symbol, "*")]

    def get(self, model_id: int) -> dict[str, Any]:
        """One document, ``assigned_to`` as the bots say. Raises ModelMissing."""
        document = self._document(model_id)
        return document | {"assigned_to": self._assigned(document, self._users())}

    def valid(self, model_id: int) -> dict[str, Any] | None:
        """The document of a model that may be used, else None. One GET; its sha256 changes when the model does."""
        document = self._store.get_json(self._store.keys.model(model_id))
        if not isinstance(document, dict) or document.get("status") != "valid":
            return None
        return document if isinstance(document.get("sha256"), str) else None

    def raw(self, model_id: int) -> bytes:
        """The text as it was uploaded. Raises ModelMissing."""
        found = self._store.read_raw(self._store.keys.model_text(model_id))
        if found is None:
            raise ModelMissing(f"model {model_id} has no text")
        return found

    def _document(self, model_id: int) -> dict[str, Any]:
        found = self._store.get_json(self._store.keys.model(model_id))
        if not isinstance(found, dict):
            raise ModelMissing(f"there is no model {model_id}")
        return found

    def _users(self) -> dict[int, int]:
        """Stream bots that exist, and the model that each is configured to use."""
        found = {}
        for bot_id in self._bots.ids():
            reading = self._bots.read(bot_id)
            if bot_id != CYCLE_BOT and reading.raw is not None:
                found[bot_id] = reading.value.model_id
        return found

    @staticmethod
    def _assigned(document: Mapping[str, Any], users: Mapping[int, int]) -> list[int]:
        """The cycle bot's model is the one that names it; a stream bot names its model."""
        cycle = [CYCLE_BOT] if CYCLE_BOT in _listed(document) else []
        return cycle + sorted(bot for bot, model in users.items() if model == document.get("id"))

    # -- writing --------------------------------------------------------------------------------------------------

    def upload(self, raw: bytes, name: str, symbol: str, actor: Actor) -> dict[str, Any]:
        """Store a text that nobody has looked at yet. Raises ModelError for its size, name or symbol."""
        if len(raw) > MODEL_TEXT_BYTES:
            raise ModelError(f"file: is larger than {MODEL_TEXT_BYTES} bytes (got {len(raw)})")
        unknown: dict[str, Any] = {
            "num_features": None,
            "feature_names": [],
            "feature_version": None,
            "objective": None,
            "trees": None,
            "status": "uploaded",
            "reason": None,
            "metrics": {},
        }
        return self.add(raw, name, symbol, unknown, actor)

    def add(self, raw: bytes, name: str, symbol: str, facts: Mapping[str, Any], actor: Actor) -> dict[str, Any]:
        """Store a text with what is known of it, under the next id. Raises ModelError."""
        base = {
            "id": 0,
            "name": checked_name(name),
            "symbol": checked_symbol(symbol),
            "created_at": rfc3339(self._clock.now()),
            "size": len(raw),
            "sha256": hashlib.sha256(raw).hexdigest(),
            **facts,
            "assigned_to": [],
        }
        keys = self._store.keys

        def step(pipe: Pipeline) -> dict[str, Any]:
            members, last = (
                cast("set[bytes]", pipe.smembers(keys.models)),
                cast("bytes | None", pipe.get(keys.models_last)),
            )
            highest = int(last) if last is not None and last.isdigit() else 0
            number = max(highest, *_ids(members), 0) + 1
            new = base | {"id": number}
            pipe.multi()
            pipe.set(keys.model_text(number), raw)
            pipe.set(keys.model(number), dump_json(new))
            pipe.set(keys.models_last, number)
            pipe.sadd(keys.models, number)
            self._audit(pipe, number, actor, "", new)
            return new

        return self._store.transact([keys.models, keys.models_last], step)

    def rename(self, model_id: int, name: str, actor: Actor) -> dict[str, Any]:
        """Raises ModelMissing or ModelError."""
        wanted = checked_name(name)
        return self._change(model_id, lambda _: {"name": wanted}, actor)

    def assign(self, model_id: int, bot_id: int, actor: Actor) -> dict[str, Any]:
        """Let a bot use a model from its next prediction on.

        Raises ModelMissing, ModelConflict (not valid, other features, no such bot) or DocumentError (the bot's).
        """
        document = self._document(model_id)
        self._check_fit(document, bot_id)
        before = [d["id"] for d in self.documents() if bot_id in _listed(d) and d.get("id") != model_id]
        self._bots.change(bot_id, {"model_id": model_id}, actor)
        for other in before:
            self._change(other, lambda d: {"assigned_to": [b for b in _listed(d) if b != bot_id]}, actor)
        return self._change(model_id, lambda d: {"assigned_to": sorted({*_listed(d), bot_id})}, actor)

    def swap(self, old: int, new: int, actor: Actor) -> list[int]:
        """Put ``new`` in ``old``'s place at every bot that uses it; returns those bots. Raises as ``assign`` does."""
        bots = self.get(old)["assigned_to"]
        document = self._document(new)
        for bot_id in bots:
            self._check_fit(document, bot_id)
        for bot_id in bots:
            self.assign(new, bot_id, actor)
        return cast("list[int]", bots)

    def delete(self, model_id: int, actor: Actor) -> None:
        """Raises ModelMissing, or ModelConflict naming the bots that use it."""
        keys = self._store.keys

        def step(pipe: Pipeline) -> None:
            document = self.get(model_id)
            if document["assigned_to"]:
                bots = ", ".join(map(str, document["assigned_to"]))
                raise ModelConflict(f"model {model_id} is used by bot {bots}: assign another one there first")
            pipe.multi()
            pipe.srem(keys.models, model_id)
            pipe.delete(keys.model(model_id), keys.model_text(model_id))
            self._audit(pipe, model_id, actor, document, "")

        watched = [keys.bot(bot_id) for bot_id in self._bots.ids()]
        self._store.transact([keys.models, keys.model(model_id), keys.bots, *watched], step)

    def record(self, model_id: int, sha256: str, fields: Mapping[str, Any]) -> bool:
        """Write what validation found, if the text is still the one it looked at; returns whether."""

        def change(document: dict[str, Any]) -> dict[str, Any] | None:
            return document | dict(fields) if document.get("sha256") == sha256 else None

        return self._store.merge_json(self._store.keys.model(model_id), change)

    def _check_fit(self, document: Mapping[str, Any], bot_id: int) -> None:
        why = misfit(document, bot_id)
        if why is None and bot_id not in self._bots.ids():
            why = f"there is no bot {bot_id}"
        if why is not None:
            raise ModelConflict(why)

    def _change(
        self, model_id: int, change: Callable[[Mapping[str, Any]], Mapping[str, Any]], actor: Actor
    ) -> dict[str, Any]:
        key = self._store.keys.model(model_id)

        def step(pipe: Pipeline) -> dict[str, Any]:
            document = _parsed(cast("bytes | None", pipe.get(key)))
            if document is None:
                raise ModelMissing(f"there is no model {model_id}")
            new = document | dict(change(document))
            pipe.multi()
            if new != document:
                pipe.set(key, dump_json(new))
                self._audit(pipe, model_id, actor, document, new)
            return new

        return self._store.transact([key], step)

    def _audit(self, pipe: Pipeline, model_id: int, actor: Actor, old: object, new: object) -> None:
        entry = {
            "time": rfc3339(self._clock.now()),
            "who": actor.name,
            "from": actor.source,
            "key": self._store.keys.model(model_id),
            "old": shown(dump_json(old) if old else None),
            "new": shown(dump_json(new) if new else None),
        }
        pipe.xadd(self._store.keys.audit, cast("Any", entry), maxlen=STREAM_LIMITS["audit"], approximate=True)


def _ids(members: set[bytes]) -> set[int]:
    return {int(m) for m in members if m.isdigit() and len(m) <= 10}


def _listed(document: Mapping[str, Any]) -> list[int]:
    found = document.get("assigned_to")
    return [b for b in found if type(b) is int] if isinstance(found, list) else []


def _parsed(raw: bytes | None) -> dict[str, Any] | None:
    try:
        found = None if raw is None else parse_json(raw, MAX_RECORD_BYTES)
    except DocumentError:
        return None
    return found if isinstance(found, dict) else None
