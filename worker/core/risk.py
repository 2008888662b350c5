"""The risk rules: pure functions ``(intent, book, limits, market) -> Denial | None``, each with a code and its numbers.

Missing data denies, NaN denies, there is no way around. Exits (reducing orders, judged by size) pass what protects
against new exposure, never the switch. The counted limits are judged again, atomically, by the gate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec
from msgspec.structs import force_setattr

from shared.documents import RiskSettings
from worker.core.limits import Limits, limits_of
from worker.core.types import Effect, Instrument, LastPrice, OrderType, Side

FUTURE_TOLERANCE = timedelta(seconds=5)
EARLIEST = -FUTURE_TOLERANCE
NO_TIME = timedelta(0)
_ENTRY, _BUY, _SELL = Effect.ENTRY, Side.BUY, Side.SELL
"""Looking a member up in its class takes longer than the whole question."""
ZERO, NAN = Decimal(0), Decimal("NaN")
HELD_BY_OTHERS = "held or worked by someone else (EXTERNAL)"


class Denial(msgspec.Struct, frozen=True, gc=False):
    """Why an order is not sent: a code and the numbers."""

    code: str
    detail: str

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class Intent(msgspec.Struct, frozen=True, gc=False):
    """An order that the bot would like to send.

    ``price`` (the limit, else the reference) and ``notional`` follow from the rest, whatever they are given as; they
    are computed once, since five rules ask for them.
    """

    ticker: str
    side: Side
    effect: Effect
    qty: Decimal
    ref_price: Decimal
    type: OrderType = OrderType.MARKET
    limit_price: Decimal | None = None
    reason: str = ""
    price: Decimal = ZERO
    notional: Decimal = ZERO

    def __post_init__(self) -> None:
        price = self.limit_price if self.limit_price is not None else self.ref_price
        force_setattr(self, "price", price)
        try:
            force_setattr(self, "notional", self.qty * price)
        except ArithmeticError:  # no numbers, as ``sane`` will say
            force_setattr(self, "notional", NAN)


class DayCounters(msgspec.Struct, frozen=True, gc=False):
    """The trading day so far: notional in quote currency, orders in all and per ticker."""

    notional: Decimal = Decimal(0)
    orders_per_ticker: Mapping[str, int] = msgspec.field(default_factory=dict)


class BookView(msgspec.Struct, frozen=True, gc=False):
    """What the account holds and has working, as the rules see it; None where it is not known, which denies."""

    held: Mapping[str, Decimal]
    working: frozenset[str]
    frozen: Mapping[str, str]
    selling: Mapping[str, Decimal]
    open_tickers: AbstractSet[str]
    day: DayCounters
    last_trade: Mapping[str, datetime]
    run_orders: int
    day_pnl: Decimal | None
    buying_power: Decimal | None
    enabled: bool
    reducing: str = ""


class MarketView(msgspec.Struct, frozen=True, gc=False):
    """What the market looks like for one ticker."""

    now: datetime
    is_open: bool | None
    last: LastPrice | None
    instrument: Instrument | None


Rule = Callable[[Intent, BookView, Limits, MarketView], Denial | None]


def _money(value: Decimal) -> str:
    return f"{value:,.2f}"


def switch(intent: Intent, book: BookView, limits: Limits, market: MarketView) -> Denial | None:
    if not book.enabled:
        return Denial("SWITCHED_OFF", "trading_settings.enabled is not true")
    if limits.emergency_stop_active:
        return Denial("EMERGENCY_STOP", "risk_settings.emergency_stop_active is true")
    return None


def sane(intent: Intent, book: BookView, limits: Limits, market: MarketView) -> Denial | None:
    qty, price, ref_price = intent.qty, intent.price, intent.ref_price
    if not (qty.is_finite() and price.is_finite() and ref_price.is_finite()):
        return _insane(intent)
    return None if qty > ZERO and price > ZERO and ref_price > ZERO else _insane(intent)


def _insane(intent: Intent) -> Denial:
    named = (("qty", intent.qty), ("price", intent.price), ("ref_price", intent.ref_price))
    name, value = next((name, value) for name, value in named if not value.is_finite() or value <= 0)
    return Denial("BAD_NUMBER", f"{name} is {value}, it must be finite and positive")


def reduce_only(intent: Intent, book: BookView, limits: Limits, market: MarketView) -> Denial | None:
    if intent.effect is _ENTRY and limits.reduce_only:
        return Denial("REDUCE_ONLY", "risk_settings.reduce_only is true: exits only")
    if intent.effect is _ENTRY and book.reducing:
        return Denial("REDUCING", book.reducing)
    return None


def exit_within_holding(intent: Intent, book: BookView, limits: Limits, market: MarketView) -> Denial | None:
    if intent.effect is _ENTRY:
        return None
    held = book.held.get(intent.ticker, ZERO)
    free = held - book.selling.get(intent.ticker, ZERO)
    if intent.side is not _SELL or intent.qty > free:
        return Denial("EXCEEDS_HOLDING", f"{intent.side} {intent.qty} {intent.ticker} > {free} held and free")
    return None


def market_hours(intent: Intent, book: BookView, limits: Limits, market: MarketView) -> Denial | None:
    if market.is_open is None:
        return Denial("MARKET_UNKNOWN", "the venue's clock is not known")
    if not market.is_open:
        return Denial("MARKET_CLOSED", "the venue's session is closed")
    return None


def stale_price(intent: Intent, book: BookView, limits: Limits, market: MarketView) -> Denial | None:
    if market.last is None:
        return Denial("NO_PRICE", f"no last price for {intent.ticker}")
    age = market.now - market.last.time
    if age > limits.stale:
        return Denial("STALE_PRICE", f"{age.total_seconds():.1f} s old > {limits.stale_data_seconds} s")
    if age < EARLIEST:
        return Denial("STALE_PRICE", f"dated {-age.total_seconds():.1f} s in the future")
    return None


def price_collar(intent: Intent, book: BookView, limits: Limits, market: MarketView) -> Denial | None:
    price = None if market.last is None else market.last.price
    if price is None or not price.is_finite() or price <= ZERO:
        return Denial("NO_PRICE", f"no last price for {intent.ticker}")
    gap, limit = abs(intent.ref_price - price), intent.limit_price
    if limit is not None:
        beyond = limit - price if intent.side is _BUY else price - limit
        if beyond > gap:
            gap = beyond
    away = gap / price
    if away > limits.price_collar_pct:
        return Denial("PRICE_COLLAR", f"{away:.4f} from the last trade > {limits.price_collar_pct}")
    return None


def instrument(intent: Intent, book: BookView, limits: Limits, market: MarketView) -> Denial | None:
    known = market.instrument
    if known is None or not known.tradable:
        return Denial("NOT_TRADABLE", f"{intent.ticker} is not tradable at the venue")
    if intent.qty % known.lot_size:
        return Denial("LOT_SIZE", f"{intent.qty} is no multiple of {known.lot_size}")
    if intent.limit_price is not None and intent.limit_price % known.tick_size:
        return Denial("TICK_SIZE", f"{intent.limit_price} is no multiple of {known.tick_size}")
    if intent.effect is _ENTRY and intent.notional < known.min_notional:
        return Denial("MIN_NOTIONAL", f"{_money(intent.notional)} < {_money(known.min_notional)}")
    return None


def frozen_symbol(intent: Intent, book: BookView, limits: Limits, market: MarketView) -> Denial | None:
    why = book.frozen.get(intent.ticker)
    if why is None or (why in {"ABSENT", HELD_BY_OTHERS} and intent.effect is not _ENTRY):
        return None
    return Denial("SYMBOL_FROZEN", f"an order in {intent.ticker} is {why}")


def duplicate_working(intent: Intent, book: BookView, limits: Limits, market: MarketView) -> Denial | None:
    if intent.effect is _ENTRY and intent.ticker in book.working:
        return Denial("WORKING_ORDER", f"{intent.ticker} has a working order")
    if intent.effect is not _ENTRY and book.selling.get(intent.ticker):
        return Denial("WORKING_ORDER", f"{intent.ticker} is being sold already")
    return None


def order_notional(intent: Intent, book: BookView, limits: Limits, market: MarketView) -> Denial | None:
    if intent.effect is _ENTRY and limits.max_order_notional and intent.notional > limits.max_order_notional:
        return Denial("ORDER_NOTIONAL", f"{_money(intent.notional)} > {_money(limits.max_order_notional)}")
    return None


def daily_notional(intent: Intent, book: BookView, limits: Limits, market: MarketView) -> Denial | None:
    if intent.effect is not _ENTRY or not limits.daily_notional_cap:
        return None
    if book.day.notional + intent.notional > limits.daily_notional_cap:
        return Denial(
            "DAILY_NOTIONAL_CAP",
            f"{_money(book.day.notional)} + {_money(intent.notional)} > {_money(limits.daily_notional_cap)}",
        )
    return None


def orders_per_ticker(intent: Intent, book: BookView, limits: Limits, market: MarketView) -> Denial | None:
    done = book.day.orders_per_ticker.get(intent.ticker, 0)
    if intent.effect is _ENTRY and done >= limits.max_position_per_ticker:
        return Denial("ORDERS_PER_TICKER", f"{done} + 1 > {limits.max_position_per_ticker} today in {intent.ticker}")
    return None


def cooldown(intent: Intent, book: BookView, limits: Limits, market: MarketView) -> Denial | None:
    last = book.last_trade.get(intent.ticker)
    if intent.effect is not _ENTRY or last is None:
        return None
    wait = limits.cooldown - (market.now - last)
    if wait > NO_TIME:
        return Denial("COOLDOWN", f"{intent.ticker} for another {wait.total_seconds():.0f} s")
    return None


def trades_per_run(intent: Intent, book: BookView, limits: Limits, market: MarketView) -> Denial | None:
    if book.run_orders >= limits.max_trades_per_run:
        return Denial("TRADES_PER_RUN", f"{book.run_orders} + 1 > {limits.max_trades_per_run}")
    return None


def open_positions(intent: Intent, book: BookView, limits: Limits, market: MarketView) -> Denial | None:
    if intent.effect is not _ENTRY or intent.ticker in book.open_tickers:
        return None
    if len(book.open_tickers) >= limits.max_open_positions:
        return Denial("OPEN_POSITIONS", f"{len(book.open_tickers)} + 1 > {limits.max_open_positions}")
    return None


def daily_loss(intent: Intent, book: BookView, limits: Limits, market: MarketView) -> Denial | None:
    if intent.effect is not _ENTRY or not limits.max_daily_loss_usd:
        return None
    if book.day_pnl is None or not book.day_pnl.is_finite():
        return Denial("DAILY_LOSS", "today's profit is not known")
    if -book.day_pnl >= limits.max_daily_loss_usd:
        return Denial("DAILY_LOSS", f"{_money(-book.day_pnl)} lost today >= {_money(limits.max_daily_loss_usd)}")
    return None


def buying_power(intent: Intent, book: BookView, limits: Limits, market: MarketView) -> Denial | None:
    if intent.effect is not _ENTRY:
        return None
    if book.buying_power is None or not book.buying_power.is_finite():
        return Denial("BUYING_POWER", "the account's buying power is not known")
    if intent.notional > book.buying_power:
        return Denial("BUYING_POWER", f"{_money(intent.notional)} > {_money(book.buying_power)}")
    return None


RULES: tuple[Rule, ...] = (
    switch,
    sane,
    reduce_only,
    exit_within_holding,
    market_hours,
    instrument,
    stale_price,
    price_collar,
    frozen_symbol,
    duplicate_working,
    order_notional,
    daily_notional,
    orders_per_ticker,
    cooldown,
    trades_per_run,
    open_positions,
    daily_loss,
    buying_power,
)


def judge_intent(intent: Intent, book: BookView, settings: RiskSettings, market: MarketView) -> Denial | None:
    """The first rule that denies, in the order of ``RULES``; None when all pass. What cannot be computed denies."""
    limits = limits_of(settings)
    try:
        for rule in RULES:
            denial = rule(intent, book, limits, market)
            if denial is not None:
                return denial
    except ArithmeticError:
        return Denial("BAD_NUMBER", f"{intent.qty} at {intent.price} is beyond what can be computed")
    return None
