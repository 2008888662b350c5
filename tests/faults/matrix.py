"""The ambiguity matrix: every ambiguous or hostile answer of a venue, and what must come of it.

A row runs in this process over the real parts: gate and book in Redis, the desk, the reconciler, and the venue's
adapter over its protocol server. Nothing fills at the venue unless the row says so.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.faults.account import DEADLINE_SECONDS, VENUES, Account, Door
from tests.servers.lies import Done
from worker.core.types import OrderState

S = OrderState


@dataclass(frozen=True, slots=True)
class Row:
    """``answer`` scripts the reply to the order (None: the truth); ``ends`` is the state that it must come to and
    ``filled`` what it must have filled; ``then`` is what happens after the send, by default that it all fills."""

    name: str
    answer: Callable[[Door], Any] = lambda _: None
    first: frozenset[OrderState] = frozenset({S.UNKNOWN})
    ends: OrderState = S.FILLED
    filled: str = "3"
    then: Callable[[Account, str], None] = lambda account, name: account.door.fill(name, "3", "100.07")
    orders: int = 1
    sends: int = 1


def _nothing(_account: Account, _name: str) -> None:
    """The venue has no such order."""


def _late_visible(account: Account, name: str) -> None:
    """Look-ups deny it until it has long been given up, and it fills meanwhile."""
    door = account.door
    account.door.fill(name, "3", "100.07")
    door.lie(door.by_id(name), *[door.unknown_id] * 3)
    door.lie(door.listing, *[(200, "[]")] * 3)
    account.reconcile()
    door.honest()
    assert account.order(name).state in {S.UNKNOWN, S.ABSENT}


def _absent_first(account: Account, name: str) -> None:
    """Look-ups and lists deny it until it is ABSENT; then it is there."""
    door = account.door
    end = time.monotonic() + DEADLINE_SECONDS
    while account.order(name).state is not S.ABSENT and time.monotonic() < end:
        door.lie(door.by_id(name), *[door.unknown_id] * 3)
        door.lie(door.listing, *[(200, "[]")] * 3)
        account.reconcile()
        door.honest()
        time.sleep(0.1)
    assert account.order(name).state is S.ABSENT
    door.fill(name, "3", "100.07")


def _duplicate_fill(account: Account, name: str) -> None:
    account.door.fill(name, "1", "99.90")
    account.door.fill(name, "2", "100.20")
    pushed = account.updates(3)
    for update in [*pushed, *pushed, pushed[-1]]:
        account.desk.take_update(update)
    assert account.order(name).filled_qty == 3


def _out_of_order(account: Account, name: str) -> None:
    for qty, price in (("1", "99.90"), ("1", "100.00"), ("1", "100.30")):
        account.door.fill(name, qty, price)
    for update in reversed(account.updates(4)):
        account.desk.take_update(update)


def _partial(account: Account, name: str) -> None:
    for qty, price in (("1", "99.90"), ("1", "100.00"), ("1", "100.30")):
        account.door.fill(name, qty, price)
        account.reconcile()


def _partial_then_cancel(account: Account, name: str) -> None:
    account.door.fill(name, "2", "99.90")
    account.until(name, S.PARTIALLY_FILLED)
    account.venue.cancel_all()


def _fill_after_cancel(account: Account, name: str) -> None:
    account.venue.cancel_all()
    account.until(name, S.CANCELED)
    account.door.fill(name, "1", "99.90")


def _all_after_cancel(account: Account, name: str) -> None:
    account.venue.cancel_all()
    account.until(name, S.CANCELED)
    account.door.fill(name, "3", "99.90")


def _overfill(account: Account, name: str) -> None:
    account.door.fill(name, "2", "99.90")
    account.door.fill(name, "3", "100.10")


def _sent_twice(account: Account, name: str) -> None:
    """Another order meanwhile; the first one's id is never used again."""
    account.door.fill(name, "3", "100.07")
    account.reconcile()
    account.submit("sbe1rmatrix0002")
    account.door.fill("sbe1rmatrix0002", "3", "100.01")
    account.until("sbe1rmatrix0002", S.FILLED)


ANSWERED = frozenset({S.ACCEPTED, S.SUBMITTED})
_PAGE = "<!DOCTYPE html><html><body>Sign in</body></html>"
_LIMITED = '{"message": "rate limit exceeded"}'

ROWS: tuple[Row, ...] = (
    Row("the truth", first=ANSWERED),
    Row("accepted, then no answer (timeout)", lambda _: "slow"),
    Row("accepted, the answer after more than 3 s", lambda _: "late"),
    Row("accepted, then reset", lambda _: "reset"),
    Row("429, not accepted", lambda _: (429, _LIMITED), ends=S.ABSENT, filled="0", then=_nothing, orders=0),
    Row("429, accepted all the same", lambda _: Done(429, _LIMITED)),
    Row("500, not accepted", lambda _: (500, ""), ends=S.ABSENT, filled="0", then=_nothing, orders=0),
    Row("500, accepted", lambda _: 500),
    Row("502, accepted", lambda _: 502),
    Row("504, accepted", lambda _: 504),
    Row("503, not accepted", lambda _: (503, _PAGE), ends=S.ABSENT, filled="0", then=_nothing, orders=0),
    Row("garbage for an answer", lambda door: Done(door.ok, "!?\x00")),
    Row("an empty answer", lambda door: Done(door.ok, "")),
    Row("an empty object", lambda door: Done(door.ok, "{}")),
    Row("null", lambda door: Done(door.ok, "null")),
    Row("JSON nested 100,000 deep", lambda door: Done(door.ok, "[" * 100_000)),
    Row("another order's answer", lambda door: Done(door.ok, door.other_order)),
    Row("truncated JSON", lambda _: "truncated"),
    Row("an HTML page", lambda door: Done(door.ok, _PAGE)),
    Row("a refusal of another order's kind (409)", lambda _: Done(409, '{"message": "conflict"}')),
    Row("\u201cclient order id exists\u201d", lambda door: Done(*door.duplicate)),
    Row("a structured refusal", lambda door: door.refusal, frozenset({S.REJECTED}), S.REJECTED, "0", _nothing, 0),
    Row("reset, and visible late", lambda _: "reset", then=_late_visible),
    Row("reset, given up as ABSENT, then there", lambda _: "reset", then=_absent_first),
    Row("every fill message twice", first=ANSWERED, then=_duplicate_fill),
    Row("updates in reverse order", first=ANSWERED, then=_out_of_order),
    Row("partial fills at three prices", first=ANSWERED, then=_partial),
    Row("partial fills after a reset", lambda _: "reset", then=_partial),
    Row("a partial fill, then a cancel", first=ANSWERED, ends=S.CANCELED, filled="2", then=_partial_then_cancel),
    Row("a fill after the cancel", first=ANSWERED, ends=S.CANCELED, filled="1", then=_fill_after_cancel),
    Row("filled whole after the cancel", first=ANSWERED, then=_all_after_cancel),
    Row("the venue fills more than ordered", first=ANSWERED, filled="5", then=_overfill),
    Row("the next order after a reset", lambda _: "reset", then=_sent_twice, orders=2, sends=2),
)


@dataclass(slots=True)
class Outcome:
    """What came of a row. ``problems`` is empty where all is as it must be."""

    row: str
    first: str = ""
    state: str = ""
    filled: str = ""
    sends: int = 0
    problems: list[str] = field(default_factory=list)


def run_row(account: Account, row: Row) -> Outcome:
    """Send into the lie, let happen what happens, reconcile, compare."""
    outcome = Outcome(row.name)
    lie = row.answer(account.door)
    if lie is not None:
        account.door.lie(account.door.place, lie)
    try:
        name = account.submit()
        outcome.first = account.order(name).state.value
        if account.order(name).state not in row.first:
            outcome.problems.append(f"right after the send it is {outcome.first}")
        row.then(account, name)
        account.until(name, row.ends)
        account.until(name, row.ends)
        found = account.order(name)
        outcome.state, outcome.filled = found.state.value, str(found.filled_qty)
        if found.filled_qty != Decimal(row.filled):
            outcome.problems.append(f"{found.filled_qty} filled in the book, {row.filled} at the venue")
        outcome.problems += _settled(account)
    except Exception as error:  # a row that breaks is a finding like any other
        outcome.problems.append(repr(error))
    truth = account.door.truth()
    outcome.sends = account.door.sends()
    if (len(truth.orders), outcome.sends) != (row.orders, row.sends):
        outcome.problems.append(f"{len(truth.orders)} orders at the venue, {outcome.sends} sends")
    return outcome


def _settled(account: Account) -> list[str]:
    """What the oracle still finds after the time to heal."""
    end = time.monotonic() + DEADLINE_SECONDS
    while (found := account.verdict()) and time.monotonic() < end:
        account.reconcile()
        time.sleep(0.05)
    return [f"{kind}: {fact}" for kind, facts in found.items() for fact in facts]


def run_matrix(venue: str, redis_url: str, rows: tuple[Row, ...] = ROWS) -> Iterator[Outcome]:
    """Row after row, each over a venue and a book of its own."""
    for row in rows:
        with (
            tempfile.TemporaryDirectory(prefix="sixbot-matrix-") as folder,
            VENUES[venue](Path(folder)) as (made, door),
        ):
            account = Account(redis_url, made, door)
            try:
                yield run_row(account, row)
            finally:
                account.close()
