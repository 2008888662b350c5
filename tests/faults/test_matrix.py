"""The most telling rows of the ambiguity matrix, in every run of the suite; all of them by ``make faults``."""

from __future__ import annotations

import pytest

from tests.faults.account import VENUES
from tests.faults.matrix import ROWS, run_matrix
from tests.support import RedisServer

TELLING = frozenset(
    {
        "accepted, then reset",
        "JSON nested 100,000 deep",
        "another order's answer",
        "“client order id exists”",
        "reset, given up as ABSENT, then there",
        "every fill message twice",
        "partial fills after a reset",
        "a fill after the cancel",
        "the venue fills more than ordered",
    }
)

pytestmark = pytest.mark.timeout(300)


def test_rows_when_read_have_names_of_their_own_and_the_telling_ones_exist() -> None:
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    assert set(names) >= TELLING


@pytest.mark.parametrize("venue", sorted(VENUES))
def test_order_when_the_venue_is_ambiguous_is_sent_once_and_its_book_equals_the_ledger(
    redis_server: RedisServer, venue: str
) -> None:
    rows = tuple(row for row in ROWS if row.name in TELLING)
    problems = {o.row: o.problems for o in run_matrix(venue, redis_server.url, rows) if o.problems}
    assert problems == {}
