"""The order table and the figures that follow from it, whatever the venue says and in whatever order."""

from __future__ import annotations

import itertools
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from shared.errors import IllegalTransition
from tests.builders import NOW, order, told
from worker.core import ids
from worker.core.ledger import Bundle, Change, log_entry, take_in, update_log, update_stats
from worker.core.order_states import FINAL, STATUS, TRANSITIONS
from worker.core.orders import act, observe
from worker.core.positions import Position
from worker.core.stats import Stats, read_stats
from worker.core.types import Effect, Execution, OrderState, Side

S = OrderState
CENT = Decimal("0.01")


def execution(number: int, qty: str, price: str, fee: str = "0") -> Execution:
    of = order()
    return Execution(
        f"x{number}", "v", of.client_order_id, "AAPL", of.side, Decimal(qty), Decimal(price), Decimal(fee), NOW
    )


def test_table_when_listed_names_every_state() -> None:
    assert set(TRANSITIONS) == set(OrderState) == {*TRANSITIONS, *itertools.chain(*TRANSITIONS.values())} == set(STATUS)


@pytest.mark.parametrize(("now", "then"), [p for p in itertools.product(S, S) if p[1] not in TRANSITIONS[p[0]]])
def test_act_when_the_table_has_no_arrow_raises(now: OrderState, then: OrderState) -> None:
    with pytest.raises(IllegalTransition):
        act(order(state=now), then, NOW)


@pytest.mark.parametrize("final", sorted(FINAL - {S.NOT_SENT}))
def test_observe_when_a_late_observer_says_working_keeps_the_final_state(final: OrderState) -> None:
    of = order(state=final)
    assert observe(of, told(of, S.ACCEPTED), (), NOW).state is final


def test_observe_when_a_fill_comes_after_canceled_counts_it() -> None:
    of = order(state=S.CANCELED)
    late = observe(of, told(of, S.PARTIALLY_FILLED, "4", "100"), (), NOW)
    assert (late.state, late.filled_qty, late.filled_notional) == (S.CANCELED, Decimal(4), Decimal(400))


def test_observe_when_a_late_observer_has_a_reason_keeps_the_note_of_what_is_over() -> None:
    of = order(state=S.CANCELED, note="by hand")
    late = replace(told(of, S.ACCEPTED), reason="a status that is not known: frozen")
    assert observe(of, late, (), NOW).note == "by hand"
    assert observe(of, replace(told(of, S.CANCELED), reason="at the close"), (), NOW).note == "at the close"


@pytest.mark.parametrize(
    ("filled", "state", "status"), [("10", S.FILLED, "filled"), ("4", S.PARTIALLY_FILLED, "partially_filled")]
)
def test_observe_when_a_fill_comes_after_rejected_counts_it_and_says_so(filled: str, state: S, status: str) -> None:
    of = order(state=S.REJECTED, reserved=0)
    late = observe(of, told(of, state, filled, "100"), (), NOW)
    assert (late.state, late.filled_qty, log_entry(late)["status"]) == (state, Decimal(filled), status)
    again = observe(late, told(of, S.REJECTED, filled, "100"), (), NOW)
    assert again.is_final, "what the venue calls refused with a part filled works no more"


def test_observe_when_figures_shrink_keeps_the_larger_ones() -> None:
    of = observe(order(), told(order(), S.PARTIALLY_FILLED, "6", "100"), (), NOW)
    assert observe(of, told(of, S.PARTIALLY_FILLED, "2", "90"), (), NOW).filled_notional == Decimal(600)


def test_observe_when_told_the_same_again_changes_nothing() -> None:
    once = observe(order(), told(order(), S.PARTIALLY_FILLED, "6", "100"), (), NOW)
    again = observe(once, told(order(), S.PARTIALLY_FILLED, "6", "100"), (), NOW + timedelta(seconds=9))
    assert again is once


def test_observe_when_called_filled_without_the_quantity_stays_open() -> None:
    assert observe(order(), told(order(), S.FILLED, "6", "100"), (), NOW).state is S.PARTIALLY_FILLED


def test_fill_when_told_again_under_another_id_is_not_counted_twice() -> None:
    """The venue's own total is the quantity: shares that only a repeated message knows would be sold one day."""
    full = told(order(), S.FILLED, "10", "100")
    once = take_in(Bundle(order(), {}, None), full, [execution(1, "10", "100")], NOW, venue="t")
    again = take_in(once, full, [execution(2, "10", "100")], NOW, venue="t")
    assert (again.order.filled_qty, again.position) == (Decimal(10), once.position)


@pytest.mark.parametrize("derived", [False, True])
def test_fill_when_listed_again_under_another_id_waits_for_the_venues_own_figure(*, derived: bool) -> None:
    half = [replace(execution(n, "5", "100"), derived=derived) for n in (1, 2)]
    once = take_in(Bundle(order(), {}, None), told(order(), S.PARTIALLY_FILLED, "5", "100"), half, NOW, venue="t")
    assert (once.order.filled_qty, list(once.executions)) == (Decimal(5), ["x1"])
    full = take_in(once, told(order(), S.FILLED, "10", "100"), half, NOW, venue="t")
    assert (full.order.filled_qty, list(full.executions)) == (Decimal(10), ["x1", "x2"])


@given(st.permutations(range(8)), st.integers(0, 7))
def test_fills_when_they_come_in_any_order_and_twice_give_the_same_ledger(sequence: list[int], repeated: int) -> None:
    fills = [execution(n, "1.25", f"{100 + n}.{n}7", "0.013") for n in range(8)]
    bundle = Bundle(order(), {}, None)
    for number in [*sequence, repeated]:
        known = {*sequence[: sequence.index(number) + 1]}
        cumulative = sum((fills[n].qty for n in known), Decimal(0))
        bundle = take_in(bundle, told(order(), S.ACCEPTED, str(cumulative), "100"), [fills[number]], NOW, venue="t")
    assert bundle.order.state is S.FILLED
    assert bundle.order.filled_notional == sum((f.qty * f.price for f in fills), Decimal(0))
    assert bundle.order.fees == Decimal("0.104")
    assert bundle.position is not None
    assert bundle.position.bought_notional == bundle.order.filled_notional
    assert bundle.position.fees_paid == bundle.order.fees


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 10**6), st.integers(0, 500)), min_size=1, max_size=12),
    st.integers(1, 10**6),
)
def test_profit_when_a_round_trip_closes_is_what_was_sold_less_bought_less_fees(
    buys: list[tuple[int, int, int]], exit_cents: int
) -> None:
    position: Position | None = None
    stats = Stats()
    spent = fees = held = Decimal(0)
    for number, (qty, cents, fee) in enumerate(buys):
        of = order(f"sbe1r00000000{number:02d}", qty=Decimal(qty), position_id="p")
        before = Bundle(of, {}, position)
        done = replace(execution(number, str(qty), str(cents * CENT), str(fee * CENT)), client_order_id=None)
        after = take_in(before, told(of, S.FILLED, str(qty), str(cents * CENT)), [done], NOW, venue="t")
        stats = update_stats(stats, Change(before, after), lambda _m: "day")
        position, held = after.position, held + qty
        spent, fees = spent + qty * cents * CENT, fees + fee * CENT
    leaving = order("sbx1r0000000099", side=Side.SELL, effect=Effect.EXIT, qty=held, position_id="p")
    before = Bundle(leaving, {}, position)
    after = take_in(before, told(leaving, S.FILLED, str(held), str(exit_cents * CENT)), (), NOW, venue="t")
    stats = update_stats(stats, Change(before, after), lambda _m: "day")
    assert after.position is not None
    assert after.position.is_closed
    assert after.position.realized_pnl == held * exit_cents * CENT - spent - fees
    assert stats.total.pnl == after.position.realized_pnl == stats.by_day["day"].pnl
    assert (stats.total.trades, stats.fees) == (1, fees)
    assert read_stats(stats.document("day")) == stats


def test_stats_when_a_late_fee_changes_a_closed_round_trip_counts_it_once() -> None:
    entry = order(position_id="p")
    opened = take_in(Bundle(entry, {}, None), told(entry, S.FILLED, "10", "100"), (), NOW, venue="t")
    leaving = order("sbx1r0000000001", side=Side.SELL, effect=Effect.EXIT, position_id="p")
    before = Bundle(leaving, {}, opened.position)
    closed = take_in(before, told(leaving, S.FILLED, "10", "101"), (), NOW, venue="t")
    stats = update_stats(Stats(), Change(before, closed), lambda _m: "day")
    assert (stats.total.wins, stats.total.pnl) == (1, Decimal(10))
    fee = replace(execution(1, "10", "101", "11"), side=Side.SELL)
    late = take_in(closed, told(leaving, S.FILLED, "10", "101"), [fee], NOW, venue="t")
    stats = update_stats(stats, Change(closed, late), lambda _m: "day")
    assert (stats.total.trades, stats.total.wins, stats.total.losses, stats.total.pnl) == (1, 0, 1, Decimal(-1))


def test_trades_log_when_an_order_changes_keeps_one_entry_and_at_most_200() -> None:
    log: list[object] = ["mangled by hand"]
    for number in range(205):
        of = order(f"sbe1r0000000{number:03d}")
        log = update_log(log, of)
        log = update_log(log, observe(of, told(of, S.FILLED, "10", "101"), (), NOW))
    assert len(log) == 200
    newest = log[-1]
    assert isinstance(newest, dict)
    assert newest == {
        "time": "2026-03-02T15:00:00Z",
        "ticker": "AAPL",
        "side": "buy",
        "qty": 10,
        "price": 101,
        "total_value": 1010,
        "reason": "test",
        "order_id": "v-sbe1r0000000204",
        "status": "filled",
        "client_order_id": "sbe1r0000000204",
    }


def test_log_entry_when_nothing_filled_shows_what_was_ordered_at_the_last_price() -> None:
    entry = log_entry(order(state=S.UNKNOWN, note="timed out"))
    assert (entry["qty"], entry["price"], entry["status"], entry["reason"]) == (10, 100, "unknown", "test; timed out")


@pytest.mark.parametrize("effect", list(Effect))
def test_client_order_id_when_minted_is_ours_short_and_says_its_effect(effect: Effect) -> None:
    name = ids.mint(effect, 1234567890, "abcdefghij0123")
    assert ids.is_ours(name)
    assert ids.effect_of(name) is effect
    assert len(name) <= 32


@pytest.mark.parametrize("foreign", [None, "", "abc", "sbe1r", "f-1-AAPL-1", "SBE1R0123456789", "sbq1r0123456789"])
def test_client_order_id_when_foreign_is_not_ours(foreign: str | None) -> None:
    assert not ids.is_ours(foreign)
    assert ids.effect_of(foreign) is None
