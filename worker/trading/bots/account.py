"""The account's book as the rules of stream bots see it: read whole with every venue read, then kept up by the desk's
own changes, so that an order costs the same however many others are open.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from decimal import Decimal

from shared.clock import Clock, TradingCalendar
from worker.core.ledger import Change
from worker.core.orders import MICRO, Order
from worker.core.positions import Position
from worker.core.risk import HELD_BY_OTHERS, DayCounters
from worker.core.stats import outcome_of
from worker.core.types import Effect, OrderState, VenuePosition
from worker.trading.desk import UNRESOLVED, OrderDesk
from worker.trading.ports import Book
from worker.trading.profit import unrealized
from worker.trading.reconcile import Snapshot

ZERO = Decimal(0)
_ENTRY = Effect.ENTRY
_NO_ORDERS: Mapping[str, Order] = {}


class AccountView:
    """Orders, positions, counters and profit of one account. Only the account's trader thread calls it.

    ``refresh`` reads the book again where the day or the venue read is another one, where the desk changed something
    that was not told here, or where what it told is not worth keeping up with: a foreign order, a count that is given
    back to the day, an order of another day. What other accounts do to the installation's counters and profit is seen
    with the next venue read; the gate counts all of it.
    """

    def __init__(self, book: Book, desk: OrderDesk, clock: Clock, calendar: TradingCalendar) -> None:
        self._book, self._desk, self._clock, self._calendar = book, desk, clock, calendar
        self._today = ""
        self._snapshot: Snapshot | None = None
        self._followed = -1
        self._forget()
        desk.followers.append(self)

    def _forget(self) -> None:
        self.positions: dict[str, Position] = {}
        self.last_trade: dict[str, datetime] = {}
        self.frozen: dict[str, str] = {}
        self.counters = DayCounters()
        self._orders_today: dict[str, int] = {}
        self._orders: dict[str, Order] = {}
        self._by_bot: dict[tuple[str, str], dict[str, Order]] = {}
        self._tickers: dict[str, int] = {}
        self._unresolved: dict[str, Order] = {}
        self._marks: dict[str, VenuePosition] = {}
        self._profit: Decimal | None = None

    # -- what the rules ask ---------------------------------------------------------------------------------------

    @property
    def open_tickers(self) -> AbstractSet[str]:
        """Tickers with a position or an entry at work."""
        return self._tickers.keys()

    def orders_of(self, bot: str, symbol: str) -> Mapping[str, Order]:
        """A bot's orders in a symbol that are not final, by id."""
        return self._by_bot.get((bot, symbol), _NO_ORDERS)

    def held_at_venue(self, symbol: str) -> Decimal | None:
        """What the venue said is held; None where something has filled since it was asked."""
        snapshot, last_fill = self._snapshot, self._desk.last_fill_at
        if snapshot is None or (last_fill is not None and last_fill >= snapshot.read_at):
            return None
        mark = self._marks.get(symbol)
        return ZERO if mark is None else mark.signed_qty

    def profit(self) -> Decimal | None:
        """The day's profit as the loss limit sees it (``profit.day_pnl``); None where it is not known."""
        total = self._profit
        if total is None:
            tally = self._book.stats().by_day.get(self._today)
            total = ZERO if tally is None else tally.pnl
            for position in self.positions.values():
                total += self._open_profit(position)
            self._profit = total
        return total if total.is_finite() else None

    def _open_profit(self, position: Position) -> Decimal:
        mark = self._marks.get(position.symbol)
        return ZERO if mark is None else unrealized(position, mark)

    def _profit_of(self, position: Position) -> Decimal:
        """What a position, open or closed, is in the day's profit."""
        outcome = outcome_of(position, lambda moment: self._calendar.day_of(moment).name)
        if outcome is None:
            return self._open_profit(position)
        return outcome.pnl if outcome.day == self._today else ZERO

    # -- reading --------------------------------------------------------------------------------------------------

    def refresh(self, today: str, snapshot: Snapshot) -> None:
        """Read the book where what stands here is not it. Raises StoreError."""
        if self._snapshot is snapshot and self._followed == self._desk.changes and self._today == today:
            return
        changes = self._desk.changes  # taken before the reading: a change within it counts
        self._followed = -1
        self._forget()
        self._today, self._snapshot = today, snapshot
        self._marks = {p.ticker: p for p in snapshot.positions}
        for order in self._book.open_orders():
            self._put(order)
        for position in self._book.open_positions():
            self._hold(position)
        day = self._book.day(today)
        self._orders_today = dict(day.counters.orders_per_ticker)
        self.counters = DayCounters(day.counters.notional, self._orders_today)
        self.last_trade = dict(day.last_trade)
        self._freeze()
        self._followed = changes

    def _put(self, order: Order) -> None:
        name = order.client_order_id
        self._orders[name] = order
        self._by_bot.setdefault((order.bot_id, order.ticker), {})[name] = order
        if order.effect is _ENTRY:
            self._tickers[order.ticker] = self._tickers.get(order.ticker, 0) + 1
        if order.state in UNRESOLVED:
            self._unresolved[name] = order

    def _take_out(self, order: Order) -> None:
        name, owner = order.client_order_id, (order.bot_id, order.ticker)
        known = self._orders.pop(name, None)
        if known is None:
            return
        mine = self._by_bot[owner]
        del mine[name]
        if not mine:
            del self._by_bot[owner]
        if known.effect is _ENTRY:
            self._leave(known.ticker)
        self._unresolved.pop(name, None)

    def _hold(self, position: Position) -> None:
        self.positions[position.id] = position
        self._tickers[position.symbol] = self._tickers.get(position.symbol, 0) + 1

    def _leave(self, ticker: str) -> None:
        left = self._tickers[ticker] - 1
        if left:
            self._tickers[ticker] = left
        else:
            del self._tickers[ticker]

    def _freeze(self) -> None:
        """Few orders wait for an answer. Of several in a ticker, ABSENT, which lets exits pass, counts least."""
        waiting = sorted(self._unresolved.values(), key=lambda o: o.state is not OrderState.ABSENT)
        self.frozen = {o.ticker: o.state.value for o in waiting}
        if self._snapshot is not None:
            self.frozen |= dict.fromkeys(self._snapshot.external, HELD_BY_OTHERS)

    def _count(self, reserved: int) -> None:
        notional = self.counters.notional + Decimal(reserved) / MICRO
        self.counters = DayCounters(notional, self._orders_today)

    # -- what the desk tells --------------------------------------------------------------------------------------

    def on_admitted(self, order: Order) -> None:
        """The gate has taken an order into the book and counted it."""
        if not self._keeps_up() or order.trading_day != self._today:
            self._followed = -1
            return
        self._put(order)
        self._count(order.reserved)
        self._orders_today[order.ticker] = self._orders_today.get(order.ticker, 0) + 1
        self.last_trade[order.ticker] = self._clock.now()
        self._freeze()

    def on_changed(self, change: Change) -> None:
        """The desk has changed an order, or found that nothing is new."""
        if not self._keeps_up():
            return
        if not change.changed:
            return
        before, after = change.before.order, change.after.order
        counted = change.released_count or change.retaken_count
        if after.is_external or counted or not before.trading_day == after.trading_day == self._today:
            self._followed = -1
            return
        self._take_out(before)
        if not after.is_final:
            self._put(after)
        if change.taken_from_day:
            self._count(change.taken_from_day)
        if before.state in UNRESOLVED or after.state in UNRESOLVED:
            self._freeze()
        for was, now in change.moved:
            self._move(was, now)

    def _keeps_up(self) -> bool:
        """One more change was told; whether all before it were."""
        if self._followed + 1 != self._desk.changes:
            self._followed = -1
            return False
        self._followed += 1
        return True

    def _move(self, was: Position | None, now: Position) -> None:
        if self._profit is not None:
            self._profit += self._profit_of(now) - (ZERO if was is None else self._profit_of(was))
        if self.positions.pop(now.id, None) is not None:
            self._leave(now.symbol)
        if not now.is_closed:
            self._hold(now)
