"""Which bots there are and what each has in force: ``bots`` and ``bot:{id}`` as the trader reads them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from shared.audit import ExternalChanges, audit_entry
from shared.bots import CYCLE_BOT, BotSettings, default_bot, judge_bot, last_good_bot, read_ids
from shared.clock import Clock, SystemClock
from shared.documents import Reading, dump_json, version_of
from shared.errors import DocumentError, StoreRefused
from shared.store import Store, translated_errors


@dataclass(frozen=True, slots=True)
class BotDocument:
    """One look at a bot. ``value`` is in force; ``version`` is that of the bytes it was read from."""

    value: BotSettings
    version: str
    error: str | None
    listed: bool = True


class BotDocuments:
    """Remembers the last good documents; only what changed is parsed again. ``only`` leaves one stream bot."""

    def __init__(self, store: Store, only: int | None = None, clock: Clock | None = None) -> None:
        self._store, self._only, self._clock = store, only, clock or SystemClock()
        self._changes = ExternalChanges(store, self._clock)
        self._raw: dict[int, bytes | None] = {}
        self._known: dict[int, BotDocument] = {}
        self._seen: tuple[list[int], list[bytes | None]] | None = None
        self.changes = 0
        """Rises with every look that found anything else than the one before."""
        self.listed: frozenset[int] = frozenset({CYCLE_BOT})
        """What ``bots`` held when it could be read last, ``only`` or not."""

    def write_default(self) -> None:
        """The cycle bot's document, where it is missing; another Redis type is left alone. Raises StoreUnreachable."""
        keys = self._store.keys
        with suppress(StoreRefused):
            key, new = keys.bot(CYCLE_BOT), dump_json(default_bot(CYCLE_BOT).plain())
            self._store.write_document(key, None, new, audit_entry(self._clock, "trading", "start", key, None, new))
        with suppress(StoreRefused), translated_errors():
            self._store.client.sadd(keys.bots, CYCLE_BOT)

    def read(self) -> Mapping[int, BotDocument]:
        """Every listed bot; where ``bots`` cannot be read, those that were listed last. Raises StoreError."""
        try:
            self.listed = frozenset(read_ids(self._store))
        except StoreRefused as error:
            if "WRONGTYPE" not in str(error):
                raise
        ids = sorted(n for n in self.listed if self._only is None or n in {CYCLE_BOT, self._only})
        with translated_errors():
            raws = cast("list[bytes | None]", self._store.client.mget([self._store.keys.bot(i) for i in ids]))
        if (ids, raws) == self._seen:
            return self._known
        self.changes += 1
        self._note_external(dict.fromkeys(self._known, None) | dict(zip(ids, raws, strict=True)))
        for gone in self._known.keys() - set(ids):
            del self._known[gone], self._raw[gone]
        for bot_id, raw in zip(ids, raws, strict=True):
            if bot_id not in self._known or self._raw[bot_id] != raw:
                self._known[bot_id] = self._judge(bot_id, raw)
                self._raw[bot_id] = raw
        self._seen = ids, raws
        return self._known

    def _note_external(self, found: Mapping[int, bytes | None]) -> None:
        """A change without its writer's entry in ``audit`` gets one; a full server keeps no bot from its document."""
        with suppress(StoreRefused):
            self._changes.look({self._store.keys.bot(bot_id): raw for bot_id, raw in found.items()})

    def last_good(self, bot_id: int) -> BotSettings:
        """What a bot that is not listed any more had in force, switched off. Raises StoreError."""
        return switched_off(last_good_bot(self._store, bot_id))

    def _judge(self, bot_id: int, raw: bytes | None) -> BotDocument:
        known = self._known.get(bot_id)
        good = known.value if known is not None else last_good_bot(self._store, bot_id)
        if raw is None:
            return self._missing(bot_id, good)
        reading: Reading[BotSettings] = judge_bot(bot_id, raw, good)
        if reading.error is None:
            return BotDocument(reading.value, reading.version, None)
        version = known.version if known is not None else version_of(None)
        return BotDocument(good, version, str(reading.error))

    def _missing(self, bot_id: int, good: BotSettings) -> BotDocument:
        """MGET gives None for another Redis type too, which is an error; a missing one ends the bot."""
        if bot_id == CYCLE_BOT:
            return BotDocument(default_bot(CYCLE_BOT), version_of(None), None)
        try:
            self._store.read_raw(self._store.keys.bot(bot_id))
        except StoreRefused:
            error = DocumentError("document", f"bot:{bot_id} holds another Redis type than a string")
            return BotDocument(good, version_of(None), str(error))
        return BotDocument(switched_off(good), version_of(None), f"document: bot:{bot_id} is missing", listed=False)


def switched_off(settings: BotSettings) -> BotSettings:
    """The same bot without entries."""
    return settings.model_copy(update={"enabled": False, "close_positions": False})
