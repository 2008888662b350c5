"""From what a bot wants to an order at the venue: the rules, with a view scoped to that bot, the gate, the desk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal

import msgspec

from shared.clock import Clock, TradingCalendar
from shared.documents import RiskSettings
from shared.errors import VenueError
from worker.core.bot_position import Submit
from worker.core.limits import limits_of
from worker.core.orders import Order, micros
from worker.core.risk import BookView, Denial, Intent, MarketView, judge_intent
from worker.core.types import Effect, Instrument, LastPrice, OrderState, OrderType, Side, TimeInForce
from worker.trading.bots.account import AccountView
from worker.trading.desk import OrderDesk
from worker.trading.ports import Book, Switches, Ticket
from worker.trading.reconcile import Snapshot
from worker.venues.base import Venue

ZERO = Decimal(0)
CLOCK_SECONDS = 5.0
"""For how long a venue's word that its session is open is believed."""
_ATTEMPTS_AFTER_A_CHANGE = 3
_ENTRY, _SELL, _ABSENT, _INTENT = Effect.ENTRY, Side.SELL, OrderState.ABSENT, OrderState.INTENT
_MARKET, _LIMIT, _DAY, _GTC = OrderType.MARKET, OrderType.LIMIT, TimeInForce.DAY, TimeInForce.GTC
"""Looking a member up in its class takes longer than most questions about it."""
_NONE: Mapping[str, Decimal] = {}
_NO_TICKER: frozenset[str] = frozenset()


class _Traded(msgspec.Struct, frozen=True, gc=False):
    """What a symbol is at this venue. ``sessions``: a pair, like BTC/USD, trades day and night where stocks do not."""

    instrument: Instrument
    least_qty: Decimal
    sessions: bool


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
        self._account, self._venue, self._desk = account, venue, desk
        self._clock, self._calendar, self._read_switches = clock, calendar, read_switches
        self._view = AccountView(book, desk, clock, calendar)
        self._traded: dict[str, _Traded] = {}
        self._open: tuple[float, bool] | None = None
        self._spent: tuple[Snapshot | None, Decimal] = (None, ZERO)
        self._run = ("", 0)
        self._judged: tuple[Switches | None, bool] = (None, False)
        self.switches: Switches | None = None
        self.snapshot: Snapshot | None = None
        self.epoch = 0

    def instrument(self, symbol: str) -> Instrument:
        """Cached for the life of the process. Raises VenueUnavailable."""
        return self._of(symbol).instrument

    def _of(self, symbol: str) -> _Traded:
        found = self._traded.get(symbol)
        if found is None:
            instrument, sessions = self._venue.instrument(symbol), self._venue.capabilities.sessions
            found = _Traded(instrument, instrument.least_qty, sessions and "/" not in symbol)
            self._traded[symbol] = found
        return found

    def venue_price(self, symbol: str) -> LastPrice:
        """The venue's own last price. Raises VenueUnavailable."""
        return self._venue.last_price(symbol)

    def submit(
        self,
        bot_id: int,
        action: Submit,
        last: LastPrice,
        run_id: str,
        reason: str,
        now: datetime | None = None,
    ) -> Denial | Order:
        """Judge, admit and send; the denial where one of them says no. ``now`` is the moment of the decision.

        Raises StoreUnreachable where the gate could not be asked, VenueUnavailable where the venue's clock cannot be
        read.
        """
        denial: Denial | None = None
        for _ in range(_ATTEMPTS_AFTER_A_CHANGE):
            switches, snapshot = self.switches, self.snapshot
            if switches is None or snapshot is None or not self._is_on(switches):
                return Denial("SWITCHED_OFF", "trading is not on")
            at = now or self._clock.now()
            result = self._submit(str(bot_id), action, last, run_id, reason, switches, snapshot, at)
            if isinstance(result, Order):
                return result
            denial = result
            if denial.code != "SETTINGS_CHANGED":
                break
            self.switches, now = self._read_switches(), None
        return denial or Denial("SETTINGS_CHANGED", "the settings keep changing")

    def _is_on(self, switches: Switches) -> bool:
        """Frozen documents are judged once."""
        if self._judged[0] is not switches:
            self._judged = (switches, switches.on)
        return self._judged[1]

    def _submit(
        self,
        bot: str,
        action: Submit,
        last: LastPrice,
        run_id: str,
        reason: str,
        switches: Switches,
        snapshot: Snapshot,
        now: datetime,
    ) -> Denial | Order:
        day, traded = self._calendar.day_of(now), self._of(action.symbol)
        limit = action.limit_price
        kind = _MARKET if limit is None else _LIMIT
        intent = Intent(action.symbol, action.side, action.effect, action.qty, last.price, kind, limit, reason)
        view = self._book_view(bot, action, run_id, switches, snapshot, day.name)
        market = MarketView(now, self._is_open() if traded.sessions else True, last, traded.instrument)
        denial = judge_intent(intent, view, switches.risk.value, market)
        if denial is not None:
            return denial
        order = self._order(bot, action, intent, traded, now, day.name)
        result = self._desk.submit(Ticket(order, switches, day, run_id))
        if isinstance(result, Order):
            self._count(result, run_id)
        return result

    def _order(self, bot: str, action: Submit, intent: Intent, traded: _Traded, now: datetime, today: str) -> Order:
        """By position as far as all are given: so many names would take longer than the object."""
        limit, stop = intent.limit_price, action.stop_price
        return Order(
            action.client_order_id,
            self._account,
            bot,
            action.symbol,
            intent.side,
            action.effect,
            action.qty,
            intent.type,
            # A stop at the venue protects what is held over night, too.
            _DAY if traded.sessions and stop is None else _GTC,
            limit,
            intent.ref_price,
            _INTENT,
            intent.reason,
            now,
            now,
            self.epoch,
            today,
            micros(intent.notional),
            action.position_id,
            exit_reason=action.exit_reason,
            confidence=action.confidence,
            take_profit=action.take_profit,
            stop_loss=action.stop_loss,
            post_only=action.effect is _ENTRY and limit is not None,
            stop_price=stop,
            least_qty=traded.least_qty,
        )

    def _count(self, order: Order, run_id: str) -> None:
        if order.effect is Effect.EXIT:
            return
        done = self._run[1] if self._run[0] == run_id else 0
        self._run = (run_id, done + 1)
        spent = self._spent[1] if self._spent[0] is self.snapshot else ZERO
        self._spent = (self.snapshot, spent + order.notional)

    # -- the view -------------------------------------------------------------------------------------------------

    def _book_view(
        self, bot: str, action: Submit, run_id: str, switches: Switches, snapshot: Snapshot, today: str
    ) -> BookView:
        """Caps are the account's; what is held, sold and worked is this bot's, and for an exit this position's."""
        account, symbol = self._view, action.symbol
        account.refresh(today, snapshot)
        held, working, selling = _NONE, _NO_TICKER, _NONE
        profit, orders = None, account.orders_of(bot, symbol)
        entry = action.effect is _ENTRY
        if entry:
            profit = account.profit()
            if orders and any(o.effect is _ENTRY for o in orders.values()):
                working = frozenset({symbol})
        else:
            held, selling = self._exit_view(action, orders)
        spent = self._spent[1] if self._spent[0] is snapshot else ZERO
        return BookView(
            held,
            working,
            account.frozen,
            selling,
            account.open_tickers,
            account.counters,
            account.last_trade,
            self._run[1] if self._run[0] == run_id and entry else 0,
            profit,
            snapshot.account.buying_power - spent,
            self._is_on(switches),
            snapshot.drift,
        )

    def _exit_view(
        self, action: Submit, orders: Mapping[str, Order]
    ) -> tuple[Mapping[str, Decimal], Mapping[str, Decimal]]:
        """What is held of an exit's position, and what of it is being sold already."""
        account, symbol, name = self._view, action.symbol, action.position_id
        position, at_venue = account.positions.get(name), account.held_at_venue(symbol)
        held = ZERO if position is None else position.signed_qty
        if at_venue is not None:
            held = min(held, at_venue)
        mine = [o for o in orders.values() if o.position_id == name and o.side is _SELL and o.state is not _ABSENT]
        selling = sum((o.open_qty for o in mine), ZERO)
        return {symbol: held}, {symbol: selling} if selling else _NONE

    def _is_open(self) -> bool | None:
        """Whether the session runs; None where the venue cannot be asked."""
        now = self._clock.monotonic()
        if self._open is None or now - self._open[0] > CLOCK_SECONDS:
            try:
                self._open = (now, self._venue.clock().is_open)
            except VenueError:
                return None
        return self._open[1]


def too_old(last: LastPrice | None, now: datetime, limits: RiskSettings) -> bool:
    """Whether a price is no price any more."""
    return last is None or now - last.time > limits_of(limits).stale
