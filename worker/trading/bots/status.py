"""``bot:{id}:status``: what a bot does now, and what it has in force."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any, cast

from shared.bots import CYCLE_BOT
from shared.clock import Clock, parse_rfc3339, rfc3339
from shared.store import Store, translated_errors
from worker.core.bot_position import BotPosition
from worker.core.protection import stop_stands
from worker.core.trades import moment_of
from worker.trading.bots.documents import BotDocument
from worker.trading.bots.pipeline import Lane
from worker.trading.bots.runner import BotRunner, moment
from worker.trading.ports import Notes, Switches

EVERY_SECONDS = 1.0
MOST_AT_ONCE = 100
MOST_LOOKED_AT = 400
"""A look that finds nothing to write costs a tenth of one that does. At four a second, a thousand bots have their turn
within a second, or where all of them change all the time, within two and a half.
"""
AGAIN_SECONDS = 10.0
"""How often it is written although nothing changed: somebody may have mangled it. Every second while anything is open:
where the process is killed, its last status tells since when nobody watches."""
LONGEST_SECONDS = 10 * 365 * 86_400


_NEVER: tuple[object, object, float, float] = (None, None, float("-inf"), float("-inf"))


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why no bot of the account may enter, for a person; ``off`` where no exit is sent either."""

    why: str
    off: bool


def blocked_by(switches: Switches, *, on: bool, drift: str) -> Blocked | None:
    """The first thing that stands against every entry; None where nothing does."""
    risk = switches.risk.value
    if switches.error is not None:
        return Blocked(switches.error, off=True)
    if not switches.settings.value.enabled:
        return Blocked("trading_settings.enabled is not true", off=True)
    if risk.emergency_stop_active:
        return Blocked("risk_settings.emergency_stop_active is true", off=True)
    if not on:
        return Blocked("trading is not armed yet, or the account not reconciled", off=True)
    if risk.reduce_only:
        return Blocked("risk_settings.reduce_only is true", off=False)
    return Blocked(f"REDUCING: {drift}", off=False) if drift else None


@dataclass(frozen=True, slots=True)
class Shown:
    """What a status is made of."""

    document: BotDocument
    runner: BotRunner
    lane: Lane
    feed: Mapping[str, Any]
    late: int
    blocked: Blocked | None = None


class BotStatus:
    """Writes on change, at most once a second, at once where another configuration is in force."""

    def __init__(self, store: Store, account: str, clock: Clock, notes: Notes) -> None:
        self._store, self._account, self._clock, self._notes = store, account, clock, notes
        self._states: dict[int, tuple[object, object]] = {}
        self._written: dict[int, tuple[object, object, float, float]] = {}
        self._before: dict[int, float] = {}
        self._turns: dict[int, int] = {}
        self._looks = 0

    def resume(self, bot_id: int) -> None:
        """Go on counting where the last process stopped, and count the time since as well where something was held.

        Raises StoreError.
        """
        found = self._store.get_json(self._store.keys.bot_status(bot_id))
        before = found if isinstance(found, dict) else {}
        self._before[bot_id] = _total(before) + _without_a_trader(before, self._clock.now())

    def due(self, bot_id: int, document: BotDocument) -> bool:
        """Whether to look at a bot at all: a second has passed, or another document is in force."""
        found = self._written.get(bot_id)
        if found is None or self._clock.monotonic() - found[2] >= EVERY_SECONDS:
            return True
        return found[1] != _stamp(document)

    def publish(self, due: Mapping[int, BotDocument], show: Callable[[int], Shown]) -> None:
        """Not more than so many at once: a thousand bots must not keep a stop-loss waiting. Raises StoreError.

        Those that have waited longest come first, so that bots that change all the time starve no other; half of the
        places are for those with another configuration in force.
        """
        left = MOST_AT_ONCE
        for bot_id in self._in_turn(due)[:MOST_LOOKED_AT]:
            left -= self._write(bot_id, partial(self._told, bot_id, show), _stamp(due[bot_id]))
            if not left:
                return

    def _in_turn(self, due: Mapping[int, BotDocument]) -> list[int]:
        waiting = sorted(due, key=lambda n: self._turns.get(n, 0))
        if len(waiting) <= MOST_AT_ONCE:
            return waiting
        changed = [n for n in waiting if self._written.get(n, _NEVER)[1] != _stamp(due[n])][: MOST_AT_ONCE // 2]
        first = set(changed)
        return changed + [n for n in waiting if n not in first]

    def publish_cycle(self, document: BotDocument) -> None:
        """Bot 1: what it does stands in ``trading_status``."""
        state = "paused" if not document.value.enabled else "see trading_status"
        told = {"bot_id": CYCLE_BOT, "kind": "cycle", "state": state, **_in_force(document)}
        self._write(CYCLE_BOT, lambda: told, document)

    @staticmethod
    def explained(document: BotDocument, accounts: tuple[str, ...]) -> BotDocument:
        """The document of a bot that can run nowhere, with the reason."""
        fault = f"account: no account is called {document.value.account!r}: choose from {', '.join(accounts)}"
        return replace(document, error=document.error or fault)

    def publish_lost(self, lost: Mapping[int, BotDocument]) -> None:
        """Bots that can run nowhere: without a document, or for an account that does not exist. As many at once, and in
        the same turn, as of those that run. Raises StoreError."""
        due = {bot_id: document for bot_id, document in lost.items() if self.due(bot_id, document)}
        left = MOST_AT_ONCE
        for bot_id in self._in_turn(due)[:MOST_LOOKED_AT]:
            document = due[bot_id]
            left -= self._write(bot_id, partial(_told_lost, bot_id, document), _stamp(document))
            if not left:
                return

    def forget(self, bot_id: int) -> None:
        """The bot is gone, and nothing of it is open. Raises StoreError."""
        self._written.pop(bot_id, None)
        self._turns.pop(bot_id, None)
        with translated_errors():
            self._store.client.delete(self._store.keys.bot_status(bot_id))

    def _write(self, bot_id: int, build: Callable[[], dict[str, Any]], urgent: object) -> bool:
        """Whether it was due and written."""
        now = self._clock.monotonic()
        before, stamp, looked, written = self._written.get(bot_id, _NEVER)
        if stamp == urgent and now - looked < EVERY_SECONDS:
            return False
        document = build()
        self._looks += 1  # also where Redis then refuses it: the others have their turn
        self._turns[bot_id] = self._looks
        self._written[bot_id] = (before, stamp, now, written)
        again = EVERY_SECONDS if document.get("positions") else AGAIN_SECONDS
        if stamp == urgent and before == document and now - written < again:
            return False
        told = {**document, "account": self._account, "updated_at": rfc3339(self._clock.now())}
        self._store.put_json(self._store.keys.bot_status(bot_id), told)
        state = (document["state"], document.get("config_error"))
        if self._states.get(bot_id) != state:
            self._states[bot_id] = state
            self._notes("bot_state", bot_id=bot_id, state=state[0], config_error=state[1])
        self._written[bot_id] = (document, urgent, now, now)
        return True

    def _told(self, bot_id: int, show: Callable[[int], Shown]) -> dict[str, Any]:
        return self._document(bot_id, show(bot_id))

    def _document(self, bot_id: int, shown: Shown) -> dict[str, Any]:
        manager, lane = shown.runner.manager, shown.lane
        positions = [self._position(shown.runner, p) for p in manager.positions.values()]
        unprotected = self._before.get(bot_id, 0.0) + manager.unprotected_seconds(self._clock.now().timestamp())
        counters = manager.counters
        return {
            "bot_id": bot_id,
            "kind": "stream",
            "state": _state(shown),
            **_in_force(shown.document),
            "model": {"id": shown.document.value.model_id, "problem": lane.model.problem or None},
            "last_prediction": None
            if not lane.second
            else {
                "time": rfc3339(moment_of(lane.second)),
                "value": lane.value,
                "confidence": lane.confidence,
                "problem": lane.problem or None,
            },
            "feed": dict(shown.feed),
            "positions": positions,
            "unprotected_seconds_total": round(unprotected, 3),
            "counters": {
                "predictions": lane.predictions,
                "entries": counters.entries,
                "expired": counters.expired,
                "refused": counters.refused,
                "late": shown.late,
                "closed": dict(counters.closed),
            },
            "last_denial": shown.runner.last_denial or None,
            "entries_blocked_by": None if shown.blocked is None else shown.blocked.why,
        }

    @staticmethod
    def _position(runner: BotRunner, position: BotPosition) -> dict[str, Any]:
        manager = runner.manager
        target, stop, entry = manager.take_profit(position), manager.stop_loss(position), position.entry_price
        return {
            "id": position.id,
            "symbol": position.symbol,
            "phase": position.phase.value,
            "quantity": str(position.held),
            "entry_price": None if entry is None else str(entry),
            "take_profit": None if target is None else str(target),
            "stop_loss": None if stop is None else str(stop),
            "opened_at": None if position.opened_at is None else rfc3339(moment(position.opened_at)),
            "closing": position.closing or None,
            "exit_orders": sorted(position.exits),
            "protected": position.held > 0 and position.uncovered_since is None,
            "stop_loss_kept_by": "venue" if stop_stands(position) else "trader",
            "problem": position.problem or position.no_pair or None,
        }


def _stamp(document: BotDocument) -> tuple[str, str | None]:
    """What must be told at once where it changes."""
    return document.version, document.error


def _in_force(document: BotDocument) -> dict[str, Any]:
    value = document.value
    return {"enabled": value.enabled, "config": value.plain(), "version": document.version} | {
        "config_error": document.error
    }


def _told_lost(bot_id: int, document: BotDocument) -> dict[str, Any]:
    state = "no_account" if document.listed else "no_document"
    return {"bot_id": bot_id, "kind": "stream", "state": state, **_in_force(document)}


def _state(shown: Shown) -> str:
    settings, manager = shown.document.value, shown.runner.manager
    if settings.close_positions:
        return "closing" if manager.positions else "closed"
    if not settings.enabled:
        return "closing" if manager.positions else "off"
    if shown.lane.model.current is None:
        return "no_model"
    if shown.feed.get("state") != "live":
        return "no_feed"
    if not shown.feed.get("ready"):
        return "warming_up"
    return "trading_off" if shown.blocked is not None and shown.blocked.off else "running"


def _total(before: Mapping[str, Any]) -> float:
    total = before.get("unprotected_seconds_total")
    known = isinstance(total, int | float) and not isinstance(total, bool) and 0 <= total <= LONGEST_SECONDS
    return float(cast("float", total)) if known else 0.0


def _without_a_trader(before: Mapping[str, Any], now: datetime) -> float:
    """Seconds since a status that shows something held; whoever mangled it is not believed."""
    rows, at = before.get("positions"), before.get("updated_at")
    if not isinstance(rows, list) or not isinstance(at, str) or not any(map(_was_watched_here, rows)):
        return 0.0
    try:
        passed = (now - parse_rfc3339(at)).total_seconds()
    except ValueError:
        return 0.0
    return passed if 0 <= passed <= LONGEST_SECONDS else 0.0


def _was_watched_here(row: object) -> bool:
    """Something held whose stop-loss the venue does not keep."""
    if not isinstance(row, dict) or row.get("stop_loss_kept_by") == "venue":
        return False
    quantity = row.get("quantity")
    try:
        return isinstance(quantity, str) and Decimal(quantity) > 0
    except InvalidOperation:
        return False
