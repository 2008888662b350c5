"""A stream bot's positions where the venue holds a take-profit and a stop-loss as one order."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.unit.test_bot_orders import START, SYMBOL, Bench, held_bench, replace_settings
from worker.core.fills import EngineOptions
from worker.core.orders import NO_STOP
from worker.core.protection import FOUND_WITHOUT, NATIVE_STOP_SECONDS, PAIR_GONE, stop_stands
from worker.core.types import OrderState, OrderType, VenueOrder


def pairs(bench: Bench) -> list[tuple[Decimal, Decimal | None, Decimal | None]]:
    """Working sells: quantity, limit, stop."""
    return [(o.qty - o.filled_qty, o.limit_price, o.stop_price) for o in bench.exits()]


def unprotected(bench: Bench) -> float:
    return bench.bot.manager.unprotected_seconds(bench.clock.now().timestamp())


def kept_by_venue(bench: Bench) -> bool:
    (position,) = bench.bot.manager.positions.values()
    return stop_stands(position)


def no_pair(bench: Bench) -> str:
    (position,) = bench.bot.manager.positions.values()
    return position.no_pair


def test_entry_when_it_fills_gets_both_exits_as_one_order() -> None:
    bench = held_bench(pairs=True)
    assert pairs(bench) == [(Decimal(10), Decimal("101.00"), Decimal("98.00"))]
    (order,) = [o for o in bench.ledger.orders() if o.exit_reason]
    assert (order.stop_price, order.time_in_force.value) == (Decimal("98.00"), "gtc")
    assert kept_by_venue(bench)
    assert bench.bot.manager.highest_stop(SYMBOL) is None  # nothing is watched besides
    assert unprotected(bench) == 0


@pytest.mark.parametrize(("price", "reason"), [("101.00", "TP_HIT"), ("98.00", "SL_HIT"), ("90.00", "SL_HIT")])
def test_pair_when_either_half_sells_closes_the_position_by_its_name(price: str, reason: str) -> None:
    bench = held_bench(pairs=True)
    bench.trade(Decimal(price))
    assert bench.closed() == [reason]
    assert bench.exits() == []
    assert len([o for o in bench.ledger.orders() if o.exit_reason]) == 1
    assert not bench.bot.busy


def test_pair_when_its_limit_sells_a_part_stops_the_rest_only() -> None:
    bench = held_bench(pairs=True)
    bench.venue.engine._terms._options = EngineOptions(partial_chance=1.0, slippage=Decimal(0))
    bench.trade(Decimal("101.00"))
    assert pairs(bench) == [(Decimal(5), Decimal("101.00"), Decimal("98.00"))]
    assert kept_by_venue(bench)
    for _ in range(40):
        bench.trade(Decimal("97.00"))
    assert bench.closed() == ["SL_HIT"]
    (position,) = bench.ledger.closed_positions()
    assert position.sold_qty == 10


def test_pair_when_the_entry_fills_in_parts_is_cancelled_then_placed_anew() -> None:
    bench = Bench(partial=1.0, pairs=True)
    bench.enter()
    bench.trade(START)
    assert [p[0] for p in pairs(bench)] == [Decimal(5)]
    bench.trade(START)
    assert [p[0] for p in pairs(bench)] == [Decimal("7.5")]
    assert [o.state for o in bench.ledger.orders() if o.exit_reason] == [OrderState.CANCELED, OrderState.ACCEPTED]
    assert no_pair(bench) == ""


def test_pair_when_the_time_is_over_goes_before_the_market_order() -> None:
    bench = held_bench(pairs=True)
    bench.advance(600)
    assert [(o.type, o.stop_price) for o in bench.exits()] == [(OrderType.MARKET, None)]
    bench.trade(Decimal("100.10"))
    assert bench.closed() == ["TIMEOUT"]


@pytest.mark.parametrize(("mood", "reason"), [("race", "TP_HIT"), ("stop race", "SL_HIT")])
def test_pair_when_a_fill_races_its_cancel_closes_the_position_once(mood: str, reason: str) -> None:
    bench = held_bench(pairs=True)
    bench.venue.moods = [mood]
    bench.advance(600)
    bench.reconcile()
    assert bench.closed() == [reason]
    assert bench.exits() == []


def test_pair_when_it_is_refused_leaves_a_watched_stop_at_once_and_says_so() -> None:
    bench = Bench(pairs=True)
    bench.enter()
    bench.venue.moods = ["reject"]
    bench.trade(START)
    assert pairs(bench) == [(Decimal(10), Decimal("101.00"), None)]
    assert "refused" in no_pair(bench)
    assert unprotected(bench) == 0
    bench.trade(Decimal("98.00"))
    bench.trade(Decimal("97.90"))
    assert bench.closed() == ["SL_HIT"]


def test_pair_when_somebody_cancels_it_leaves_a_watched_stop_at_once() -> None:
    bench = held_bench(pairs=True)
    (before,) = bench.exits()
    bench.venue.cancel(before.venue_order_id)
    bench.reconcile()
    assert pairs(bench) == [(Decimal(10), Decimal("101.00"), None)]
    assert no_pair(bench) == PAIR_GONE
    assert bench.bot.manager.highest_stop(SYMBOL) == Decimal(98)
    bench.restart()  # what was found stays as it is
    assert pairs(bench) == [(Decimal(10), Decimal("101.00"), None)]
    assert no_pair(bench) == FOUND_WITHOUT


def test_pair_when_the_venue_holds_no_stop_beside_the_limit_is_a_limit_with_a_watched_stop() -> None:
    """An address that takes the order for a plain limit."""
    bench = held_bench(pairs=True)
    (order,) = bench.exits()
    told = VenueOrder(
        order.venue_order_id, order.client_order_id, SYMBOL, order.side, order.qty, OrderState.ACCEPTED,
        OrderType.LIMIT, limit_price=order.limit_price,
    )  # fmt: skip
    bench.desk.take(told, ())
    bench.act()
    assert [o.venue_order_id for o in bench.exits()] == [order.venue_order_id]
    assert no_pair(bench) == NO_STOP
    assert bench.bot.manager.highest_stop(SYMBOL) == Decimal(98)


def test_stop_when_trading_is_switched_on_again_arms_a_pair_again() -> None:
    bench = held_bench(pairs=True)
    bench.ledger.switches = bench.off
    bench.look()
    for order in bench.venue.open_orders():
        bench.venue.cancel(order.venue_order_id)
    bench.reconcile()
    assert bench.exits() == []
    bench.ledger.switches = bench.on
    bench.advance(1)
    assert pairs(bench) == [(Decimal(10), Decimal("101.00"), Decimal("98.00"))]


def test_stop_when_its_cancel_is_heard_of_late_arms_a_pair_again() -> None:
    """Alpaca's stream does not tell of the leg, so that the fate of a pair may be read after the stop was lifted."""
    bench = held_bench(pairs=True)
    bench.venue.deaf = True
    bench.ledger.switches = bench.off
    bench.advance(1)
    for order in bench.venue.open_orders():
        bench.venue.cancel(order.venue_order_id)
    bench.ledger.switches = bench.on
    bench.advance(1)
    bench.reconcile()
    assert pairs(bench) == [(Decimal(10), Decimal("101.00"), Decimal("98.00"))]
    assert no_pair(bench) == ""


def test_stop_when_the_venue_leaves_its_price_unanswered_is_carried_out_here() -> None:
    """The pair goes first, and its fate is known, before anything else sells."""
    bench = held_bench(pairs=True)
    manager = bench.bot.manager
    manager.on_price(SYMBOL, Decimal(97))  # the feed's price; the venue has not traded there
    bench.act()
    assert kept_by_venue(bench)
    bench.clock.advance(NATIVE_STOP_SECONDS - 0.5)
    bench.act()
    assert kept_by_venue(bench)
    bench.clock.advance(1)
    bench.act()
    assert [o.type for o in bench.exits()] == [OrderType.MARKET]
    bench.trade(Decimal(97))
    assert bench.closed() == ["SL_HIT"]


def test_stop_when_the_price_comes_back_in_time_stays_with_the_venue() -> None:
    bench = held_bench(pairs=True)
    manager = bench.bot.manager
    manager.on_price(SYMBOL, Decimal(97))
    bench.act()
    bench.clock.advance(1)
    manager.on_price(SYMBOL, Decimal(99))
    bench.act()
    bench.clock.advance(5)
    bench.act()
    assert kept_by_venue(bench)


def test_feed_when_it_is_away_leaves_nothing_unprotected_that_the_venue_keeps() -> None:
    bench = held_bench(pairs=True)
    bench.bot.manager.on_feed(bench.clock.now().timestamp(), live=False)
    bench.clock.advance(10)
    assert unprotected(bench) == 0
    watched = held_bench()
    watched.bot.manager.on_feed(watched.clock.now().timestamp(), live=False)
    watched.clock.advance(10)
    assert unprotected(watched) == 10


def test_config_when_it_changes_moves_both_levels() -> None:
    bench = held_bench(pairs=True)
    bench.bot.manager.on_config(replace_settings(bench.settings, stop_loss_pct=0.01))
    bench.act()
    assert pairs(bench) == [(Decimal(10), Decimal("101.00"), Decimal("99.00"))]
    assert no_pair(bench) == ""


def test_restart_when_a_pair_stands_keeps_it() -> None:
    bench = held_bench(pairs=True)
    before = [o.venue_order_id for o in bench.exits()]
    bench.restart()
    assert [o.venue_order_id for o in bench.exits()] == before
    assert kept_by_venue(bench)
    bench.trade(Decimal(98))
    assert bench.closed() == ["SL_HIT"]
