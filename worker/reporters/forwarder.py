"""From the ``events`` stream to the reporters, without losing anything and without anyone waiting for it.

Per target (``telegram:CHAT``, ``webhook``, ``stdout``) the document ``reporter:{target}`` keeps how far it is told and
the one report on its way. A report is written there before it is enqueued, under an id that stays; so a restart finds
it again, and what RQ has forgotten is enqueued anew. Until it has arrived no other follows: what happens meanwhile
waits in the stream and is told together. Delivery is at least once: a worker that dies between the receiver's answer
and its own note tells it again, under the same id.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol, cast

import structlog

from shared.clock import Clock, rfc3339
from shared.logs import event_fields
from shared.store import Store, translated_errors
from worker.core.telling import Level, digest, line_of, news, standing, urgent
from worker.reporters.base import Report

MOST_EVENTS = 500
PAUSE_SECONDS = 3.0
"""Between any two reports to one target: Telegram allows a group twenty a minute."""
BURST, REFILL_SECONDS = 10, 30.0
"""So many reports may follow each other at that pace, then one every half a minute; a stop never waits for that."""
MOST_ATTEMPTS = 20

Entry = tuple[str, dict[str, str]]


class Fate(StrEnum):
    """What RQ says of a delivery."""

    PENDING = "pending"
    DELIVERED = "delivered"
    REFUSED = "refused"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery's fate, and the last thing that went wrong with it."""

    fate: Fate
    problem: str = ""


class Deliveries(Protocol):
    """Where deliveries are made. Every call may raise StoreError."""

    def send(self, delivery_id: str, target: str, report: Report) -> None: ...

    def fate(self, delivery_id: str) -> Delivery: ...

    def forget(self, delivery_id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Told:
    """``reporter:{target}``: the last entry that is told or passed over, and the report on its way."""

    cursor: str
    seen: Mapping[str, str] = field(default_factory=dict)
    report: Mapping[str, Any] | None = None
    upto: str = ""
    upto_seen: Mapping[str, str] = field(default_factory=dict)
    attempts: int = 0
    delivered: int = 0
    lost: int = 0
    last_delivered_at: str | None = None
    problem: str = ""

    def document(self) -> dict[str, Any]:
        names = ("cursor", "seen", "report", "upto", "upto_seen", "attempts", "delivered", "lost")
        return {n: getattr(self, n) for n in (*names, "last_delivered_at", "problem")}

    @classmethod
    def of(cls, found: object) -> Told | None:
        """None where it is missing or mangled: then telling begins with what happens from now on."""
        if not isinstance(found, dict):
            return None
        known = {name: value for name, value in found.items() if name in cls.__slots__}
        counts = [known.get(name, 0) for name in ("attempts", "delivered", "lost")]
        ids = [known.get("cursor"), known.get("upto") or "0-0"]
        looks = [look for name in ("seen", "upto_seen") if isinstance(look := known.get(name, {}), dict)]
        sound = all(type(count) is int for count in counts) and all(_is_id(name) for name in ids) and len(looks) == 2
        if not sound or not all(isinstance(value, str) for look in looks for value in look.values()):
            return None
        try:
            Report.of(known["report"]) if known.get("report") is not None else None
            return cls(**known)
        except (TypeError, ValueError):
            return None

    def done(self, at: str) -> Told:
        """The report has arrived."""
        passed = replace(self, cursor=self.upto, seen=self.upto_seen, report=None, attempts=0, problem="")
        return replace(passed, delivered=self.delivered + 1, last_delivered_at=at)

    def given_up(self, problem: str) -> Told:
        """The report will never be taken."""
        passed = replace(self, cursor=self.upto, seen=self.upto_seen, report=None, attempts=0)
        return replace(passed, lost=self.lost + 1, problem=problem)


class Forwarder:
    """One target's way out."""

    def __init__(
        self,
        target: str,
        level: Level,
        store: Store,
        deliveries: Deliveries,
        clock: Clock,
        logger: structlog.stdlib.BoundLogger,
        is_leader: Callable[[], bool],
    ) -> None:
        self.target, self._level = target, level
        self._store, self._deliveries, self._clock = store, deliveries, clock
        self._logger, self._is_leader = logger, is_leader
        self._key = store.keys.reporter(target)
        self._next = float("-inf")
        self._left, self._counted_at = float(BURST), clock.monotonic()

    def __call__(self) -> None:
        """One look. Raises StoreError; nothing is lost by it."""
        if not self._is_leader():
            return
        told = Told.of(self._store.get_json(self._key))
        if told is None:
            self._keep(Told(self._newest(), self._standing()))
        elif told.report is not None:
            self._follow(told, Report.of(told.report))
        elif self._clock.monotonic() >= self._next:
            self._gather(told)

    # -- a report on its way ----------------------------------------------------------------------------------------

    def _follow(self, told: Told, report: Report) -> None:
        name = _delivery_id(report, told.attempts)
        delivery = self._deliveries.fate(name)
        if delivery.fate is Fate.PENDING:
            if delivery.problem != told.problem:
                self._keep(replace(told, problem=delivery.problem))
        elif delivery.fate is Fate.UNKNOWN:
            self._deliveries.send(name, self.target, report)
        elif delivery.fate is Fate.DELIVERED:
            self._keep(told.done(rfc3339(self._clock.now())))
            self._finish(name)
        elif delivery.fate is Fate.FAILED and told.attempts < MOST_ATTEMPTS:
            self._logger.warning("report_tried_again", target=self.target, report=report.id, why=delivery.problem)
            self._keep(replace(told, attempts=told.attempts + 1, problem=delivery.problem))
            self._deliveries.forget(name)
        else:
            self._keep(told.given_up(delivery.problem))
            self._logger.warning("report_lost", target=self.target, report=report.id, why=delivery.problem)
            fields = {"time": rfc3339(self._clock.now()), "target": self.target, "why": delivery.problem}
            self._store.add_event(self._store.keys.events, event_fields("report_lost", fields))
            self._finish(name)

    def _finish(self, name: str) -> None:
        self._next = self._clock.monotonic() + PAUSE_SECONDS
        self._left = max(self._left - 1, 0.0)
        self._deliveries.forget(name)

    # -- the next one -----------------------------------------------------------------------------------------------

    def _gather(self, told: Told) -> None:
        after = self._standing()
        if not urgent(told.seen, after) and not self._may_tell():
            return
        entries, gap = self._entries(told.cursor)
        lines = ["some events were dropped from the stream before they could be told"] if gap else []
        lines += news(told.seen, after)
        shown = [(event, line) for _, event in entries if (line := line_of(event, self._level)) is not None]
        lines += [line for _, line in shown]
        upto = entries[-1][0] if entries else told.cursor
        if not lines:
            if upto != told.cursor or dict(told.seen) != after:
                self._keep(replace(told, cursor=upto, seen=after))
            return
        now = rfc3339(self._clock.now())
        name = "".join(c if c.isalnum() else "_" for c in f"{self.target} {now} {upto}")
        report = Report(f"report-{name}", now, digest(lines), tuple(event for event, _ in shown))
        self._keep(replace(told, report=report.document(), upto=upto, upto_seen=after, attempts=0))
        self._deliveries.send(_delivery_id(report, 0), self.target, report)

    def _may_tell(self) -> bool:
        now = self._clock.monotonic()
        self._left = min(self._left + (now - self._counted_at) / REFILL_SECONDS, float(BURST))
        self._counted_at = now
        return self._left >= 1

    def _entries(self, cursor: str) -> tuple[list[Entry], bool]:
        """The next entries after ``cursor``, and whether the stream no longer holds the entry that it names."""
        events = self._store.keys.events
        with translated_errors():
            raw = self._store.client.xrange(events, min=cursor, count=MOST_EVENTS + 1)
        found = [_entry(item) for item in cast("list[tuple[bytes, dict[bytes, bytes]]]", raw)]
        known = bool(found) and found[0][0] == cursor
        return (found[1:] if known else found), bool(found) and not known and cursor != "0-0"

    def _newest(self) -> str:
        with translated_errors():
            rows = cast("list[tuple[bytes, Any]]", self._store.client.xrevrange(self._store.keys.events, count=1))
        return rows[0][0].decode() if rows else "0-0"

    def _standing(self) -> dict[str, str]:
        keys, read = self._store.keys, self._store.get_json
        return standing(read(keys.trading_status), read(keys.stop_report), read(keys.stop_latch))

    def _keep(self, told: Told) -> None:
        self._store.put_json(self._key, told.document())


def _is_id(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch(r"\d{1,20}-\d{1,20}", name) is not None


def _delivery_id(report: Report, attempts: int) -> str:
    """Another attempt is another job: the record of one that died cannot be in its way."""
    return f"{report.id}-{attempts}"


def _entry(item: tuple[bytes, dict[bytes, bytes]]) -> Entry:
    name, fields = item
    return name.decode(), {k.decode(errors="replace"): v.decode(errors="replace") for k, v in fields.items()}


class Direct:
    """Deliveries of a reporter that waits for nobody (stdout): made at once, in this process."""

    def __init__(self, deliver: Callable[[Report], None]) -> None:
        self._deliver = deliver
        self._made: dict[str, Delivery] = {}

    def send(self, delivery_id: str, target: str, report: Report) -> None:
        self._deliver(report)
        self._made[delivery_id] = Delivery(Fate.DELIVERED)

    def fate(self, delivery_id: str) -> Delivery:
        return self._made.get(delivery_id, Delivery(Fate.UNKNOWN))

    def forget(self, delivery_id: str) -> None:
        self._made.pop(delivery_id, None)
