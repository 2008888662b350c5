"""The in-memory twins of gate and book, for replay: same rules, same pure steps, no server."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from shared.clock import Clock, TradingCalendar
from worker.core.foreign import Holdings
from worker.core.ledger import Bundle, Change, update_stats
from worker.core.orders import GIVEN_UP, MICRO, Order, micros
from worker.core.positions import Position
from worker.core.risk import DayCounters, Denial
from worker.core.stats import Stats
from worker.core.types import Effect, Execution
from worker.trading.memory_index import OpenIndex, TradesLog
from worker.trading.ports import DayFigures, Switches, Ticket


@dataclass
class _Day:
    notional: int = 0
    orders: dict[str, int] = field(default_factory=dict)
    run: str = ""
    run_orders: int = 0
    filled_orders: int = 0
    filled_notional: Decimal = Decimal(0)


class MemoryLedger:
    """Gate and book of one account over plain dictionaries; the clock is injected.

    ``switches`` stands for the two documents in Redis, ``epoch`` and ``armed`` for the fence.
    """

    def __init__(self, clock: Clock, calendar: TradingCalendar, switches: Switches) -> None:
        self._clock, self._calendar = clock, calendar
        self.switches, self.epoch, self.armed, self.owned = switches, 1, True, True
        self._bundles: dict[str, Bundle] = {}
        self._open, self._log = OpenIndex(), TradesLog()
        self._positions: dict[str, Position] = {}
        self._days: dict[str, _Day] = {}
        self._last_trade: dict[str, datetime] = {}
        self._cooldown: dict[str, tuple[datetime, datetime | None]] = {}
        self._exposure: dict[str, Decimal] = {}
        self._dust: dict[str, Decimal] = {}
        self._stats = Stats()
        self.equity: list[tuple[datetime, str]] = []

    # -- gate -----------------------------------------------------------------------------------------------------

    def admit(self, ticket: Ticket) -> Denial | None:
        order = ticket.order
        denial = self._fence(ticket) or self._limits(ticket)
        if denial is not None:
            return denial
        day = self._day(ticket.day.name)
        if day.run != ticket.run_id:
            day.run, day.run_orders = ticket.run_id, 0
        day.run_orders += 1
        day.notional += order.reserved
        day.orders[order.ticker] = day.orders.get(order.ticker, 0) + 1
        self._cooldown[order.client_order_id] = (now := self._clock.now()), self._last_trade.get(order.ticker)
        self._last_trade[order.ticker] = now
        self._bundles[order.client_order_id] = Bundle(order, {}, self._positions.get(order.position_id))
        self._open.keep(order)
        return None

    def _fence(self, ticket: Ticket) -> Denial | None:
        order, ours, theirs = ticket.order, self.switches, ticket.switches
        if ours.settings.raw is None or ours.settings.raw != theirs.settings.raw:
            return Denial("SETTINGS_CHANGED", "trading_settings is not what was judged")
        if ours.risk.raw != theirs.risk.raw:
            return Denial("SETTINGS_CHANGED", "risk_settings is not what was judged")
        if order.epoch != self.epoch:
            return Denial("EPOCH_CHANGED", f"decided in epoch {order.epoch}, now {self.epoch}")
        if not self.armed:
            return Denial("NOT_ARMED", "the emergency worker does not arm trading")
        if not self.owned:
            return Denial("LEASE_LOST", "the lease of the account is not ours")
        now = self._clock.now().timestamp()
        if now < ticket.day.start - 2 or now >= ticket.day.end + 2:
            return Denial("WRONG_DAY", f"time {int(now)} is outside the trading day named")
        if order.client_order_id in self._bundles:
            return Denial("DUPLICATE_ID", "an order of this id exists")
        return None

    def _limits(self, ticket: Ticket) -> Denial | None:
        order, limits, day = ticket.order, ticket.switches.risk.value, self._day(ticket.day.name)
        done = day.run_orders if day.run == ticket.run_id else 0
        if done >= limits.max_trades_per_run:
            return Denial("TRADES_PER_RUN", f"{done} + 1 > {limits.max_trades_per_run}")
        if order.effect is Effect.EXIT:
            return None
        cap = micros(limits.daily_notional_cap)
        if cap and day.notional + order.reserved > cap:
            return Denial(
                "DAILY_NOTIONAL_CAP", f"{day.notional / 1e6:,.2f} + {order.reserved / 1e6:,.2f} > {cap / 1e6:,.2f}"
            )
        count = day.orders.get(order.ticker, 0)
        if count >= limits.max_position_per_ticker:
            return Denial(
                "ORDERS_PER_TICKER", f"{count} + 1 > {limits.max_position_per_ticker} today in {order.ticker}"
            )
        last = self._last_trade.get(order.ticker)
        if last is not None:
            wait = timedelta(minutes=float(limits.cooldown_minutes)) - (self._clock.now() - last)
            if wait > timedelta(0):
                return Denial("COOLDOWN", f"{order.ticker} for another {wait.total_seconds():.0f} s")
        exposed = self._open.exposed
        if order.ticker not in exposed and len(exposed) >= limits.max_open_positions:
            return Denial("OPEN_POSITIONS", f"{len(exposed)} + 1 > {limits.max_open_positions}")
        return None

    def _day(self, name: str) -> _Day:
        return self._days.setdefault(name, _Day())

    # -- book -----------------------------------------------------------------------------------------------------

    def open_orders(self) -> list[Order]:
        return list(self._open.orders.values())

    def order(self, client_order_id: str) -> Order | None:
        bundle = self._bundles.get(client_order_id)
        return None if bundle is None else bundle.order

    def names_of(self, venue_order_ids: Collection[str]) -> dict[str, str]:
        found = (b.order for b in self._bundles.values())
        return {o.venue_order_id: o.client_order_id for o in found if o.venue_order_id in venue_order_ids}

    def given_up(self) -> frozenset[str]:
        return frozenset(b.order.ticker for b in self._bundles.values() if b.order.note == GIVEN_UP)

    def executions(self, client_order_id: str) -> list[Execution]:
        """The order's fills, for the replay's report."""
        return list(self._bundles[client_order_id].executions.values())

    def orders(self) -> list[Order]:
        """Every order of the run, in the order of their intents."""
        return [bundle.order for bundle in self._bundles.values()]

    def open_positions(self) -> list[Position]:
        return list(self._open.positions.values())

    def closed_positions(self) -> list[Position]:
        return [p for p in self._positions.values() if p.is_closed]

    def exposure(self) -> dict[str, Decimal]:
        return dict(self._exposure)

    def dust(self) -> dict[str, Decimal]:
        return dict(self._dust)

    def settle_exposure(self, ticker: str, qty: Decimal) -> None:
        self._exposure[ticker] = qty

    def day(self, trading_day: str) -> DayFigures:
        day = self._day(trading_day)
        return DayFigures(
            DayCounters(Decimal(day.notional) / MICRO, day.orders),
            self._last_trade,
            day.filled_orders,
            day.filled_notional,
        )

    def stats(self) -> Stats:
        return self._stats

    def change(self, client_order_id: str, step: Callable[[Bundle], Bundle]) -> Change | None:
        found = self._bundles.get(client_order_id)
        if found is None:
            return None
        if found.order.is_external:
            held = {n: p for n, p in self._positions.items() if p.symbol == found.order.ticker}
            before = replace(found, holdings=Holdings(held, self._exposure.get(found.order.ticker)))
        else:
            before = replace(found, position=self._positions.get(found.order.position_id))
        change = Change(before, step(before))
        if change.changed:
            self._apply(change)
        return change

    def _apply(self, change: Change) -> None:
        before, after = change.before.order, change.after.order
        written = replace(after, version=after.version + 1)
        self._bundles[after.client_order_id] = replace(change.after, order=written)
        self._open.keep(written)
        for _, position in change.moved:
            self._positions[position.id] = position
            self._open.hold(position)
        if change.dust_delta:
            self._dust[after.ticker] = self._dust.get(after.ticker, Decimal(0)) + change.dust_delta
        if change.after.holdings.exposure is not None:
            self._exposure[after.ticker] = change.after.holdings.exposure
        self._stats = update_stats(self._stats, change, lambda moment: self._calendar.day_of(moment).name)
        self._log.show(after)
        if after.is_external:
            return
        day = self._day(after.trading_day)
        day.notional += change.taken_from_day
        day.filled_notional += after.filled_notional - before.filled_notional
        day.filled_orders += change.first_fill(lambda moment: self._calendar.day_of(moment).name)
        if change.released_count:
            day.orders[after.ticker] -= 1
            self._give_back(after)
        elif change.retaken_count:
            day.orders[after.ticker] = day.orders.get(after.ticker, 0) + 1
            self._take_again(after)

    def _give_back(self, order: Order) -> None:
        """The cooldown as it was before an order that turned out never to have worked."""
        at, before = self._cooldown.get(order.client_order_id, (None, None))
        if at is None or self._last_trade.get(order.ticker) != at:
            return
        if before is None:
            del self._last_trade[order.ticker]
        else:
            self._last_trade[order.ticker] = before

    def _take_again(self, order: Order) -> None:
        at, last = self._cooldown.get(order.client_order_id, (None, None))[0], self._last_trade.get(order.ticker)
        if at is not None and (last is None or last < at):
            self._last_trade[order.ticker] = at

    def adopt(self, order: Order) -> None:
        self._bundles[order.client_order_id] = Bundle(order, {}, None)
        self._open.keep(order)
        if not order.is_external:
            counted = self._day(order.trading_day).orders
            counted[order.ticker] = counted.get(order.ticker, 0) + 1
            self._last_trade[order.ticker] = order.created_at

    def refused(self, order: Order) -> None:
        self._log.show(order)

    @property
    def trades_log(self) -> list[dict[str, Any]]:
        """As in Redis."""
        return self._log.entries()

    def add_equity(self, time: datetime, equity: str) -> None:
        self.equity.append((time, equity))
