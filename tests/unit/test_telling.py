"""What is told, in which words, and how little of it in a storm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.telling import LONGEST_LINE, Level, clean, digest, line_of, news, pages, standing, urgent, width

FILLED = {
    "event": "order",
    "ticker": "AAPL",
    "side": "buy",
    "state": "FILLED",
    "filled_qty": "2",
    "avg_fill_price": "10",
}
DENIED = {"event": "denied", "ticker": "AAPL", "code": "COOLDOWN", "detail": "12 s"}
CLOSED = {
    "event": "position_closed",
    "bot_id": "7",
    "position_id": "sbe7r",
    "ticker": "BTCUSDC",
    "exit_reason": "TP_HIT",
    "realized_pnl": "99.58",
}
ACTIVE = standing({"state": "ACTIVE"}, None, None)


def test_line_when_an_order_fills_says_what_and_at_which_price() -> None:
    assert line_of(FILLED, Level.ORDERS) == "FILLED BUY 2 AAPL at 10"


def test_line_when_a_bot_closes_a_position_says_why_and_what_it_brought() -> None:
    assert line_of(CLOSED, Level.ORDERS) == "bot 7 closed BTCUSDC: TP_HIT, profit 99.58 after fees"


@pytest.mark.parametrize(
    ("event", "levels"),
    [
        (CLOSED, {Level.ORDERS, Level.ALL}),
        ({"event": "bot_state", "bot_id": "7", "state": "running"}, {Level.ALL}),
        ({"event": "bot_state", "bot_id": "7", "config_error": "stop_loss_pct: no"}, {Level.ORDERS, Level.ALL}),
        (FILLED, {Level.ORDERS, Level.ALL}),
        ({**FILLED, "state": "UNKNOWN"}, {Level.ORDERS, Level.ALL}),
        ({**FILLED, "state": "CANCELED"}, {Level.ORDERS, Level.ALL}),
        ({**FILLED, "state": "CANCELED", "filled_qty": "0"}, {Level.ALL}),
        ({**FILLED, "state": "SUBMITTED"}, {Level.ALL}),
        (DENIED, {Level.ALL}),
        ({"event": "order_adopted", "ticker": "X"}, {Level.ORDERS, Level.ALL}),
        ({"event": "report_lost", "why": "403"}, set()),
        ({"event": "stop", "state": "STOPPED"}, set()),
        ({"event": "trading", "state": "HALTED"}, set()),
        ({"event": "latch", "latched": "true"}, set()),
    ],
)
def test_line_when_the_level_is_lower_is_not_told(event: dict[str, str], levels: set[Level]) -> None:
    assert {level for level in Level if line_of(event, level)} == levels


def test_clean_when_a_name_is_hostile_leaves_one_visible_line() -> None:
    assert clean("A\nSTOP \x00\u202eLLA\u2028x\x1b[31m") == "A STOP LLA x [31m"


@given(st.text(max_size=2000))
def test_clean_when_given_any_text_is_one_short_printable_line(text: str) -> None:
    line = clean(text)
    assert len(line) <= LONGEST_LINE
    assert line.splitlines() in ([], [line])
    assert clean(line) == line


@given(st.lists(st.text(alphabet="ab🚀é<", max_size=40), max_size=30), st.integers(4, 60))
def test_pages_when_split_lose_nothing_and_fit(lines: list[str], longest: int) -> None:
    found = pages(lines, longest)
    assert all(0 < width(page) <= longest for page in found)
    assert "".join(found).replace("\n", "") == "".join(lines)


def test_news_when_a_stop_is_reported_tells_it_once_per_state() -> None:
    report = {"stop_id": "s1", "state": "STOPPING", "reason": "emergency_stop", "source": "signal", "orders_found": 3}
    stopping = standing({"state": "ACTIVE"}, {**report, "orders_canceled": 0}, None)
    proven = {**report, "state": "STOPPED", "orders_canceled": 3, "positions_open": 2}
    stopped = standing({"state": "HALTED"}, proven, None)
    assert news(ACTIVE, stopping) == ["stop STOPPING: emergency_stop by signal, 0 of 3 orders cancelled"]
    assert news(stopping, stopping) == []
    assert "stop STOPPED: emergency_stop by signal, 3 of 3 orders cancelled, positions open: 2" in news(
        stopping, stopped
    )
    assert urgent(ACTIVE, stopping)
    assert not urgent(stopping, stopping)


def test_news_when_it_latches_and_lifts_tells_both() -> None:
    latched = standing({"state": "ACTIVE"}, None, {"reason": "redis_lost", "at": "2026-03-02T15:00:00Z"})
    assert news(ACTIVE, latched) == ["latched: redis_lost"]
    assert news(latched, ACTIVE) == ["the latch is lifted"]


def test_news_when_an_error_changes_only_its_figures_is_not_told_again() -> None:
    """An error that counts seconds would otherwise be a message a second."""
    first, second = (standing({"state": "ACTIVE", "last_error": f"stale by {n} s"}, None, None) for n in (12.5, 9.5))
    assert first["error"] != second["error"]
    assert news(ACTIVE, first) == ["error: stale by 12.5 s"]
    assert news(first, second) == []
    assert news(first, ACTIVE) == ["no error any more"]


@pytest.mark.parametrize("value", [None, 3, "x", [], {"state": {"a": 1}}])
def test_standing_when_documents_are_mangled_still_answers(value: object) -> None:
    assert set(standing(value, value, value)) == set(ACTIVE)


def test_digest_when_there_are_too_many_counts_the_rest() -> None:
    lines = [f"FILLED BUY {n} AAPL" for n in range(30)] + ["REJECTED BUY 1 AAPL"] * 3
    found = digest(lines, 20)
    assert len(found) == 20
    assert found[-1] == "and 14 more: 11 FILLED, 3 REJECTED"
    assert digest(lines[:20], 20) == tuple(lines[:20])
