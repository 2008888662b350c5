"""The bench finds what it is there to find: traders broken on purpose are reported."""

from __future__ import annotations

import pytest

from tests.faults.broken import demonstrate

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize(
    ("kind", "column", "fact"),
    [("intent_after_submit", "lost", "order sbe1"), ("sent_again", "duplicates", "was sent 2 times")],
)
def test_oracle_when_the_trader_is_broken_on_purpose_reports_it(kind: str, column: str, fact: str) -> None:
    assert any(fact in told for told in demonstrate(kind).bad().get(column, []))
