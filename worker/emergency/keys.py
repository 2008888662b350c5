"""Everything the emergency worker writes to Redis, each write bounded and none of them in the way of a cancel."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import redis

from shared.clock import Clock, rfc3339
from shared.documents import Document, Reading, RiskSettings, TradingSettings, dump_json, parse_json, version_of
from shared.errors import DocumentError, StoreError, StoreRefused, StoreUnreachable
from shared.keys import ARMED_TTL_SECONDS
from shared.status import merge_status
from shared.store import Store, judge, translated_errors, wrong_type
from worker.line import Line

ASK_AGAIN_SECONDS = 2.0
LARGEST_EPOCH = 2**52
D = TypeVar("D", bound=Document)

# KEYS 1 trading_armed, 2 trading_epoch. ARGV 1 the least epoch that may come of it.
_FENCE = """
redis.call('DEL', KEYS[1])
local now = redis.pcall('GET', KEYS[2])
local value = 0
if type(now) == 'string' then value = tonumber(now) or 0 end
if value ~= value or value < 0 or value >= 4503599627370496 then value = 0 end
local least = tonumber(ARGV[1])
value = math.max(value + 1, least)
redis.call('SET', KEYS[2], string.format('%.0f', value))
return string.format('%.0f', value)
"""


@dataclass(frozen=True, slots=True)
class Sight:
    """One look: both documents, the epoch (None: missing or mangled), this host's heartbeats of trading, and whether
    Redis had broken the connection off since the last one."""

    settings: Reading[TradingSettings]
    risk: Reading[RiskSettings]
    epoch: int | None
    beats: Sequence[Mapping[str, Any]]
    was_cut: bool = False


class EmergencyKeys:
    """The keys of an emergency worker. The first of its accounts is the one whose status it tells."""

    def __init__(self, store: Store, accounts: Sequence[str], clock: Clock) -> None:
        self.store, self._accounts, self._clock = store, tuple(accounts), clock
        self._fence = store.client.register_script(_FENCE)
        self._ask_again_at = float("-inf")
        self._eye, self._fence_line = Line(store.client), Line(store.client)
        self._fencing = threading.Lock()
        self._looked = self._was_cut = False
        self._looks: dict[str, Sequence[bytes]] = {}

    def look(self, good: tuple[TradingSettings, RiskSettings], host: str) -> Sight:
        """All that may forbid trading, in one round trip: a stop waits for nothing twice.

        Raises StoreUnreachable, and StoreRefused where Redis refuses for another reason than a key's type.
        """
        keys = self.store.keys
        try:
            answers = self._answers(host)
        except StoreUnreachable:
            self._ask_again_at = self._clock.monotonic() + ASK_AGAIN_SECONDS
            raise
        settings = self._judged(keys.trading_settings, answers[0], TradingSettings, good[0])
        risk = self._judged(keys.risk_settings, answers[1], RiskSettings, good[1])
        beats = [beat for raw in answers[3] if raw is not None and (beat := _object(raw)) is not None]
        sight = Sight(settings, risk, _whole_number(answers[2]), beats, self._was_cut)
        self._looked, self._was_cut = True, False
        return sight

    def _answers(self, host: str) -> list[Any]:
        with translated_errors():
            self._was_cut = self._was_cut or (self._looked and not self._eye.is_up)
            self._eye.open()
            self._eye.send(self._look_at(host))
            answers = self._eye.read(4)
            for answer in answers:
                if isinstance(answer, Exception) and "WRONGTYPE" not in str(answer):
                    raise answer
        return answers

    def _look_at(self, host: str) -> Sequence[bytes]:
        packed = self._looks.get(host)
        if packed is None:
            keys = self.store.keys
            beats = [keys.heartbeat(name, host) for name in self._trading_names]
            gets = [("GET", key) for key in (keys.trading_settings, keys.risk_settings, keys.trading_epoch)]
            packed = self._looks[host] = self._eye.pack([*gets, ("MGET", *beats)])
        return packed

    @staticmethod
    def _judged(key: str, answer: bytes | Exception | None, model: type[D], good: D) -> Reading[D]:
        return wrong_type(key, good) if isinstance(answer, Exception) else judge(answer, model, good)

    @property
    def _trading_names(self) -> list[str]:
        """The trading processes of a host: the one for all accounts, and one for each."""
        return ["trading", *(f"trading-{account}" for account in self._accounts)]

    def epoch(self) -> int | None:
        """``trading_epoch``; None where it is missing or mangled. Raises StoreUnreachable."""
        try:
            return _whole_number(self.store.read_raw(self.store.keys.trading_epoch))
        except StoreRefused:
            return None

    def raise_epoch(self, least: int) -> int:
        """Disarm and raise the epoch above all that was and to at least ``least``. Raises StoreError."""
        keys = self.store.keys
        with translated_errors():
            self.store.client.delete(keys.trading_armed)  # allowed even on a full server
            return int(self._fence(keys=[keys.trading_armed, keys.trading_epoch], args=[least]))

    def begin_fence(self, least: int) -> bool:
        """Let the commands of ``raise_epoch`` leave over the line kept for them, and wait for nothing.

        True: ``end_fence`` must follow, from any thread. False: nothing has left, since the line is down or in use.
        """
        if not self._fencing.acquire(blocking=False):
            return False
        keys = self.store.keys
        fence = ("EVAL", _FENCE, 2, keys.trading_armed, keys.trading_epoch, least)
        try:
            if self._fence_line.is_up:
                self._fence_line.send(self._fence_line.pack([("DEL", keys.trading_armed), fence]))
                return True
        except (redis.RedisError, OSError):
            self._fence_line.close()
        self._fencing.release()
        return False

    def end_fence(self) -> int:
        """The epoch that ``begin_fence`` has led to. Raises StoreError: it may have been raised or not."""
        try:
            with translated_errors():
                for answer in (answers := self._fence_line.read(2)):
                    if isinstance(answer, Exception):
                        raise answer
                return int(answers[1])
        except StoreUnreachable:
            self._fence_line.close()
            raise
        finally:
            self._fencing.release()

    def keep_fence_line(self) -> None:
        """Open the fence's line, or see that it still answers. Raises StoreError."""
        if not self._fencing.acquire(blocking=False):
            return
        try:
            with translated_errors():
                self._fence_line.open()
                self._fence_line.send(self._fence_line.pack([("PING",)]))
                self._fence_line.read(1)
        except StoreUnreachable:
            self._fence_line.close()
            raise
        finally:
            self._fencing.release()

    def close(self) -> None:
        self._eye.close()
        self._fence_line.close()

    def arm(self, epoch: int) -> None:
        """Allow this epoch for three seconds. Raises StoreError."""
        with translated_errors():
            self.store.client.set(self.store.keys.trading_armed, str(epoch), ex=ARMED_TTL_SECONDS)

    def disarm(self) -> None:
        """Raises StoreError."""
        with translated_errors():
            self.store.client.delete(self.store.keys.trading_armed)

    def status(self, fields: Mapping[str, Any], epoch: int) -> None:
        """``active``, ``state``, ``stop_reason``; an epoch in the status that was never given refuses nobody.

        Raises StoreError.
        """
        if not merge_status(self.store, self._accounts[0], fields, epoch):
            merge_status(self.store, self._accounts[0], fields, epoch, newest=max(self.epoch() or 0, epoch))

    def report(self, document: Mapping[str, Any]) -> None:
        """``stop_report``. Raises StoreError."""
        self.store.put_json(self.store.keys.stop_report, document)

    def reported(self, account: str) -> object:
        """The account's row of ``stop_report`` as it stands; None where there is none or Redis has no answer."""
        try:
            found = self.store.get_json(self.store.keys.stop_report)
        except StoreError:
            return None
        rows = found.get("accounts") if isinstance(found, dict) else None
        return rows.get(account) if isinstance(rows, dict) else None

    def show_latch(self, latch: Mapping[str, Any] | None) -> None:
        """``stop_latch`` as it is on disk. Raises StoreError."""
        if latch is None:
            with translated_errors():
                self.store.client.delete(self.store.keys.stop_latch)
        else:
            self.store.put_json(self.store.keys.stop_latch, latch)

    def set_stop_flag(self) -> None:
        """``emergency_stop_active`` true in ``risk_settings``, where that is readable; all else stays as it stands."""
        key = self.store.keys.risk_settings
        for _ in range(10):
            raw = self.store.read_raw(key)
            try:
                found = parse_json(raw) if raw is not None else {}
            except DocumentError:
                return
            if judge(raw, RiskSettings, RiskSettings()).error is not None or not isinstance(found, dict):
                return
            if found.get("emergency_stop_active") is True:
                return
            if self.store.write_document(key, raw, dump_json({**found, "emergency_stop_active": True})):
                return

    def write_default_settings(self) -> None:
        """A missing ``trading_settings`` at start-up is the one case that writes a default: OFF. Raises StoreError."""
        default = TradingSettings().plain() | {"last_updated": rfc3339(self._clock.now())}
        self.store.write_document(self.store.keys.trading_settings, None, dump_json(default))

    def has_open_orders(self, account: str) -> bool:
        """Whether the book has any order of the account that is not final. Raises StoreError."""
        client, keys = self.store.client, self.store.keys
        with translated_errors(), client.pipeline(transaction=False) as pipe:
            for name in cast("set[bytes]", client.smembers(keys.orders_open)):
                pipe.hget(keys.order(name.decode()), "account")
            # one that says nothing of its account may be anybody's
            return any(found in {None, account.encode()} for found in pipe.execute())

    def working_in_book(self, account: str) -> dict[str, str]:
        """The venue's ids, by ours, of the account's orders that are not final; none where Redis has no answer."""
        if self._clock.monotonic() < self._ask_again_at:
            return {}
        client, keys = self.store.client, self.store.keys
        try:
            with translated_errors(), client.pipeline(transaction=False) as pipe:
                names = [name.decode() for name in sorted(cast("set[bytes]", client.smembers(keys.orders_open)))]
                for name in names:
                    pipe.hmget(keys.order(name), "account", "venue_order_id")
                found = zip(names, cast("list[list[bytes | None]]", pipe.execute()), strict=True)
                return {name: at.decode() for name, (whose, at) in found if at and whose == account.encode()}
        except (StoreError, UnicodeDecodeError):
            return {}

    def effect_of(self, client_order_id: str) -> str | None:
        """What the book says of an order; None where it or Redis has no answer.

        A Redis that did not answer is not asked again for a while: fifty timeouts would stand before fifty cancels.
        """
        if self._clock.monotonic() < self._ask_again_at:
            return None
        try:
            with translated_errors():
                raw = self.store.client.hget(self.store.keys.order(client_order_id), "effect")
            return None if raw is None else cast("bytes", raw).decode()
        except StoreUnreachable:
            self._ask_again_at = self._clock.monotonic() + ASK_AGAIN_SECONDS
            return None
        except (StoreError, UnicodeDecodeError):
            return None


def _whole_number(raw: object) -> int | None:
    """None too for what a script's numbers, which are doubles, cannot count on from."""
    try:
        number = int(raw) if isinstance(raw, bytes) else -1
    except ValueError:
        return None
    return number if 0 <= number < LARGEST_EPOCH else None


class ExternalAudit:
    """Notes changes of the two documents that no frontend noted: made by ``redis-cli``, shown as ``external``."""

    def __init__(self, keys: EmergencyKeys, clock: Clock) -> None:
        self._keys, self._clock = keys, clock
        self._seen: dict[str, bytes | None] = {}

    def look(self, documents: Mapping[str, bytes | None]) -> None:
        """Compare with the last look; the first look only remembers. Raises StoreError."""
        for key, raw in documents.items():
            if key in self._seen and self._seen[key] != raw and not self._noted(key, version_of(raw)):
                old = self._seen[key]
                self._keys.store.add_event(
                    self._keys.store.keys.audit,
                    {
                        "time": rfc3339(self._clock.now()),
                        "who": "external",
                        "from": "external",
                        "key": key,
                        "version": version_of(raw),
                        "old": _shown(old),
                        "new": _shown(raw),
                    },
                )
            self._seen[key] = raw

    def _noted(self, key: str, version: str) -> bool:
        store = self._keys.store
        with translated_errors():
            rows = cast("list[tuple[bytes, dict[bytes, bytes]]]", store.client.xrevrange(store.keys.audit, count=20))
        return any(f.get(b"key") == key.encode() and f.get(b"version") == version.encode() for _, f in rows)


def _object(raw: bytes) -> Mapping[str, Any] | None:
    try:
        found = parse_json(raw)
    except DocumentError:
        return None
    return found if isinstance(found, dict) else None


def _shown(raw: bytes | None) -> str:
    return "" if raw is None else raw[:2000].decode(errors="replace")
