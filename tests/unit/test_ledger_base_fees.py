"""Fees in the base currency through the ledger: held, dust and profit exact, in any order and however often told."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.clock import ManualClock, TradingCalendar
from tests.builders import NOW, order, switches
from worker.core.ledger import Bundle, take_fee, take_in
from worker.core.types import Effect, Execution, OrderState, Side, VenueOrder, is_base
from worker.core.wire import dump_execution, load_execution
from worker.trading.memory import MemoryLedger
from worker.trading.records import order_fields, position_fields, read_order, read_position

ZERO = Decimal(0)
PAIR = "BTC/USD"
LOT = Decimal("0.0001")
QUANTITIES = st.integers(1, 200_000).map(lambda n: n * LOT)
PRICES = st.decimals("0.01", "99999.99", places=2)
SHARES = st.decimals("0", "0.01", places=5)
BUYS = st.lists(st.tuples(QUANTITIES, PRICES, SHARES), min_size=1, max_size=4)
TRIPS = st.lists(st.tuples(BUYS, PRICES, SHARES, st.booleans(), st.integers(1, 3)), min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("currency", "ticker", "base"),
    [
        ("BTC", "BTC/USD", True),
        ("USD", "BTC/USD", False),
        ("BTC", "BTCUSDC", True),
        ("USDC", "BTCUSDC", False),
        ("BTC", "BTCB/USDT", False),
        ("USDC", "USDC/USDT", True),
        ("BNB", "BTC/USDT", False),
    ],
)
def test_currency_when_the_ticker_trades_it_is_the_base(currency: str, ticker: str, base: bool) -> None:
    assert is_base(currency, ticker) is base


class Account:
    """A venue's ledger of one pair, and the book that is told of it."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW)
        self.book = MemoryLedger(self.clock, TradingCalendar(ZoneInfo("UTC")), switches())
        self.held, self.cash, self.entries = ZERO, ZERO, 0

    def buy(self, fills: list[tuple[Decimal, Decimal, Decimal]], times: int, *, average_first: bool) -> str:
        self.entries += 1
        name = f"sbe1r{self.entries:010d}"
        executions = []
        for n, (qty, price, share) in enumerate(fills):
            fee = (qty * share).quantize(Decimal("1e-9"))
            at = self.clock.now() + timedelta(seconds=n)
            executions.append(
                Execution(f"{name}-{n}", name, name, PAIR, Side.BUY, qty, price, fee, at, fee_currency="BTC")
            )
            self.held, self.cash = self.held + qty - fee, self.cash - qty * price
        self._order(name, Side.BUY, sum((f[0] for f in fills), ZERO), name, executions, times, average_first)
        return name

    def sell(self, position_id: str, price: Decimal, share: Decimal) -> None:
        (position,) = [p for p in self.book.open_positions() if p.id == position_id]
        qty = position.quantity // LOT * LOT
        fee = qty * price * share
        name = position_id.replace("sbe", "sbx")
        self.held, self.cash = self.held - qty, self.cash + qty * price - fee
        fill = Execution(f"{name}-0", name, name, PAIR, Side.SELL, qty, price, fee, self.clock.now())
        self._order(name, Side.SELL, qty, position_id, [fill], 2, average_first=False)

    def _order(
        self,
        name: str,
        side: Side,
        qty: Decimal,
        position_id: str,
        executions: list[Execution],
        times: int,
        average_first: bool,
    ) -> None:
        effect = Effect.ENTRY if side is Side.BUY else Effect.EXIT
        self.book.adopt(
            order(
                name,
                ticker=PAIR,
                side=side,
                effect=effect,
                qty=qty,
                state=OrderState.ACCEPTED,
                least_qty=LOT,
                position_id=position_id,
                created_at=self.clock.now(),
                exit_reason="" if side is Side.BUY else "TP_HIT",
            )
        )
        paid = sum((e.qty * e.price for e in executions), ZERO)
        told = VenueOrder(
            name, name, PAIR, side, qty, OrderState.FILLED, filled_qty=qty, avg_fill_price=round(paid / qty, 4)
        )
        first: list[Execution] = [] if average_first else executions[:1]
        for known in [first, *[executions] * times]:
            self.clock.advance(1)
            self.book.change(name, lambda b, k=known: take_in(b, told, k, self.clock.now(), venue="model"))  # type: ignore[misc]


@given(TRIPS)
@settings(max_examples=150, deadline=None)
def test_round_trips_when_fees_are_taken_in_base_agree_with_the_venue_to_the_last_digit(
    trips: list[tuple[list[tuple[Decimal, Decimal, Decimal]], Decimal, Decimal, bool, int]],
) -> None:
    account = Account()
    for fills, price, share, average_first, times in trips:
        name = account.buy(fills, times, average_first=average_first)
        if any(p.id == name for p in account.book.open_positions()):
            held = sum((p.quantity for p in account.book.open_positions()), ZERO)
            assert held + account.book.dust().get(PAIR, ZERO) == account.held
            account.sell(name, price, share)
    closed = account.book.closed_positions()
    assert (len(closed), account.book.open_positions()) == (len(trips), [])
    assert account.book.dust().get(PAIR, ZERO) == sum((p.dust for p in closed), ZERO) == account.held
    assert all(0 <= p.dust < LOT for p in closed)
    assert sum((p.realized_pnl for p in closed), ZERO) == account.cash == account.book.stats().total.pnl
    assert account.book.stats().fees == sum((p.fees_paid for p in closed), ZERO)
    for position in closed:
        kept = {k.encode(): v.encode() for k, v in position_fields(position).items()}
        assert read_position(kept).base_fees == position.base_fees
        assert (read_position(kept).dust, read_position(kept).quote_fees) == (position.dust, position.quote_fees)


def bought(fee: str = "0", filled: str = "2") -> Bundle:
    """An entry of two that has filled, with a fee in base."""
    bundle = Bundle(order(ticker=PAIR, qty=Decimal(2), least_qty=LOT), {}, None)
    fill = Execution(
        "x1", "v1", None, PAIR, Side.BUY, Decimal(filled), Decimal(100), Decimal(fee), NOW, fee_currency="BTC"
    )
    told = VenueOrder("v1", None, PAIR, Side.BUY, Decimal(2), OrderState.ACCEPTED, filled_qty=Decimal(filled))
    return take_in(bundle, told, [fill], NOW, venue="test")


def test_fee_when_the_position_corrects_it_stays_corrected_whatever_is_told_again() -> None:
    bundle = take_fee(bought("0.005"), Decimal("-0.002"), NOW, venue="test")
    assert bundle.position is not None
    assert (bundle.order.base_fees, bundle.position.quantity) == (Decimal("0.003"), Decimal("1.997"))
    told = VenueOrder("v1", None, PAIR, Side.BUY, Decimal(2), OrderState.FILLED, filled_qty=Decimal(2))
    again = take_in(bundle, told, list(bundle.executions.values()), NOW, venue="test")
    assert again.position == bundle.position
    kept = {k.encode(): v.encode() for k, v in order_fields(again.order).items()}
    assert read_order(kept).fee_correction == Decimal("-0.002")


def test_position_when_partly_filled_below_a_lot_stays_open_until_its_entry_ends() -> None:
    bundle = bought("0.00001", filled="0.0001")
    assert bundle.position is not None
    assert (bundle.position.status, bundle.position.dust) == ("OPEN", 0)
    told = VenueOrder("v1", None, PAIR, Side.BUY, Decimal(2), OrderState.CANCELED, filled_qty=Decimal("0.0001"))
    ended = take_in(bundle, told, [], NOW, venue="test")
    assert ended.position is not None
    assert (ended.position.status, ended.position.dust) == ("CLOSED", Decimal("0.00009"))
    late = Execution(
        "x2", "v1", None, PAIR, Side.BUY, Decimal(1), Decimal(100), Decimal("0.0025"), NOW, fee_currency="BTC"
    )
    filled = VenueOrder("v1", None, PAIR, Side.BUY, Decimal(2), OrderState.CANCELED, filled_qty=Decimal("1.0001"))
    reopened = take_in(ended, filled, [late], NOW, venue="test")
    assert reopened.position is not None
    assert (reopened.position.status, reopened.position.dust) == ("OPEN", 0)
    assert reopened.position.quantity == Decimal("1.0001") - Decimal("0.00251")
    assert reopened.position.exit_time is None


def test_execution_when_written_and_read_keeps_the_currency_of_its_fee() -> None:
    (fill,) = bought("0.005").executions.values()
    assert load_execution(dump_execution(fill)) == fill
    old = {k: v for k, v in dump_execution(fill).items() if k != "fee_currency"}
    assert load_execution(old).quote_fee == fill.fee
