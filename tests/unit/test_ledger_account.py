"""Whole accounts against an independent sum of their fills: shorts, fractions, overfills, fees, and others' hands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.clock import ManualClock, TradingCalendar
from tests.builders import NOW, order, switches
from worker.core.ledger import take_in
from worker.core.orders import EXTERNAL, Order
from worker.core.positions import Position
from worker.core.types import Effect, Execution, OrderState, Side, VenueOrder
from worker.trading.memory import MemoryLedger

ZERO = Decimal(0)
START = Decimal(100_000)
TINY = Decimal("1e-15")
QUANTITIES = st.one_of(st.integers(1, 20).map(Decimal), st.decimals("0.000000001", "9.999999999", places=9))
PRICES = st.decimals("0.0001", "9999.9999", places=4)
FEES = st.one_of(st.just(ZERO), st.decimals("0", "2", places=6))
FILLS = st.lists(st.tuples(QUANTITIES, PRICES, FEES), min_size=1, max_size=4)


@dataclass(frozen=True)
class Trade:
    """An order and its fills, as the venue has them; ``ordered`` is less where it filled more than was ordered."""

    ours: bool
    side: Side
    fills: list[tuple[Decimal, Decimal, Decimal]]
    overfilled: bool
    by_average: bool
    days: int

    @property
    def qty(self) -> Decimal:
        return sum((f[0] for f in self.fills), ZERO)


TRADES = st.lists(
    st.builds(Trade, st.booleans(), st.sampled_from(Side), FILLS, st.booleans(), st.booleans(), st.integers(0, 1)),
    min_size=1,
    max_size=8,
)


class Account:
    """The book's twin, told by a venue that tells an average first, or each fill, and in the end everything."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW)
        self.book = MemoryLedger(self.clock, TradingCalendar(ZoneInfo("UTC")), switches())
        self.executions: dict[str, list[Execution]] = {}

    def trade(self, trade: Trade) -> None:
        self.clock.advance(timedelta(days=trade.days).total_seconds() + 60)
        name = self._adopt(trade)
        self.executions[name] = [
            Execution(f"{name}-{n}", name, None, "AAPL", trade.side, *fill, self.clock.now() + timedelta(seconds=n))
            for n, fill in enumerate(trade.fills)
        ]
        known = self.executions[name]
        for count in range(1, len(known) + 1):
            self._tell(name, known[:count], () if trade.by_average else known[count - 1 : count])

    def _adopt(self, trade: Trade) -> str:
        name = f"sbe1r{len(self.executions):010d}"
        held = next(iter(self.book.open_positions()), None)
        entry = held is None or (held.signed_qty > 0) == (trade.side is Side.BUY)
        ordered = trade.fills[0][0] if trade.overfilled else trade.qty
        self.book.adopt(
            order(
                name,
                bot_id="1" if trade.ours else EXTERNAL,
                side=trade.side,
                effect=Effect.ENTRY if entry else Effect.EXIT,
                qty=ordered,
                state=OrderState.ACCEPTED,
                position_id=held.id if held is not None else name,
                created_at=self.clock.now(),
            )
        )
        return name

    def _tell(self, name: str, known: list[Execution], executions: tuple[Execution, ...] | list[Execution]) -> None:
        of = self.book.order(name)
        assert of is not None
        qty = sum((e.qty for e in known), ZERO)
        paid = sum((e.qty * e.price for e in known), ZERO)
        told = VenueOrder(
            name,
            None,
            "AAPL",
            of.side,
            of.qty,
            OrderState.PARTIALLY_FILLED,
            filled_qty=qty,
            avg_fill_price=round(paid / qty, 4),
        )
        self.book.change(name, lambda b: take_in(b, told, executions, self.clock.now(), venue="model"))

    def settle(self) -> None:
        """The reconciliation that always comes; twice, since it must not matter."""
        for name, known in [*self.executions.items(), *self.executions.items()]:
            self._tell(name, known, known)

    def orders(self) -> list[Order]:
        return self.book.orders()

    def positions(self) -> list[Position]:
        return [*self.book.open_positions(), *self.book.closed_positions()]


def flow(executions: list[Execution]) -> tuple[Decimal, Decimal, Decimal]:
    """Held, cash moved before fees, fees: straight from the fills."""
    held = sum((e.side.sign * e.qty for e in executions), ZERO)
    cash = sum((-e.side.sign * e.qty * e.price for e in executions), ZERO)
    return held, cash, sum((e.fee for e in executions), ZERO)


@given(TRADES, PRICES)
@settings(max_examples=120, deadline=None)
def test_account_when_anything_was_traded_agrees_with_its_fills(trades: list[Trade], mark: Decimal) -> None:
    account = Account()
    for trade in trades:
        account.trade(trade)
    account.settle()
    held, cash, fees = flow([e for known in account.executions.values() for e in known])
    positions, stats = account.positions(), account.book.stats()
    others = [(o.side.sign, c) for o in account.orders() for c in o.claims if not c.position_id]

    exposure = sum((sign * c.qty for sign, c in others), ZERO)
    assert sum(account.book.exposure().values(), ZERO) == exposure
    assert sum((p.signed_qty for p in positions), ZERO) + exposure == held
    ours_cash = sum((p.sold_notional - p.bought_notional for p in positions), ZERO)
    assert ours_cash + sum((-sign * c.notional for sign, c in others), ZERO) == cash
    assert sum((p.fees_paid for p in positions), ZERO) + sum((c.fees for _, c in others), ZERO) == fees

    profit = sum((p.realized_pnl + p.unrealized_pnl(mark) for p in positions), ZERO)
    others_profit = sum((-sign * c.notional - c.fees + sign * c.qty * mark for sign, c in others), ZERO)
    equity = START + cash - fees + held * mark
    assert abs(START + profit + others_profit - equity) < TINY * max(1, abs(equity))

    closed = [p for p in positions if p.is_closed]
    assert stats.total.pnl == sum((p.sold_notional - p.bought_notional - p.fees_paid for p in closed), ZERO)
    assert (stats.total.trades, stats.by_ticker.get("AAPL", stats.total)) == (len(closed), stats.total)
    assert sum((t.pnl for t in stats.by_day.values()), ZERO) == stats.total.pnl
    assert stats.fees == sum((p.fees_paid for p in positions), ZERO)
    logged = sum(
        (Decimal(str(e["total_value"])) * (1 if e["side"] == "sell" else -1) for e in account.book.trades_log), ZERO
    )
    assert abs(logged - ours_cash) < Decimal("1e-6")  # the log holds JSON numbers


@given(TRADES)
@settings(max_examples=40, deadline=None)
def test_account_when_only_we_trade_keeps_every_fill_in_positions(trades: list[Trade]) -> None:
    """Also what crosses zero, and what fills beyond the order."""
    account = Account()
    for trade in trades:
        account.trade(Trade(True, trade.side, trade.fills, trade.overfilled, trade.by_average, trade.days))
    account.settle()
    held, cash, fees = flow([e for known in account.executions.values() for e in known])
    positions = account.positions()
    assert sum((p.signed_qty for p in positions), ZERO) == held
    assert sum((p.sold_notional - p.bought_notional for p in positions), ZERO) == cash
    assert sum((p.fees_paid for p in positions), ZERO) == fees == account.book.stats().fees
    assert all(
        o.filled_qty == sum((e.qty for e in account.executions[o.client_order_id]), ZERO) for o in account.orders()
    )
