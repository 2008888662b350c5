"""A venue that asks for patience is not read before, and a trader's signs of life go on meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from shared.clock import ManualClock, TradingCalendar
from shared.documents import RiskSettings
from shared.errors import VenueBusy, VenueUnavailable
from tests.builders import NOW
from worker.core.stats import Stats
from worker.core.types import AccountState
from worker.trading.oversight import RECONCILE_SECONDS, Oversight
from worker.trading.reconcile import Snapshot
from worker.venues.alpaca import wire
from worker.venues.base import PartlyRead

DATE = "Mon, 02 Mar 2026 15:00:00 GMT"


def answered(status: int, headers: dict[str, str]) -> VenueUnavailable:
    """What becomes of such an answer to a read."""
    import requests
    from alpaca.common.exceptions import APIError

    response = requests.Response()
    response.status_code = status
    response.headers.update(headers)

    def ask() -> None:
        raise APIError('{"code": 42910000, "message": "slow down"}', requests.HTTPError(response=response))

    with pytest.raises(VenueUnavailable) as raised:
        wire.call(ask)
    return raised.value


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"Retry-After": "7"}, 7),
        (503, {"Retry-After": " 7 "}, 7),
        (429, {"Retry-After": "9" * 400}, wire.LONGEST_WAIT_SECONDS),
        (429, {"X-RateLimit-Reset": "1772463621", "Date": DATE}, 21),
        (429, {"Retry-After": "2", "X-RateLimit-Reset": "1772463621", "Date": DATE}, 2),
        (429, {"X-RateLimit-Reset": "1772463621"}, None),
        (429, {"X-RateLimit-Reset": "1", "Date": DATE}, None),
        (429, {"Retry-After": DATE}, None),
        (429, {"Retry-After": "-5"}, None),
        (429, {"Retry-After": "NaN"}, None),
        (429, {"Retry-After": "0"}, None),
        (429, {}, None),
        (500, {"Retry-After": "7"}, None),
    ],
)
def test_read_when_refused_for_now_tells_how_long_to_wait(
    status: int, headers: dict[str, str], seconds: float | None
) -> None:
    error = answered(status, headers)
    assert (error.seconds if isinstance(error, VenueBusy) else None) == seconds


class Busy:
    """A reconciler whose venue raises what it is given, and after that answers nothing of use."""

    suspects = unjudged = False

    def __init__(self, errors: Iterator[Exception]) -> None:
        self.errors, self.asked = errors, 0

    def run(self) -> None:
        self.asked += 1
        raise next(self.errors)


class Anything:
    """Takes every call that does not matter here."""

    def __init__(self, **answers: object) -> None:
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        return lambda *_a, **_k: self._answers.get(name)


def partly(cause: Exception) -> Exception:
    error = PartlyRead("a page is missing", ())
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(("asked_for", "heeded"), [(4.0, 4.0), (60.0, RECONCILE_SECONDS)])
@pytest.mark.parametrize("wrapped", [False, True])
def test_trader_when_its_venue_asks_for_patience_reads_again_only_then(
    asked_for: float, heeded: float, *, wrapped: bool
) -> None:
    busy = VenueBusy("slow down", asked_for)
    first = partly(busy) if wrapped else busy
    reconciler: Any = Busy(iter([first, VenueUnavailable("down"), VenueUnavailable("down")]))
    clock = ManualClock(NOW)
    anything: Any = Anything()
    oversight = Oversight(reconciler, anything, anything, anything, anything, anything, anything, clock, anything)

    def turns(seconds: float) -> int:
        """How often the venue was asked while so much time went by, pushed updates and reconnects or not."""
        before = reconciler.asked
        for _ in range(int(seconds / 0.25)):
            oversight.at_once()
            oversight.tend()
            clock.advance(0.25)
        return reconciler.asked - before

    assert turns(0.25) == 1
    assert oversight.patient
    assert turns(heeded - 0.5) == 0
    assert turns(0.5) == 1
    assert not oversight.patient


class Quiet:
    """A reconciler that finds nothing new."""

    unsettled = False
    asked = 0

    def run(self) -> Snapshot:
        self.asked += 1
        return Snapshot(NOW, (), AccountState(Decimal(0), Decimal(0), Decimal(0)), ())


def test_cycle_when_it_is_long_is_reconciled_no_later_and_no_more_often_than_is_due() -> None:
    clock, reconciler = ManualClock(NOW), Quiet()
    anything: Any = Anything()
    oversight = Oversight(
        reconciler,  # type: ignore[arg-type]
        anything,
        SimpleNamespace(stats=Stats, open_positions=list, trim=lambda: 0),  # type: ignore[arg-type]
        anything,
        Anything(read=SimpleNamespace(risk=SimpleNamespace(value=RiskSettings()))),  # type: ignore[arg-type]
        anything,
        anything,
        clock,
        TradingCalendar(ZoneInfo("UTC")),
    )
    oversight.reconcile()
    found = []
    for _ in range(int(2.5 * RECONCILE_SECONDS)):
        clock.advance(1.0)
        oversight.soon()  # a pushed fill must not make every ticker wait for four requests
        found.append(oversight.meanwhile() is not None)
    assert (found.count(True), reconciler.asked) == (2, 3)
