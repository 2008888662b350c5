"""A stream bot's positions against a venue that rejects, loses answers, fills in parts and races every cancel."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import nullcontext
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.bots import BotSettings, default_bot
from shared.clock import ManualClock, TradingCalendar
from shared.errors import OrderNotFound, VenueAmbiguous, VenueRejected, VenueUnavailable
from tests.builders import NOW, switches
from worker.core.decide import round_down
from worker.core.fills import EngineOptions
from worker.core.ledger import Change
from worker.core.types import (
    Effect,
    Instrument,
    LastPrice,
    OrderRequest,
    OrderState,
    OrderType,
    OrderUpdate,
    Side,
    TimeInForce,
    VenueOrder,
)
from worker.core.venue_book import Holding
from worker.trading.bots.runner import BotRunner
from worker.trading.bots.sender import OrderSender
from worker.trading.desk import UNRESOLVED, OrderDesk
from worker.trading.memory import MemoryLedger
from worker.trading.reconcile import Snapshot
from worker.venues.base import CancelOutcome, CancelResult, SendGuard
from worker.venues.simulated.local import LocalVenue

SYMBOL = "BTCUSDC"
START = Decimal(100)
TICK = Decimal("0.01")
FREE = {
    "daily_notional_cap": 0,
    "max_position_per_ticker": 10**6,
    "cooldown_minutes": 0,
    "max_trades_per_run": 100,
    "max_daily_loss_usd": 0,
}


class RoughVenue(LocalVenue):
    """Does what ``moods`` says with the next submits and cancels, and lets pushes get lost."""

    moods: list[str]
    oversold: list[str]
    deaf = False

    def submit(self, request: OrderRequest, guard: SendGuard) -> VenueOrder:
        mood = self.moods.pop() if self.moods else "ok"
        if mood == "reject":
            raise VenueRejected("no", "refused")
        if mood == "lost":
            raise VenueAmbiguous("the request was lost")
        try:
            order = super().submit(request, guard)
        except VenueRejected as error:
            if error.code == "insufficient_quantity":
                self.oversold.append(str(error))
            raise
        if mood == "reset":
            raise VenueAmbiguous("the answer was lost")
        return order

    def cancel(self, venue_order_id: str) -> CancelResult:
        mood = self.moods.pop() if self.moods else "ok"
        if mood == "lost":
            return CancelResult(venue_order_id, CancelOutcome.UNCONFIRMED, "the request was lost")
        if mood == "reset":
            super().cancel(venue_order_id)
            return CancelResult(venue_order_id, CancelOutcome.UNCONFIRMED, "the answer was lost")
        order = self.engine.book.orders[venue_order_id]
        if mood == "race" and order.limit_price is not None:
            self.trade(order.ticker, order.limit_price)
        if mood == "stop race" and order.stop_price is not None:
            self.trade(order.ticker, order.stop_price)
        return super().cancel(venue_order_id)

    def order_by_client_id(self, client_order_id: str) -> VenueOrder:
        if self.moods and self.moods[-1] == "mute":
            self.moods.pop()
            raise VenueUnavailable("no answer")
        return super().order_by_client_id(client_order_id)

    def _push(self, updates: list[OrderUpdate]) -> list[OrderUpdate]:
        return updates if self.deaf else super()._push(updates)


class Bench:
    """One bot over gate, ledger and venue in memory; the clock is the test's."""

    def __init__(
        self,
        *,
        partial: float = 0.0,
        seed: int = 1,
        pairs: bool = False,
        symbol: str = SYMBOL,
        fees: str = "0.0001",
        **bot: Any,
    ) -> None:
        """A pair with a slash pays its fees in the base currency; with ``pairs`` the venue holds both exits at once."""
        self.symbol, self.clock = symbol, ManualClock(NOW)
        calendar = TradingCalendar(ZoneInfo("UTC"))
        dice = random.Random(seed)
        on = switches(FREE)
        self.on, self.off = on, switches(FREE, enabled=False)
        self.ledger = MemoryLedger(self.clock, calendar, on)
        instrument = Instrument(symbol, Decimal("0.001"), TICK, protective_pair=pairs)
        options = EngineOptions(
            fee_rate=Decimal(fees), slippage=Decimal(0), partial_chance=partial, fees_in_base="/" in symbol
        )
        self.venue = RoughVenue(self.clock, {symbol: instrument}, Decimal(1_000_000), options, dice.random)
        self.venue.moods, self.venue.oversold = [], []
        self.desk = OrderDesk(self.venue, self.ledger, self.ledger, self.clock, _silent, lambda _n: nullcontext(), 60.0)
        self.sender = OrderSender(
            "replay", self.venue, self.desk, self.ledger, self.clock, calendar, lambda: self.ledger.switches
        )
        self.sender.switches, self.sender.epoch = on, self.ledger.epoch
        self.settings = replace_settings(default_bot(7), symbol=symbol, enabled=True, **{**BOT, **bot})
        self.changes: list[Change] = []
        self.dice = dice
        self.bot = self.new_runner()
        self.desk.on_change = self._heard
        self.venue.stream_updates(self.desk.take_update)
        self.price = START
        self.look()
        self.trade(START)

    def new_runner(self) -> BotRunner:
        return BotRunner(
            self.settings, self.sender, self.desk, self.ledger, self.venue, self.clock, _silent,
            lambda: f"{self.dice.getrandbits(56):014x}",
        )  # fmt: skip

    @property
    def pays_in_base(self) -> bool:
        return "/" in self.symbol

    def _heard(self, change: Change) -> None:
        self.changes.append(change)
        self.bot.on_change(change)
        for before, after in change.moved:
            self.bot.on_position(before, after, by_own=True)

    def trade(self, price: Decimal) -> None:
        self.price = price
        self.venue.trade(self.symbol, price)
        self.bot.on_price(self.symbol, LastPrice(price, self.clock.now()))
        self.act()

    def enter(self, bid: Decimal | None = None) -> str:
        why = self.bot.enter(self.symbol, bid or self.price, self.last(), 0.9, "run")
        self.act()
        return why

    def last(self) -> LastPrice:
        return LastPrice(self.price, self.clock.now())

    def look(self) -> None:
        """What the trader does every quarter of a second."""
        on = self.ledger.switches is self.on
        self.sender.switches = self.ledger.switches
        positions = tuple(self.venue.positions())
        self.sender.snapshot = Snapshot(self.clock.now(), positions, self.venue.account(), ())
        self.bot.manager.on_switch(on=on)
        self.bot.manager.on_feed(self.clock.now().timestamp(), live=True)

    def act(self) -> None:
        self.bot.act()
        self.check()

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.look()
        self.act()

    def reconcile(self) -> None:
        """What a reconciliation brings: the fate of everything that is open in the book."""
        for order in self.ledger.orders() if self.pays_in_base else self.ledger.open_orders():
            fills = [f for f in self.venue.fills_since(NOW) if f.client_order_id == order.client_order_id]
            try:
                if order.state in UNRESOLVED:
                    self.desk.resolve(order, fills)
                elif order.venue_order_id:
                    self.desk.take(self.venue.order_by_client_id(order.client_order_id), fills)
            except (VenueUnavailable, OrderNotFound):
                continue
        self.look()
        self.act()

    def restart(self) -> None:
        self.bot = self.new_runner()
        self.bot.manager.on_switch(on=False)
        self.bot.recover(self.ledger.open_orders(), self.ledger.open_positions())
        self.bot.on_price(self.symbol, self.last())
        self.reconcile()

    def check(self) -> None:
        """Exits never work for more than is held, and the venue never had to say so."""
        held = self.venue.engine.holding(self.symbol).qty
        selling = sum(o.qty - o.filled_qty for o in self.venue.open_orders() if o.side is Side.SELL)
        assert selling <= held
        if not self.pays_in_base:  # a lost fill is heard of without its fee, and the venue has to say so
            assert self.venue.oversold == []

    def exits(self) -> list[VenueOrder]:
        return [o for o in self.venue.open_orders() if o.side is Side.SELL]

    def closed(self) -> list[str]:
        return [p.exit_reason for p in self.ledger.closed_positions()]


BOT = {
    "capital_per_trade": 1000,
    "holding_time": 600,
    "profit_target_pct": 0.01,
    "stop_loss_pct": 0.02,
    "maker_order_timeout": 30,
    "max_positions": 2,
}


def replace_settings(of: BotSettings, **changes: Any) -> BotSettings:
    return BotSettings.model_validate({**of.model_dump(), **changes})


def _silent(_kind: str, /, **_fields: object) -> None:
    return None


def held_bench(**bot: Any) -> Bench:
    """A bench whose bot holds ten at 100."""
    bench = Bench(**bot)
    assert bench.enter() == ""
    bench.trade(START)
    return bench


# -- single paths -----------------------------------------------------------------------------------------------------


def test_entry_when_it_is_sent_is_a_post_only_limit_at_the_bid_for_the_capital() -> None:
    bench = Bench()
    assert bench.enter(Decimal("99.987")) == ""
    (order,) = bench.venue.open_orders()
    assert (order.type, order.side, order.limit_price) == (OrderType.LIMIT, Side.BUY, Decimal("99.98"))
    assert order.qty == Decimal("10.002")  # 1000 / 99.98, rounded down to the lot
    (intent,) = bench.ledger.orders()
    assert intent.post_only
    assert (intent.bot_id, intent.effect, intent.confidence) == ("7", Effect.ENTRY, "0.9")


def test_entry_when_its_figures_are_round_is_written_in_plain_digits() -> None:
    """1000 / 100.0 is 1E+1 to a Decimal; people and other programs read these figures."""
    bench = Bench(stop_loss_pct=0.5)
    bench.price = Decimal("200.0")
    assert bench.enter() == ""
    (order,) = bench.ledger.orders()
    assert (str(order.qty), order.stop_loss) == ("5", "100")
    assert str(round_down(Decimal("1E+3"), Decimal(1))) == "1000"


@pytest.mark.parametrize(("symbol", "denied"), [("BTC/USD", ""), ("AAPL", "MARKET_CLOSED")])
def test_pair_when_the_session_of_stocks_is_closed_trades_all_the_same(symbol: str, denied: str) -> None:
    """One account of Alpaca has both; an exit must not wait for the stocks' morning."""
    bench = Bench()
    settings = replace_settings(bench.settings, symbol=symbol)
    instrument = Instrument(symbol, Decimal("0.001"), TICK)
    bench.venue = closed = RoughVenue(
        bench.clock, {symbol: instrument}, Decimal(1_000_000), EngineOptions(), bench.dice.random, lambda _now: False
    )
    closed.moods, closed.oversold = [], []
    closed.trade(symbol, START)
    desk = OrderDesk(closed, bench.ledger, bench.ledger, bench.clock, _silent, lambda _n: nullcontext(), 60.0)
    sender = OrderSender(
        "replay", closed, desk, bench.ledger, bench.clock, TradingCalendar(ZoneInfo("UTC")), lambda: bench.on
    )
    sender.switches, sender.epoch = bench.on, bench.ledger.epoch
    sender.snapshot = Snapshot(bench.clock.now(), (), closed.account(), ())
    runner = BotRunner(
        settings, sender, desk, bench.ledger, closed, bench.clock, _silent, lambda: f"{bench.dice.random()}"[2:14]
    )
    runner.manager.on_switch(on=True)
    why = runner.enter(symbol, START, bench.last(), 0.9, "run")
    assert why.partition(":")[0] == denied
    assert [o.time_in_force for o in bench.ledger.orders()] == ([] if denied else [TimeInForce.GTC])


def test_entry_when_it_does_not_fill_is_cancelled_after_the_maker_timeout() -> None:
    bench = Bench()
    bench.enter(Decimal(99))
    bench.advance(29.9)
    assert len(bench.venue.open_orders()) == 1
    bench.advance(0.2)
    assert bench.venue.open_orders() == []
    assert not bench.bot.busy
    assert bench.bot.manager.counters.expired == 1


def test_entry_when_it_is_denied_or_refused_counts_as_refused_and_not_as_one_that_was_tried_and_expired() -> None:
    """The counters are what tells an owner why a bot does not trade."""
    bench = Bench()
    bench.sender.switches = switches({**FREE, "reduce_only": True})
    assert bench.enter().startswith("REDUCE_ONLY")
    counters = bench.bot.manager.counters
    assert (counters.entries, counters.expired, counters.refused) == (0, 0, 1)
    bench.look()
    bench.venue.moods.append("reject")
    bench.enter()
    assert (counters.entries, counters.expired, counters.refused) == (1, 0, 2)
    bench.bot.manager.on_switch(on=False)
    assert bench.enter() == "SWITCHED_OFF: trading is not on"


def test_position_when_the_target_is_reached_closes_as_tp_hit_net_of_fees() -> None:
    bench = held_bench()
    (exit_order,) = bench.exits()
    assert (exit_order.limit_price, exit_order.qty) == (Decimal("101.00"), Decimal(10))
    bench.trade(Decimal("101.00"))
    assert bench.closed() == ["TP_HIT"]
    (position,) = bench.ledger.closed_positions()
    assert position.realized_pnl == Decimal(10) - Decimal(1000) * Decimal("0.0001") - Decimal(1010) * Decimal("0.0001")


def test_position_when_the_stop_is_reached_cancels_the_target_first_and_closes_at_market() -> None:
    bench = held_bench()
    bench.trade(Decimal("98.01"))
    assert len(bench.exits()) == 1
    bench.trade(Decimal("98.00"))
    (market,) = bench.exits()
    assert (market.type, market.qty) == (OrderType.MARKET, Decimal(10))
    bench.trade(Decimal("97.90"))
    assert bench.closed() == ["SL_HIT"]


def test_position_when_it_is_held_too_long_closes_as_timeout() -> None:
    bench = held_bench()
    bench.advance(600)
    bench.trade(Decimal("100.10"))
    assert bench.closed() == ["TIMEOUT"]


def test_position_when_a_person_asks_closes_as_manual_and_no_entry_follows() -> None:
    bench = held_bench()
    bench.bot.manager.on_config(replace_settings(bench.settings, close_positions=True))
    bench.act()
    bench.trade(START)
    assert bench.closed() == ["MANUAL"]
    assert bench.enter() == "off"


def test_target_when_the_entry_fills_in_parts_is_resized_to_what_is_held() -> None:
    bench = Bench(partial=1.0)
    bench.enter()
    bench.trade(START)
    (first,) = bench.exits()
    assert first.qty == Decimal(5)
    bench.trade(START)
    (second,) = bench.exits()
    assert second.qty == Decimal("7.5")
    assert second.venue_order_id != first.venue_order_id
    assert bench.bot.manager.unprotected_seconds(bench.clock.now().timestamp()) == 0


def test_cancel_when_a_fill_races_it_gives_a_position_with_its_exit() -> None:
    bench = Bench()
    bench.enter(Decimal(99))
    bench.venue.moods = ["race"]
    bench.advance(31)
    (exit_order,) = bench.exits()
    assert exit_order.limit_price == Decimal("99.99")
    assert bench.bot.busy


def test_stop_loss_when_the_venue_is_mute_asks_once_a_look_and_gives_signs_of_life(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each question costs the whole timeout: asking again within the same look would keep the trader silent, which is
    a stop, and longer than its lease lives."""
    bench = held_bench()
    cancels: list[str] = []

    def mute(venue_order_id: str) -> CancelResult:
        cancels.append(venue_order_id)
        bench.clock.advance(3)
        return CancelResult(venue_order_id, CancelOutcome.UNCONFIRMED, "no answer")

    def unread(_name: str) -> VenueOrder:
        bench.clock.advance(3)
        raise VenueUnavailable("no answer")

    beats: list[str] = []
    bench.bot.progress = lambda: beats.append("alive")
    with monkeypatch.context() as patch:
        patch.setattr(bench.venue, "cancel", mute)
        patch.setattr(bench.venue, "order_by_client_id", unread)
        bench.bot.on_price(SYMBOL, LastPrice(Decimal(95), bench.clock.now()))
        bench.act()
        assert (len(cancels), len(beats)) == (1, 1)
        bench.act()
        assert len(cancels) == 2
    bench.price = Decimal(95)
    bench.advance(3)
    bench.trade(Decimal(95))
    assert bench.closed() == ["SL_HIT"]


def test_fill_when_it_comes_after_the_cancel_was_believed_is_a_position() -> None:
    bench = Bench()
    bench.enter(Decimal(99))
    bench.advance(31)
    assert not bench.bot.busy
    (order,) = bench.ledger.orders()
    late = VenueOrder(
        order.venue_order_id, order.client_order_id, SYMBOL, Side.BUY, order.qty, OrderState.CANCELED,
        filled_qty=Decimal(3), avg_fill_price=Decimal(99),
    )  # fmt: skip
    bench.venue.engine.book.holdings[SYMBOL] = Holding(Decimal(3), Decimal(297))
    bench.desk.take(late, ())
    assert [p.held for p in bench.bot.manager.positions.values()] == [Decimal(3)]


def test_switch_when_off_allows_no_exit_and_when_on_again_arms_exits_first() -> None:
    bench = held_bench()
    bench.ledger.switches = bench.off
    for order in bench.venue.open_orders():
        bench.venue.cancel(order.venue_order_id)  # what a stop does
    bench.reconcile()
    bench.advance(5)
    assert bench.exits() == []
    assert bench.enter().startswith("SWITCHED_OFF")
    bench.ledger.switches = bench.on
    bench.advance(1)
    assert [o.limit_price for o in bench.exits()] == [Decimal("101.00")]
    assert bench.bot.manager.unprotected_seconds(bench.clock.now().timestamp()) >= 5


def test_config_when_it_changes_moves_the_target_of_an_open_position() -> None:
    bench = held_bench()
    bench.bot.manager.on_config(replace_settings(bench.settings, profit_target_pct=0.005))
    bench.act()
    assert [o.limit_price for o in bench.exits()] == [Decimal("100.50")]


def test_positions_when_at_the_limit_allow_no_entry() -> None:
    bench = Bench(max_positions=1)
    assert bench.enter(Decimal(99)) == ""
    assert bench.enter(Decimal(99)) == "max_positions"


def test_restart_when_a_position_is_open_keeps_its_exit_and_closes_it() -> None:
    bench = held_bench()
    before = [o.venue_order_id for o in bench.exits()]
    bench.restart()
    assert [o.venue_order_id for o in bench.exits()] == before
    bench.trade(Decimal("101.00"))
    assert bench.closed() == ["TP_HIT"]


def test_exit_when_it_is_rejected_is_tried_again_and_the_time_without_is_counted() -> None:
    bench = Bench()
    bench.enter()
    bench.venue.moods = ["reject"]
    bench.trade(START)
    assert bench.exits() == []
    bench.advance(1.5)
    assert len(bench.exits()) == 1
    assert bench.bot.manager.unprotected_seconds(bench.clock.now().timestamp()) == 1.5


def test_target_when_the_price_is_far_beyond_it_is_taken_at_market() -> None:
    """A limit so far below the last price would be refused by the collar, and the position left without an exit."""
    bench = Bench()
    bench.enter()
    bench.venue.moods = ["reject"]
    bench.trade(START)
    bench.trade(Decimal(110))
    bench.advance(1.5)
    bench.advance(5)
    bench.trade(Decimal(110))
    assert bench.closed() == ["TP_HIT"]


# -- any path ---------------------------------------------------------------------------------------------------------

MOODS = st.sampled_from(["ok", "reject", "lost", "reset", "race", "stop race", "mute"])
_MARKET = st.one_of(
    st.tuples(st.just("enter"), st.sampled_from([0, 0, 10])),
    st.tuples(st.just("trade"), st.sampled_from([0, 0, 0, 5, -5, 40])),
    st.tuples(st.just("trade"), st.sampled_from([-250, -110, 110, 210])),
)
STEPS = st.one_of(
    _MARKET,
    _MARKET,
    _MARKET,
    st.tuples(st.just("enter"), st.sampled_from([0, 0, 10])),
    st.tuples(st.just("trade"), st.sampled_from([0, 0, 0, 5, -5, 40])),
    st.tuples(st.just("trade"), st.sampled_from([-250, -110, 110, 210])),
    st.tuples(st.just("advance"), st.sampled_from([0.3, 1.1, 2.5, 31, 61, 650])),
    st.tuples(st.just("mood"), MOODS),
    st.tuples(st.just("deaf"), st.booleans()),
    st.tuples(st.just("switch"), st.sampled_from([True, True, False])),
    st.tuples(st.just("stop"), st.none()),
    st.tuples(st.just("reconcile"), st.none()),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("target"), st.sampled_from([0.002, 0.01, 0.03])),
    st.tuples(st.just("close"), st.sampled_from([False, False, True])),
)


def step_of(bench: Bench, kind: str, value: Any) -> None:
    def switch(on: object) -> None:
        bench.ledger.switches = bench.on if on else bench.off
        bench.look()
        bench.act()

    def stop(_value: object) -> None:
        switch(on=False)
        for order in bench.venue.open_orders():
            bench.venue.engine.cancel(order.venue_order_id, bench.clock.now())
        bench.check()

    def configure(**changes: Any) -> None:
        bench.settings = replace_settings(bench.settings, **changes)
        bench.bot.manager.on_config(bench.settings)
        bench.act()

    steps: dict[str, Callable[[Any], object]] = {
        "trade": lambda bps: bench.trade((bench.price * (10_000 + bps) / 10_000).quantize(TICK)),
        "enter": lambda bps: bench.enter(bench.price * (10_000 - bps) / 10_000),
        "advance": bench.advance,
        "mood": bench.venue.moods.append,
        "deaf": lambda v: setattr(bench.venue, "deaf", v),
        "switch": switch,
        "stop": stop,
        "reconcile": lambda _v: bench.reconcile(),
        "restart": lambda _v: bench.restart(),
        "target": lambda v: configure(profit_target_pct=v),
        "close": lambda v: configure(close_positions=v),
    }
    steps[kind](value)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, min_size=10, max_size=50), st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 1000), st.booleans())
def test_positions_whatever_happens_are_never_oversold_and_end_closed_with_one_reason(
    steps: list[tuple[str, Any]], partial: float, seed: int, pairs: bool
) -> None:
    bench = Bench(partial=partial, seed=seed, pairs=pairs)
    for kind, value in [("enter", 0), ("trade", 0), *steps]:
        step_of(bench, kind, value)
        bench.check()
    bench.venue.moods.clear()
    bench.venue.deaf = False
    step_of(bench, "switch", value=True)
    step_of(bench, "close", value=False)
    for _ in range(4):  # what is UNKNOWN is resolved, what could not be read is read
        bench.advance(61)
        bench.reconcile()
    for position in bench.bot.manager.positions.values():
        if position.held > 0 and not position.closing:
            working = [o for o in bench.exits() if o.client_order_id in position.exits]
            assert sum(o.qty - o.filled_qty for o in working) == position.held
            assert all((o.stop_price is not None) == (pairs and not position.no_pair) for o in working)
    bench.advance(700)
    for _ in range(30):
        bench.trade(START)
        bench.advance(3)
        bench.reconcile()
    assert not bench.bot.busy
    assert bench.venue.engine.holding(SYMBOL).qty == 0
    assert bench.venue.open_orders() == []
    reasons = bench.closed()
    assert set(reasons) <= {"TP_HIT", "SL_HIT", "TIMEOUT", "MANUAL"}
    assert len(reasons) == len({p.id for p in bench.ledger.closed_positions()})
    total = sum((p.realized_pnl for p in bench.ledger.closed_positions()), Decimal(0))
    assert total == bench.ledger.stats().total.pnl


PAIR = "BTC/USDC"


def test_exit_when_a_fee_was_taken_in_base_sells_what_is_held_and_leaves_dust() -> None:
    """One that asked for all that was bought would be refused for ever."""
    bench = Bench(symbol=PAIR, fees="0.0025")
    assert bench.enter() == ""
    bench.trade(START)
    bench.check()
    (exit_order,) = bench.exits()
    assert exit_order.qty == Decimal("9.975")
    bench.trade(Decimal("101.00"))
    assert (bench.closed(), bench.bot.busy, bench.venue.oversold) == (["TP_HIT"], False, [])
    (position,) = bench.ledger.closed_positions()
    sold = Decimal("9.975") * 101
    paid = (sold * Decimal("0.0025")).quantize(Decimal("1e-6"))
    assert (position.base_fees, position.dust) == (Decimal("0.025"), 0)
    assert position.realized_pnl == sold - 1000 - paid
    assert position.fees_paid == Decimal("2.5") + paid


def test_rest_when_it_is_less_than_a_lot_closes_the_position_as_dust() -> None:
    bench = Bench(symbol=PAIR, fees="0.00257")
    bench.enter()
    bench.trade(START)
    bench.trade(Decimal("101.00"))
    (position,) = bench.ledger.closed_positions()
    assert (position.dust, position.quantity, position.exit_reason) == (Decimal("0.0003"), 0, "TP_HIT")
    assert bench.ledger.dust() == {PAIR: Decimal("0.0003")} == {PAIR: bench.venue.engine.holding(PAIR).qty}
    assert not bench.bot.busy
    bench.advance(700)
    assert bench.exits() == []


def test_entry_when_it_ends_with_less_than_a_lot_is_dust_and_has_no_endless_exit() -> None:
    bench = Bench(symbol=PAIR, fees="0.0025", partial=1.0, capital_per_trade=0.2)
    bench.enter()
    bench.trade(START)
    bench.look()
    bench.advance(31)
    (position,) = bench.ledger.closed_positions()
    assert (position.bought_qty, position.dust) == (Decimal("0.001"), Decimal("0.0009975"))
    assert (bench.bot.busy, bench.exits(), position.status) == (False, [], "CLOSED")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(STEPS, min_size=10, max_size=50),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(0, 1000),
    st.sampled_from(["0.0025", "0.00257", "0.0001"]),
)
def test_positions_when_fees_are_taken_in_base_end_closed_and_book_and_venue_agree_to_the_last_digit(
    steps: list[tuple[str, Any]], partial: float, seed: int, fees: str
) -> None:
    bench = Bench(symbol=PAIR, fees=fees, partial=partial, seed=seed)
    for kind, value in [("enter", 0), ("trade", 0), *steps]:
        step_of(bench, kind, value)
    bench.venue.moods.clear()
    bench.venue.deaf = False
    step_of(bench, "switch", value=True)
    step_of(bench, "close", value=False)
    for _ in range(4):
        bench.advance(61)
        bench.reconcile()
    bench.advance(700)
    for _ in range(40):
        bench.trade(START)
        bench.advance(3)
        bench.reconcile()
    assert (bench.bot.busy, bench.ledger.open_positions(), bench.venue.open_orders()) == (False, [], [])
    positions, engine = bench.ledger.closed_positions(), bench.venue.engine
    assert bench.ledger.dust().get(PAIR, 0) == engine.holding(PAIR).qty == sum(p.dust for p in positions)
    assert sum(p.base_fees for p in positions) == sum(e.base_fee for e in engine.book.executions)
    stats = bench.ledger.stats()
    assert stats.total.pnl == sum(p.realized_pnl for p in positions) == engine.book.cash - 1_000_000
    assert stats.fees == sum(p.fees_paid for p in positions)
    assert stats.total.trades == len(positions)
