"""What every frontend does with the switches: patch a document, stop, start. Web and command line share it.

A change is a compare-and-set with its audit entry; unknown fields stay; an unreadable document is replaced only by a
whole good one, which is what a person asking for a change means.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from shared.audit import audit_entry
from shared.clock import Clock, rfc3339
from shared.documents import D, Reading, RiskSettings, TradingSettings, dump_json, parse_json, version_of
from shared.errors import DocumentError, SixbotError, StoreError, StoreRefused
from shared.keys import STREAM_LIMITS
from shared.store import Store, judge, translated_errors

_ATTEMPTS = 50


class VersionConflict(SixbotError):
    """The document is not the version that the caller saw."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes something, and through what: shown in ``audit`` and in ``updated_by``."""

    name: str
    source: str


class Control:
    """Writes the two settings documents on behalf of a person."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock

    def settings(self) -> Reading[TradingSettings]:
        """``trading_settings`` with what it inherits from the last good values in ``trading_status.applied``."""
        return self._store.read_settings(last_good(self._store, TradingSettings))

    def risk(self) -> Reading[RiskSettings]:
        """``risk_settings``, likewise."""
        return self._store.read_risk(last_good(self._store, RiskSettings))

    def change_settings(
        self, changes: Mapping[str, Any], actor: Actor, *, version: str | None = None, whole: bool = False
    ) -> Reading[TradingSettings]:
        """Patch (or with ``whole`` replace) ``trading_settings``. Raises DocumentError, VersionConflict, StoreError."""
        stamped = {**changes, "last_updated": rfc3339(self._clock.now()), "updated_by": actor.source}
        return self._change(self._store.keys.trading_settings, TradingSettings, stamped, actor, version, whole)

    def change_risk(
        self, changes: Mapping[str, Any], actor: Actor, *, version: str | None = None, whole: bool = False
    ) -> Reading[RiskSettings]:
        """Patch (or replace) ``risk_settings``. Raises DocumentError, VersionConflict, StoreError."""
        return self._change(self._store.keys.risk_settings, RiskSettings, changes, actor, version, whole)

    def stop(self, actor: Actor) -> None:
        """Turn trading off, whatever stands in the way. Raises StoreError where Redis takes no write at all.

        A document that is contended, unreadable or of another Redis type is replaced; a Redis too full to write has it
        deleted, which means OFF too, and the last good values stay in ``trading_status.applied``.
        """
        try:
            self.change_settings({"enabled": False}, actor)
        except SixbotError:
            self._force_off(actor)

    def _force_off(self, actor: Actor) -> None:
        key, now = self._store.keys.trading_settings, rfc3339(self._clock.now())
        off = dump_json(self._with_kept({"enabled": False, "last_updated": now, "updated_by": actor.source}))
        with suppress(StoreRefused):
            self._put_with_entry(key, off, audit_entry(self._clock, actor.name, actor.source, key, None, off))
            return
        new: bytes | None = off
        try:
            with translated_errors():
                self._store.client.set(key, off)
        except StoreRefused:
            with translated_errors():
                self._store.client.delete(key)
            new = None
        with suppress(StoreError):  # trading is off: an audit that cannot be written does not undo that
            entry = audit_entry(self._clock, actor.name, actor.source, key, None, new)
            self._store.add_event(self._store.keys.audit, entry)

    def _put_with_entry(self, key: str, new: bytes, entry: Mapping[str, str]) -> None:
        """Both at once, whatever stood there. Raises StoreError, and then neither is written or the entry alone."""
        with translated_errors(), self._store.client.pipeline(transaction=True) as pipe:
            pipe.xadd(self._store.keys.audit, cast("Any", dict(entry)), maxlen=STREAM_LIMITS["audit"], approximate=True)
            pipe.set(key, new)
            pipe.execute()

    def _with_kept(self, off: dict[str, Any]) -> dict[str, Any]:
        """The other fields of ``trading_settings`` around ``off``, as far as they can be read."""
        try:
            reading = self.settings()
            found = self._kept(reading.raw, reading) | off
            TradingSettings.parse(dump_json(found), reading.value)
        except SixbotError:
            return off
        return found

    def start(self, actor: Actor) -> Reading[TradingSettings]:
        """Lift the stop flag and turn trading on; the flag first, so that ``enabled`` is the last thing to change."""
        self.change_risk({"emergency_stop_active": False}, actor)
        return self.change_settings({"enabled": True}, actor)

    def _change(
        self, key: str, model: type[D], changes: Mapping[str, Any], actor: Actor, version: str | None, whole: bool
    ) -> Reading[D]:
        good = last_good(self._store, model)
        for _ in range(_ATTEMPTS):
            raw = self._read(key)
            if version is not None and version_of(raw) != version:
                raise VersionConflict(f"{key} was changed by someone else in the meantime; read it again")
            reading = judge(raw, model, good)
            kept = {} if whole else self._kept(raw, reading)
            new = dump_json(kept | dict(changes))
            if whole:  # what was left out is inherited now, and must not change when the last good values do
                new = dump_json(_unknown(raw, model) | _without_none(model.parse(new, reading.value)))
            result = Reading(new, model.parse(new, reading.value))
            entry = audit_entry(self._clock, actor.name, actor.source, key, raw, new)
            if self._store.write_document(key, raw, new, entry):
                return result
            if version is not None:
                raise VersionConflict(f"{key} was changed by someone else in the meantime; read it again")
        raise VersionConflict(f"{key} keeps being changed by others")

    def _read(self, key: str) -> bytes | None:
        try:
            return self._store.read_raw(key)
        except SixbotError as error:
            if "WRONGTYPE" not in str(error):
                raise
            raise DocumentError(
                "document", f"{key} holds another Redis type than a string: DEL {key}, then write it again"
            ) from error

    @staticmethod
    def _kept(raw: bytes | None, reading: Reading[D]) -> dict[str, Any]:
        """What a patch leaves as it stands: all readable fields, else the values in force."""
        if reading.error is not None and raw is not None:
            return _unknown(raw, type(reading.value)) | _in_force(reading.value)
        if raw is None:
            return _in_force(reading.value)
        value = parse_json(raw)
        return value if isinstance(value, dict) else {}


def _in_force(value: TradingSettings | RiskSettings | Any) -> dict[str, Any]:
    return _without_none(value) | ({"enabled": False} if isinstance(value, TradingSettings) else {})


def _without_none(value: Any) -> dict[str, Any]:
    return {name: item for name, item in value.plain().items() if item is not None}


def _unknown(raw: bytes | None, model: type[Any]) -> dict[str, Any]:
    """The fields of others, which no write of ours drops."""
    try:
        found = parse_json(raw or b"null")
    except DocumentError:
        return {}
    return {n: v for n, v in found.items() if n not in model.model_fields} if isinstance(found, dict) else {}


def write_default_settings(store: Store, clock: Clock, who: str) -> None:
    """A ``trading_settings`` that is missing when a worker starts is the one case that writes a default: OFF.

    Raises StoreError.
    """
    key, default = store.keys.trading_settings, TradingSettings().plain() | {"last_updated": rfc3339(clock.now())}
    new = dump_json(default)
    store.write_document(key, None, new, audit_entry(clock, who, "start", key, None, new))


def last_good(store: Store, model: type[D]) -> D:
    """The values in force, from ``trading_status.applied``, where they outlive a restart; else the defaults."""
    status = store.get_json(store.keys.trading_status)
    applied = status.get("applied") if isinstance(status, dict) else None
    name = "settings" if model is TradingSettings else "risk"
    plain = applied.get(name) if isinstance(applied, dict) else None
    if not isinstance(plain, dict):
        return model()
    try:
        return model.parse(dump_json(plain), model())
    except DocumentError:
        return model()
