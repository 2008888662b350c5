"""The account's view that follows the desk must say what the book says, whatever happened, without reading it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.test_bot_orders import START, SYMBOL, Bench
from worker.trading.bots.account import AccountView

MOODS = ("ok", "reject", "lost", "reset", "race", "mute")
STEPS = st.lists(
    st.tuples(st.sampled_from(("enter", "trade", "wait", "resolve")), st.integers(-6, 6), st.sampled_from(MOODS)),
    max_size=25,
)


def told(view: AccountView) -> dict[str, Any]:
    """Everything that the rules ask of it."""
    profit = view.profit()
    return {
        "positions": view.positions,
        "last_trade": view.last_trade,
        "frozen": view.frozen,
        "notional": view.counters.notional,
        "orders_today": {t: n for t, n in view.counters.orders_per_ticker.items() if n},
        "open_tickers": set(view.open_tickers),
        "orders": {n: (o.state, o.open_qty, o.side) for n, o in view.orders_of("7", SYMBOL).items()},
        "held": view.held_at_venue(SYMBOL),
        "profit": None if profit is None else round(profit, 12),
    }


def compare(bench: Bench) -> None:
    followed, snapshot = bench.sender._view, bench.sender.snapshot
    assert snapshot is not None
    today = bench.sender._calendar.day_of(bench.clock.now()).name
    followed.refresh(today, snapshot)
    fresh = AccountView(bench.ledger, bench.desk, bench.clock, bench.sender._calendar)
    bench.desk.followers.remove(fresh)
    fresh.refresh(today, snapshot)
    assert told(followed) == told(fresh)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS, partial=st.sampled_from((0.0, 0.6)), seed=st.integers(0, 1000))
def test_view_when_anything_happens_says_what_the_book_says(
    steps: list[tuple[str, int, str]], partial: float, seed: int
) -> None:
    bench = Bench(partial=partial, seed=seed, max_positions=4)
    compare(bench)
    for what, number, mood in steps:
        bench.venue.moods = [mood]
        if what == "enter":
            bench.enter(bench.price + Decimal(min(number, 0)) / 10)
        elif what == "trade":
            bench.trade(START + Decimal(number) / 4)
        elif what == "wait":
            bench.clock.advance(10 * abs(number))
            bench.act()
        else:
            bench.reconcile()
        compare(bench)


def test_view_when_orders_are_sent_under_one_venue_read_does_not_read_the_book_again() -> None:
    bench = Bench(max_positions=1000)
    assert bench.enter() == ""
    reads: list[str] = []
    for name in ("day", "stats"):  # which the gate's twin does not read
        whole = getattr(bench.ledger, name)
        setattr(bench.ledger, name, lambda *args, n=name, w=whole: (reads.append(n), w(*args))[1])
    for _ in range(10):
        bench.trade(START)
        assert bench.enter() == ""
    assert len(bench.ledger.orders()) == 21  # entries, and the take-profits of those that filled
    assert reads == []
    bench.look()
    bench.trade(START)
    assert bench.enter() == ""
    assert set(reads) == {"day", "stats"}
