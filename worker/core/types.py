"""The words of trading: frozen values that cross every boundary. Money, prices and quantities are Decimal."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

import msgspec


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        """+1 for a buy, -1 for a sell."""
        return 1 if self is Side.BUY else -1


class Effect(StrEnum):
    """What an order does to the exposure: an entry opens or grows it, an exit only reduces it."""

    ENTRY = "entry"
    EXIT = "exit"


class ExitReason(StrEnum):
    """Why a position was closed."""

    TP_HIT = "TP_HIT"
    SL_HIT = "SL_HIT"
    TIMEOUT = "TIMEOUT"
    MANUAL = "MANUAL"
    LIQUIDATION = "LIQUIDATION"
    STOP = "STOP"


def is_base(currency: str, ticker: str) -> bool:
    """Whether a currency is what the ticker trades: BTC of ``BTC/USD`` and ``BTCUSDC``, not what it is paid with."""
    base, slash, _ = ticker.partition("/")
    return currency == base if slash else ticker.startswith(currency)


class OrderType(StrEnum):
    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"
    STOP_LIMIT = "stop_limit"


class TimeInForce(StrEnum):
    DAY = "day"
    GTC = "gtc"
    IOC = "ioc"
    FOK = "fok"


class OrderState(StrEnum):
    """States of the order table in ``worker.core.orders``."""

    INTENT = "INTENT"
    SUBMITTED = "SUBMITTED"
    ACCEPTED = "ACCEPTED"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    PENDING_CANCEL = "PENDING_CANCEL"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    REPLACED = "REPLACED"
    NOT_SENT = "NOT_SENT"
    UNKNOWN = "UNKNOWN"
    ABSENT = "ABSENT"


class OrderRequest(msgspec.Struct, frozen=True, gc=False):
    """What is sent to a venue, once, under a client order id of ours (at most 32 characters).

    ``post_only`` asks for a limit that never takes: where the venue knows that, it refuses one that would. A limit sell
    with a ``stop_price`` is a protective pair, one order of which the venue fills either half: the limit, or below
    ``stop_price`` a market order for what the limit has not sold. Only for instruments that hold one.
    """

    client_order_id: str
    ticker: str
    side: Side
    qty: Decimal
    type: OrderType = OrderType.MARKET
    time_in_force: TimeInForce = TimeInForce.DAY
    limit_price: Decimal | None = None
    reduce_only: bool = False
    post_only: bool = False
    stop_price: Decimal | None = None


class VenueOrder(msgspec.Struct, frozen=True, gc=False):
    """An order as the venue tells it. ``filled_qty`` and ``avg_fill_price`` are the venue's cumulative figures.

    ``liquidation``: the venue itself forced it. ``replaces``: the venue's id of the order in whose place it stands.
    A protective pair is one order, whatever the venue makes of it: ``stop_price`` is that of its stop where one stands,
    and ``stop_filled_qty`` the part of ``filled_qty`` that the stop sold.
    """

    venue_order_id: str
    client_order_id: str | None
    ticker: str
    side: Side
    qty: Decimal
    state: OrderState
    type: OrderType = OrderType.MARKET
    filled_qty: Decimal = Decimal(0)
    avg_fill_price: Decimal | None = None
    limit_price: Decimal | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    reason: str = ""
    liquidation: bool = False
    replaces: str = ""
    stop_price: Decimal | None = None
    stop_filled_qty: Decimal = Decimal(0)


class Execution(msgspec.Struct, frozen=True, gc=False):
    """One fill; ``derived`` marks one known only by a REST figure.

    ``fee`` is in ``fee_currency``: empty is the quote currency, and the ticker's base currency means that the fee was
    taken from what the fill moved, so that a buy of 1 leaves less than 1. A fee in a third currency is converted by the
    adapter.
    """

    execution_id: str
    venue_order_id: str
    client_order_id: str | None
    ticker: str
    side: Side
    qty: Decimal
    price: Decimal
    fee: Decimal
    time: datetime
    derived: bool = False
    fee_currency: str = ""

    @property
    def base_fee(self) -> Decimal:
        """The part of the quantity that the fee took."""
        return self.fee if self.fee_currency and is_base(self.fee_currency, self.ticker) else Decimal(0)

    @property
    def quote_fee(self) -> Decimal:
        """The fee that was paid in money."""
        return self.fee - self.base_fee


class OrderUpdate(msgspec.Struct, frozen=True, gc=False):
    """A pushed change of an order, with the execution that caused it where there was one."""

    order: VenueOrder
    execution: Execution | None = None


class VenuePosition(msgspec.Struct, frozen=True, gc=False):
    """What the venue says is held: ``qty`` is positive, the side says which way."""

    ticker: str
    qty: Decimal
    side: str
    avg_entry_price: Decimal
    market_value: Decimal
    unrealized_pl: Decimal

    @property
    def signed_qty(self) -> Decimal:
        return self.qty if self.side == "long" else -self.qty


class AccountState(msgspec.Struct, frozen=True, gc=False):
    """Money at the venue, in the account's currency."""

    equity: Decimal
    cash: Decimal
    buying_power: Decimal
    currency: str = "USD"
    trading_blocked: bool = False


class MarketClock(msgspec.Struct, frozen=True, gc=False):
    """The venue's own clock. A venue without sessions is always open and has no next times."""

    now: datetime
    is_open: bool
    next_open: datetime | None = None
    next_close: datetime | None = None


class Instrument(msgspec.Struct, frozen=True, gc=False):
    """What the venue wants of an order in this ticker. ``protective_pair``: it holds a take-profit and a stop-loss as
    one order, for any whole number of lots."""

    ticker: str
    lot_size: Decimal = Decimal(1)
    tick_size: Decimal = Decimal("0.01")
    min_notional: Decimal = Decimal(0)
    tradable: bool = True
    protective_pair: bool = False
    min_qty: Decimal = Decimal(0)

    @property
    def least_qty(self) -> Decimal:
        """The least that can be sold."""
        return max(self.lot_size, self.min_qty)


class LastPrice(msgspec.Struct, frozen=True, gc=False):
    """The last trade and when it happened at the venue."""

    price: Decimal
    time: datetime


class Bar(msgspec.Struct, frozen=True, gc=False):
    """One minute ``[start, start + 60 s)``. Floats: bars feed models and marks, never money."""

    start: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """Predicted change of a ticker over the horizon, as a fraction (0.05 is 5 %)."""

    change_pct: float
    confidence: float | None
    time: datetime
    source: str
