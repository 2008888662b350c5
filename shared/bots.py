"""``bot:{id}``: the document of one bot, read by the same strict parser as the two switches, and how people change it.

Bot 1 always exists and is the cycle bot; every other one is a stream bot, which decides on live trades.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, Self, cast

import redis
from pydantic import Field, ValidationInfo, field_validator

from shared.audit import audit_entry
from shared.clock import Clock
from shared.control import Actor, VersionConflict
from shared.documents import Document, Fraction, Quantity, Reading, dump_json, parse_json, version_of
from shared.errors import DocumentError, SixbotError, StoreRefused
from shared.keys import STREAM_LIMITS
from shared.store import Store, translated_errors

CYCLE_BOT = 1
MAX_BOT_ID = 10**9
_ATTEMPTS = 50
_SWITCHES = ("enabled", "close_positions")
"""Booleans that are off where they are absent, whatever they were."""

Seconds = Annotated[Quantity, Field(gt=0, le=31_536_000)]
AccountName = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=40)]


class BotSettings(Document):
    """One bot as people configure it. Seconds, fractions (0.01 is 1 %) and the quote currency.

    ``close_positions`` closes what is open at market, one by one, and allows no entry while it is true.
    """

    bot_id: Annotated[int, Field(ge=1, le=MAX_BOT_ID)]
    name: Annotated[str, Field(max_length=80)] = ""
    kind: Literal["cycle", "stream"] = "stream"
    enabled: bool = False
    close_positions: bool = False
    symbol: Annotated[str, Field(pattern=r"^[A-Z0-9][A-Z0-9./:_-]{0,39}$")] = "BTCUSDC"
    account: AccountName = "default"
    model_id: Annotated[int, Field(ge=1, le=MAX_BOT_ID)] = 1
    buy_class: Annotated[int, Field(ge=0, le=1000)] = 1
    confidence_threshold: Fraction = Decimal("0.40")
    capital_per_trade: Annotated[Quantity, Field(gt=0, le=Decimal(10) ** 9)] = Decimal(200)
    holding_time: Seconds = Decimal(2000)
    profit_target_pct: Fraction = Decimal("0.00015")
    stop_loss_pct: Annotated[Quantity, Field(gt=0, lt=1)] = Decimal("0.009")
    maker_order_timeout: Seconds = Decimal(60)
    max_positions: Annotated[int, Field(ge=1, le=1000)] = 2

    @field_validator("kind")
    @classmethod
    def _one_cycle_bot(cls, value: str, info: ValidationInfo) -> str:
        number = info.data.get("bot_id")
        if (value == "cycle") != (number == CYCLE_BOT):
            raise ValueError(
                f"bot {CYCLE_BOT} is the cycle bot and no other"
                if value == "cycle"
                else f"bot {CYCLE_BOT} is the cycle bot and cannot be a stream bot"
            )
        return value

    @classmethod
    def _inherited(cls, good: Self) -> dict[str, Any]:
        return {name: getattr(good, name) for name in cls.model_fields if name not in _SWITCHES}


def default_bot(bot_id: int) -> BotSettings:
    """What a bot is before anybody has said anything. The cycle bot is on: the master switch alone stops it."""
    cycle = bot_id == CYCLE_BOT
    return BotSettings(bot_id=bot_id, kind="cycle" if cycle else "stream", name="cycle" if cycle else "", enabled=cycle)


def judge_bot(bot_id: int, raw: bytes | None, good: BotSettings) -> Reading[BotSettings]:
    """The one judgement of ``bot:{id}``; what cannot be read leaves the last good one in force."""
    if raw is None:
        return Reading(None, good, DocumentError("document", f"bot:{bot_id} is missing"))
    try:
        value = BotSettings.parse(raw, good)
    except DocumentError as error:
        return Reading(raw, good, error)
    if value.bot_id != bot_id:
        return Reading(raw, good, DocumentError("bot_id", f"must be {bot_id}, as in the key", value.bot_id))
    return Reading(raw, value)


def read_ids(store: Store) -> list[int]:
    """Ids in ``bots``, ascending, bot 1 always among them; what is no id is passed over. Raises StoreError."""
    numbers = map(_number_of, _members(store))
    return sorted({n for n in numbers if n is not None} | {CYCLE_BOT})


def _members(store: Store) -> set[bytes]:
    try:
        with translated_errors():
            return cast("set[bytes]", store.client.smembers(store.keys.bots))
    except StoreRefused as error:
        if "WRONGTYPE" not in str(error):
            raise
        name = store.keys.bots
        raise StoreRefused(f"{name} is no set (WRONGTYPE): DEL {name}, and SADD {name} each bot's number") from error


def _number_of(name: bytes) -> int | None:
    """A bot's number in the one way to write it: removing ``7`` must remove what ``07`` would have been."""
    if not name.isdigit() or len(name) > 10 or name.startswith(b"0"):
        return None
    return number if (number := int(name)) <= MAX_BOT_ID else None


def read_strays(store: Store) -> list[str]:
    """What somebody wrote for a bot that is none, each with what to do: documents whose number ``bots`` does not hold,
    names in ``bots`` that are no number. Looks through all keys. Raises StoreError."""
    keys = store.keys
    members = _members(store)
    start = keys.bots[:-1] + ":"
    with translated_errors():
        names = [bytes(key)[len(start.encode()) :] for key in store.client.scan_iter(match=f"{start}*", count=1000)]
    found: list[str] = []
    for name in sorted(n for n in names if b":" not in n and n not in members and n != b"%d" % CYCLE_BOT):
        shown = name.decode(errors="backslashreplace")
        if _number_of(name) is None:
            found.append(f"{start}{shown} is no bot's document: {shown!r} is no bot's number")
        else:
            found.append(f"{start}{shown} is not in the set {keys.bots} and does not run: SADD {keys.bots} {shown}")
    for name in sorted(m for m in members if _number_of(m) is None):
        shown = name.decode(errors="backslashreplace")
        found.append(f"{shown!r} is no bot's number (1 to {MAX_BOT_ID}): SREM {keys.bots} {shown}")
    return found


def last_good_bot(store: Store, bot_id: int) -> BotSettings:
    """What was in force, from ``bot:{id}:status.config``, where it outlives a restart; else the defaults."""
    status = store.get_json(store.keys.bot_status(bot_id))
    config = status.get("config") if isinstance(status, dict) else None
    if not isinstance(config, dict):
        return default_bot(bot_id)
    reading = judge_bot(bot_id, dump_json(config), default_bot(bot_id))
    return reading.value


class BotControl:
    """Writes bots' documents on behalf of a person: compare-and-set, with an entry in ``audit``."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock

    def ids(self) -> list[int]:
        """Every bot there is. Raises StoreError."""
        return read_ids(self._store)

    def read(self, bot_id: int) -> Reading[BotSettings]:
        """A bot with what it inherits. Raises StoreError."""
        good = last_good_bot(self._store, bot_id)
        try:
            raw = self._store.read_raw(self._store.keys.bot(bot_id))
        except StoreRefused as error:
            if "WRONGTYPE" not in str(error):
                raise
            return Reading(None, good, DocumentError("document", f"bot:{bot_id} holds another Redis type"))
        if raw is None and bot_id == CYCLE_BOT:
            return Reading(None, good)
        return judge_bot(bot_id, raw, good)

    def change(
        self, bot_id: int, changes: Mapping[str, Any], actor: Actor, *, version: str | None = None, whole: bool = False
    ) -> Reading[BotSettings]:
        """Patch a bot, or with ``whole`` replace it; one that does not exist is created.

        Raises DocumentError, VersionConflict or StoreError; then nothing was written.
        """
        keys = self._store.keys
        if not 1 <= bot_id <= MAX_BOT_ID:
            raise DocumentError("bot_id", f"must be from 1 to {MAX_BOT_ID}", bot_id)
        good = last_good_bot(self._store, bot_id)
        for _ in range(_ATTEMPTS):
            raw = self._store.read_raw(keys.bot(bot_id))
            if version is not None and version_of(raw) != version:
                raise VersionConflict(f"bot:{bot_id} was changed by someone else in the meantime; read it again")
            base = _unknown(raw) if whole else _kept(bot_id, raw, good)
            fields = {"bot_id": bot_id, "kind": good.kind} | base | dict(changes)
            start = default_bot(bot_id) if whole or raw is None else good
            reading = judge_bot(bot_id, dump_json(fields), start)
            if reading.error is not None:
                raise reading.error
            new = dump_json({**fields, **reading.value.plain()})
            if self._write(bot_id, raw, new, actor):
                return Reading(new, reading.value)
        raise VersionConflict(f"bot:{bot_id} keeps being changed by others")

    def _write(self, bot_id: int, raw: bytes | None, new: bytes, actor: Actor) -> bool:
        keys = self._store.keys
        entry = audit_entry(self._clock, actor.name, actor.source, keys.bot(bot_id), raw, new)
        if not self._store.write_document(keys.bot(bot_id), raw, new, entry):
            return False
        with translated_errors():
            self._store.client.sadd(keys.bots, bot_id)
        return True

    def delete(self, bot_id: int, actor: Actor, *, version: str | None = None) -> None:
        """Remove a bot; its open positions are managed until they are closed.

        Raises SixbotError for bot 1, or VersionConflict; then it stays.
        """
        keys = self._store.keys
        if bot_id == CYCLE_BOT:
            raise SixbotError(f"bot {CYCLE_BOT} always exists: the master switch turns it off")
        if bot_id not in self.ids():
            raise SixbotError(f"there is no bot {bot_id}")

        raw = self._raw(bot_id)
        entry = audit_entry(self._clock, actor.name, actor.source, keys.bot(bot_id), raw, None)

        def remove(pipe: redis.client.Pipeline) -> None:
            if version is not None and version_of(cast("bytes | None", pipe.get(keys.bot(bot_id)))) != version:
                raise VersionConflict(f"bot:{bot_id} was changed by someone else in the meantime; read it again")
            pipe.multi()
            pipe.srem(keys.bots, bot_id)
            pipe.delete(keys.bot(bot_id))
            pipe.xadd(keys.audit, cast("Any", entry), maxlen=STREAM_LIMITS["audit"], approximate=True)

        self._store.transact([keys.bot(bot_id)], remove)

    def _raw(self, bot_id: int) -> bytes | None:
        try:
            return self._store.read_raw(self._store.keys.bot(bot_id))
        except StoreRefused:
            return None


def _kept(bot_id: int, raw: bytes | None, good: BotSettings) -> dict[str, Any]:
    """What a patch leaves as it stands: all readable fields, else the values in force, switched off."""
    if raw is None:
        return {"enabled": True} if bot_id == CYCLE_BOT else {}  # the cycle bot is on where nobody has said otherwise
    if judge_bot(bot_id, raw, good).error is None:
        return cast("dict[str, Any]", parse_json(raw))
    return _unknown(raw) | good.plain() | dict.fromkeys(_SWITCHES, False)


def _unknown(raw: bytes | None) -> dict[str, Any]:
    """The fields of others, which no write of ours drops."""
    try:
        found = parse_json(raw or b"null")
    except DocumentError:
        return {}
    return {n: v for n, v in found.items() if n not in BotSettings.model_fields} if isinstance(found, dict) else {}
