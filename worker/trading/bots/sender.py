"""From what a bot wants to an order at the venue: the rules, with a view scoped to that bot, the gate, the desk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal

import msgspec

from shared.clock import Clock, TradingCalendar
from shared.documents import RiskSettings
from shared.errors import VenueError
from worker.core.bots import Submit
from worker.core.orders import Order, micros
from worker.core.positions import Position
from worker.core.risk import BookView, Denial, Intent, MarketView, judge_intent, span
from worker.core.types import Effect, Instrument, LastPrice, OrderState, OrderType, Side, TimeInForce
from worker.trading.cycle import day_pnl
from worker.trading.desk import UNRESOLVED, OrderDesk
from worker.trading.ports import Book, DayFigures, Switches, Ticket
from worker.trading.reconcile import Snapshot
from worker.venues.base import Venue

ZERO = Decimal(0)
CLOCK_SECONDS = 5.0
"""For how long a venue's word that its session is open is believed."""
_ATTEMPTS_AFTER_A_CHANGE = 3
_ENTRY = Effect.ENTRY


class _Account(msgspec.Struct, frozen=True, gc=False):
    """The account's book as of one moment, for all bots."""

    by_bot: Mapping[tuple[str, str], list[Order]]
    positions: Mapping[str, Position]
    day: DayFigures
    frozen: Mapping[str, str]
    open_tickers: frozenset[str]
    at_venue: Mapping[str, Decimal] | None


class OrderSender:
    """Sends the orders of all stream bots of one account. Only the account's trader thread calls it."""

    def __init__(
        self,
        account: str,
        venue: Venue,
        desk: OrderDesk,
        book: Book,
        clock: Clock,
        calendar: TradingCalendar,
        read_switches: Callable[[], Switches],
    ) -> None:
        self._account, self._venue, self._desk, self._book = account, venue, desk, book
        self._clock, self._calendar, self._read_switches = clock, calendar, read_switches
        self._instruments: dict[str, Instrument] = {}
        self._seen: tuple[tuple[object, ...], _Account] | None = None
        self._day_pnl: tuple[_Account, Decimal | None] | None = None
        self._open: tuple[float, bool] | None = None
        self._spent: tuple[Snapshot | None, Decimal] = (None, ZERO)
        self._run = ("", 0)
        self.switches: Switches | None = None
        self.snapshot: Snapshot | None = None
        self.epoch = 0

    def instrument(self, symbol: str) -> Instrument:
        """Cached for the life of the process. Raises VenueUnavailable."""
        found = self._instruments.get(symbol)
        if found is None:
            found = self._instruments[symbol] = self._venue.instrument(symbol)
        return found

    def venue_price(self, symbol: str) -> LastPrice:
        """The venue's own last price. Raises VenueUnavailable."""
        return self._venue.last_price(symbol)

    def submit(self, bot_id: int, action: Submit, last: LastPrice, run_id: str, reason: str) -> Denial | Order:
        """Judge, admit and send; the denial where one of them says no.

        Raises StoreUnreachable where the gate could not be asked, VenueUnavailable where the venue's clock cannot be
        read.
        """
        denial: Denial | None = None
        for _ in range(_ATTEMPTS_AFTER_A_CHANGE):
            switches, snapshot = self.switches, self.snapshot
            if switches is None or snapshot is None or not switches.on:
                return Denial("SWITCHED_OFF", "trading is not on")
            result = self._submit(bot_id, action, last, run_id, reason, switches, snapshot)
            if isinstance(result, Order):
                return result
            denial = result
            if denial.code != "SETTINGS_CHANGED":
                break
            self.switches = self._read_switches()
        return denial or Denial("SETTINGS_CHANGED", "the settings keep changing")

    def _submit(
        self,
        bot_id: int,
        action: Submit,
        last: LastPrice,
        run_id: str,
        reason: str,
        switches: Switches,
        snapshot: Snapshot,
    ) -> Denial | Order:
        now = self._clock.now()
        intent = Intent(
            action.symbol,
            action.side,
            action.effect,
            action.qty,
            last.price,
            OrderType.MARKET if action.limit_price is None else OrderType.LIMIT,
            action.limit_price,
            reason,
        )
        view = self._view(bot_id, action, run_id, switches, snapshot, now)
        market = MarketView(now, self._is_open(action.symbol), last, self.instrument(action.symbol))
        denial = judge_intent(intent, view, switches.risk.value, market)
        if denial is not None:
            return denial
        day = self._calendar.day_of(now)
        order = self._order(bot_id, action, last, reason, now, day.name)
        result = self._desk.submit(Ticket(order, switches, day, run_id))
        if isinstance(result, Order):
            self._count(result, run_id)
        return result

    def _order(self, bot_id: int, action: Submit, last: LastPrice, reason: str, now: datetime, today: str) -> Order:
        limit = action.limit_price
        entry = action.effect is _ENTRY
        return Order(
            client_order_id=action.client_order_id,
            account=self._account,
            bot_id=str(bot_id),
            ticker=action.symbol,
            side=action.side,
            effect=action.effect,
            qty=action.qty,
            type=OrderType.MARKET if limit is None else OrderType.LIMIT,
            time_in_force=TimeInForce.DAY if self._closes(action.symbol) else TimeInForce.GTC,
            limit_price=limit,
            ref_price=last.price,
            state=OrderState.INTENT,
            reason=reason,
            created_at=now,
            updated_at=now,
            epoch=self.epoch,
            trading_day=today,
            reserved=micros(action.qty * (last.price if limit is None else limit)),
            position_id=action.position_id,
            exit_reason=action.exit_reason,
            confidence=action.confidence,
            take_profit=action.take_profit,
            stop_loss=action.stop_loss,
            post_only=entry and limit is not None,
        )

    def _count(self, order: Order, run_id: str) -> None:
        if order.effect is Effect.EXIT:
            return
        done = self._run[1] if self._run[0] == run_id else 0
        self._run = (run_id, done + 1)
        spent = self._spent[1] if self._spent[0] is self.snapshot else ZERO
        self._spent = (self.snapshot, spent + order.notional)

    # -- the view -------------------------------------------------------------------------------------------------

    def _view(
        self, bot_id: int, action: Submit, run_id: str, switches: Switches, snapshot: Snapshot, now: datetime
    ) -> BookView:
        """Caps are the account's; what is held, sold and worked is this bot's, and for an exit this position's."""
        today = self._calendar.day_of(now).name
        account = self._read(today, snapshot)
        symbol = action.symbol
        position = account.positions.get(action.position_id)
        held = position.signed_qty if position is not None else ZERO
        if account.at_venue is not None:
            held = min(held, account.at_venue.get(symbol, ZERO))
        entry, entries, selling = action.effect is _ENTRY, False, ZERO
        for o in account.by_bot.get((str(bot_id), symbol), ()):
            entries = entries or o.effect is _ENTRY
            if o.position_id == action.position_id and o.side is Side.SELL and o.state is not OrderState.ABSENT:
                selling += o.open_qty
        spent = self._spent[1] if self._spent[0] is snapshot else ZERO
        return BookView(
            held={symbol: held},
            working=frozenset({symbol}) if entries else frozenset(),
            frozen=account.frozen,
            selling={symbol: selling} if selling else {},
            open_tickers=account.open_tickers,
            day=account.day.counters,
            last_trade=account.day.last_trade,
            run_orders=self._run[1] if self._run[0] == run_id and entry else 0,
            day_pnl=self._profit(account, snapshot, today) if entry else None,
            buying_power=snapshot.account.buying_power - spent,
            enabled=switches.on,
            reducing=snapshot.drift,
        )

    def _read(self, today: str, snapshot: Snapshot) -> _Account:
        """Read again only after something changed."""
        as_of = (self._desk.changes, today, snapshot)
        if self._seen is not None and self._seen[0] == as_of:
            return self._seen[1]
        orders = self._book.open_orders()
        by_bot: dict[tuple[str, str], list[Order]] = {}
        for order in orders:
            by_bot.setdefault((order.bot_id, order.ticker), []).append(order)
        positions = {p.id: p for p in self._book.open_positions()}
        frozen = {o.ticker: o.state.value for o in orders if o.state in UNRESOLVED}
        frozen |= dict.fromkeys(snapshot.external, "held or worked by someone else (EXTERNAL)")
        last_fill = self._desk.last_fill_at
        fresh = last_fill is None or last_fill < snapshot.read_at
        found = _Account(
            by_bot=by_bot,
            positions=positions,
            day=self._book.day(today),
            frozen=frozen,
            open_tickers=frozenset(p.symbol for p in positions.values())
            | {o.ticker for o in orders if o.effect is Effect.ENTRY},
            at_venue={p.ticker: p.signed_qty for p in snapshot.positions} if fresh else None,
        )
        self._seen = (as_of, found)
        return found

    def _profit(self, account: _Account, snapshot: Snapshot, today: str) -> Decimal | None:
        """The day's profit, read again only when the book is."""
        if self._day_pnl is None or self._day_pnl[0] is not account:
            self._day_pnl = (account, day_pnl(self._book, snapshot, today))
        return self._day_pnl[1]

    def _closes(self, symbol: str) -> bool:
        """Whether a symbol has sessions: a pair, like BTC/USD, trades day and night where stocks do not."""
        return self._venue.capabilities.sessions and "/" not in symbol

    def _is_open(self, symbol: str) -> bool | None:
        if not self._closes(symbol):
            return True
        now = self._clock.monotonic()
        if self._open is None or now - self._open[0] > CLOCK_SECONDS:
            try:
                self._open = (now, self._venue.clock().is_open)
            except VenueError:
                return None
        return self._open[1]


def too_old(last: LastPrice | None, now: datetime, limits: RiskSettings) -> bool:
    """Whether a price is no price any more."""
    return last is None or now - last.time > span(limits.stale_data_seconds)
