"""The simulated venue's matching engine: pure, exact, and the same from the same inputs.

Live-like markets feed it prices (``on_price``), replay feeds it bars (``on_bar``): on bars an order decided at a bar's
close fills at the next bar's open, never before the decision, with slippage that stays within that bar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import msgspec
from msgspec.structs import replace

from worker.core.types import (
    Bar,
    Execution,
    Instrument,
    OrderRequest,
    OrderState,
    OrderType,
    OrderUpdate,
    Side,
    TimeInForce,
    VenueOrder,
)

ZERO = Decimal(0)
S = OrderState
_QUOTE_PLACES, _BASE_PLACES = Decimal("0.000001"), Decimal("0.000000001")
DUPLICATE_ID = "duplicate_client_order_id"
WORKING = frozenset({S.ACCEPTED, S.PARTIALLY_FILLED})


class OrderRefused(Exception):
    """A structured refusal; ``code`` is for programs, the text for people."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


class EngineOptions(msgspec.Struct, frozen=True, gc=False):
    """How the venue behaves. Rates are fractions of the notional; ``partial_chance`` is per match.

    ``fees_in_base``: the fee of a pair (``BTC/USD``) is taken from what is credited, of a buy from the quantity.
    """

    fee_rate: Decimal = Decimal("0.0002")
    slippage: Decimal = Decimal("0.0002")
    latency: timedelta = timedelta(0)
    partial_chance: float = 0.0
    fees_in_base: bool = False


@dataclass(slots=True)
class Holding:
    """What is held of one ticker and what it cost."""

    qty: Decimal = ZERO
    cost: Decimal = ZERO

    @property
    def average(self) -> Decimal:
        return self.cost / self.qty if self.qty else ZERO


@dataclass(slots=True)
class _Working:
    order: VenueOrder
    request: OrderRequest
    effective_at: datetime
    triggered: bool = False
    """The stop of a pair has been met: the rest of it is a market order."""

    def takes(self, price: Decimal) -> bool:
        """Whether it is a market order at this price, which a stop becomes when it is met."""
        stop = self.request.stop_price
        self.triggered = self.triggered or (stop is not None and price <= stop)
        return self.triggered or self.request.type is OrderType.MARKET


@dataclass(slots=True)
class Book:
    """The venue's whole state, which its ledger keeps."""

    cash: Decimal
    holdings: dict[str, Holding] = field(default_factory=dict)
    orders: dict[str, VenueOrder] = field(default_factory=dict)
    executions: list[Execution] = field(default_factory=list)


class MatchingEngine:
    """Orders in, executions out. Long only: more than is held cannot be sold."""

    def __init__(
        self,
        book: Book,
        instrument: Callable[[str], Instrument | None],
        options: EngineOptions,
        uniform: Callable[[], float],
    ) -> None:
        self.book, self._instrument, self._options, self._uniform = book, instrument, options, uniform
        self._prices: dict[str, Decimal | float] = {}
        self._by_client_id = {o.client_order_id: n for n, o in book.orders.items() if o.client_order_id}
        self._working: dict[str, dict[str, _Working]] = {}
        for order in book.orders.values():
            if order.state in WORKING and order.created_at is not None:
                self._rest(order, _request_of(order), order.created_at)

    # -- orders ---------------------------------------------------------------------------------------------------

    def place(self, request: OrderRequest, now: datetime) -> OrderUpdate:
        """Accept an order or raise OrderRefused; nothing fills in here."""
        if request.client_order_id in self._by_client_id:
            raise OrderRefused(DUPLICATE_ID, f"client order id {request.client_order_id} exists")
        self._check(request)
        order = VenueOrder(
            venue_order_id=f"sim-{len(self.book.orders) + 1}",
            client_order_id=request.client_order_id,
            ticker=request.ticker,
            side=request.side,
            qty=request.qty,
            state=S.ACCEPTED,
            type=request.type,
            limit_price=request.limit_price,
            created_at=now,
            updated_at=now,
            stop_price=request.stop_price,
        )
        self.book.orders[order.venue_order_id] = order
        self._by_client_id[request.client_order_id] = order.venue_order_id
        self._rest(order, request, now)
        return OrderUpdate(order)

    def _rest(self, order: VenueOrder, request: OrderRequest, now: datetime) -> None:
        waiting = self._working.setdefault(order.ticker, {})
        stopped = bool(order.stop_filled_qty)
        waiting[order.venue_order_id] = _Working(order, request, now + self._options.latency, triggered=stopped)

    def _check(self, request: OrderRequest) -> None:
        instrument = self._instrument(request.ticker)
        if instrument is None or not instrument.tradable:
            raise OrderRefused("unknown_ticker", f"{request.ticker} is not traded here")
        if not request.qty.is_finite() or request.qty <= 0 or request.qty % instrument.lot_size:
            raise OrderRefused(
                "bad_quantity", f"quantity {request.qty} is no positive multiple of {instrument.lot_size}"
            )
        if request.type not in {OrderType.MARKET, OrderType.LIMIT}:
            raise OrderRefused("bad_type", f"{request.type} orders are not traded here")
        if (request.type is OrderType.LIMIT) != (request.limit_price is not None and request.limit_price > 0):
            raise OrderRefused("bad_price", "a limit order, and only that, has a positive limit price")
        if request.stop_price is not None:
            _check_pair(request, instrument)
        if request.post_only and self._would_take(request):
            raise OrderRefused("would_take", f"{request.limit_price} would take, and the order is post-only")
        if request.side is Side.SELL:
            free = self.holding(request.ticker).qty - self._selling(request.ticker)
            if request.qty > free:
                raise OrderRefused("insufficient_quantity", f"{request.qty} {request.ticker} asked, {free} free")
        elif self._cost(request) > self.buying_power():
            raise OrderRefused("insufficient_buying_power", f"{self._cost(request):.2f} > {self.buying_power():.2f}")

    def _would_take(self, request: OrderRequest) -> bool:
        """Whether a limit lies beyond the last price; at it, it rests."""
        price = self.price(request.ticker)
        return price is not None and ((request.limit_price or ZERO) - price) * request.side.sign > 0

    def _cost(self, request: OrderRequest) -> Decimal:
        price = request.limit_price or self.price(request.ticker) or ZERO
        return request.qty * price * (1 + self._options.fee_rate)

    def _selling(self, ticker: str) -> Decimal:
        waiting = self._working.get(ticker, {}).values()
        return sum((w.order.qty - w.order.filled_qty for w in waiting if w.order.side is Side.SELL), ZERO)

    def cancel(self, venue_order_id: str, now: datetime) -> OrderUpdate | None:
        """Cancel what still works; None where the order is final. Raises KeyError for an unknown id."""
        order = self.book.orders[venue_order_id]
        if order.state not in WORKING:
            return None
        return OrderUpdate(self._finish(order, S.CANCELED, now))

    def _finish(self, order: VenueOrder, state: OrderState, now: datetime) -> VenueOrder:
        done = replace(order, state=state, updated_at=now)
        self.book.orders[order.venue_order_id] = done
        self._working.get(order.ticker, {}).pop(order.venue_order_id, None)
        return done

    # -- the market -----------------------------------------------------------------------------------------------

    def on_price(
        self, ticker: str, price: Decimal, now: datetime, within: tuple[Decimal, Decimal] | None = None
    ) -> list[OrderUpdate]:
        """A trade at ``price``: market orders and stops that it reaches take it with slippage, limits that it reaches
        fill at their price; where the trade is made from a bar, ``within`` its low and high.
        """
        self._prices[ticker] = price
        waiting = self._working.get(ticker)
        if not waiting:
            return []
        updates: list[OrderUpdate] = []
        for item in list(waiting.values()):
            if item.effective_at > now:
                continue
            at = self._price_now(item, price)
            if at is not None and within is not None:
                at = min(max(at, within[0]), within[1])
            if at is not None:
                updates += self._fill(item, at, now)
        return updates

    def mark(self, ticker: str, price: float) -> None:
        """The last price, where no working order can have been reached by it."""
        self._prices[ticker] = price

    def on_bar(self, ticker: str, bar: Bar) -> list[OrderUpdate]:
        """One bar: what was placed by its start fills within it."""
        waiting = self._working.get(ticker)
        updates: list[OrderUpdate] = []
        if waiting:
            for item in list(waiting.values()):
                if item.effective_at <= bar.start:
                    at = self._price_in(item, bar)
                    if at is not None:
                        updates += self._fill(item, at, bar.start)
        self._prices[ticker] = bar.close  # made exact when it is asked for: most bars are not
        return updates

    def _price_now(self, item: _Working, price: Decimal) -> Decimal | None:
        if item.takes(price):
            return self._slipped(item.order, price)
        limit = item.request.limit_price or ZERO
        crossed = price <= limit if item.order.side is Side.BUY else price >= limit
        return limit if crossed else None

    def _price_in(self, item: _Working, bar: Bar) -> Decimal | None:
        opened, low, high = exact(bar.open), exact(bar.low), exact(bar.high)
        at_open = item.takes(opened)
        if item.takes(low):
            stop = item.request.stop_price
            met = opened if at_open or stop is None else stop
            return min(max(self._slipped(item.order, met), low), high)
        limit = item.request.limit_price or ZERO
        if item.order.side is Side.BUY:
            return min(limit, opened) if low <= limit else None
        return max(limit, opened) if high >= limit else None

    def _slipped(self, order: VenueOrder, price: Decimal) -> Decimal:
        """A little worse, rounded to the tick against the taker."""
        instrument = self._instrument(order.ticker)
        tick = instrument.tick_size if instrument is not None else Decimal("0.01")
        rounding = ROUND_CEILING if order.side is Side.BUY else ROUND_FLOOR
        worse = price * (1 + self._options.slippage * order.side.sign)
        return (worse / tick).to_integral_value(rounding) * tick

    def _fill(self, item: _Working, price: Decimal, now: datetime) -> list[OrderUpdate]:
        order = item.order
        rest = order.qty - order.filled_qty
        qty = self._portion(order, rest)
        if order.side is Side.BUY and qty * price * (1 + self._options.fee_rate) > self.book.cash:
            return [OrderUpdate(self._finish(replace(order, reason="out of cash"), S.CANCELED, now))]
        fee, currency = self._fee(order, qty, price)
        execution = Execution(
            execution_id=f"sim-x{len(self.book.executions) + 1}",
            venue_order_id=order.venue_order_id,
            client_order_id=order.client_order_id,
            ticker=order.ticker,
            side=order.side,
            qty=qty,
            price=price,
            fee=fee,
            time=now,
            fee_currency=currency,
        )
        self._account(execution)
        filled = order.filled_qty + qty
        paid = (order.avg_fill_price or ZERO) * order.filled_qty + qty * price
        state = S.FILLED if filled == order.qty else S.PARTIALLY_FILLED
        changed = replace(
            order,
            state=state,
            filled_qty=filled,
            avg_fill_price=paid / filled,
            updated_at=now,
            stop_filled_qty=order.stop_filled_qty + qty if item.triggered else order.stop_filled_qty,
        )
        self.book.orders[order.venue_order_id] = changed
        item.order = changed
        if state is S.FILLED:
            self._working[order.ticker].pop(order.venue_order_id)
        elif item.request.time_in_force in {TimeInForce.IOC, TimeInForce.FOK}:
            return [OrderUpdate(changed, execution), OrderUpdate(self._finish(changed, S.CANCELED, now))]
        return [OrderUpdate(changed, execution)]

    def _fee(self, order: VenueOrder, qty: Decimal, price: Decimal) -> tuple[Decimal, str]:
        """The fee and its currency, empty for the quote currency."""
        base, slash, _ = order.ticker.partition("/")
        if self._options.fees_in_base and slash and order.side is Side.BUY:
            return (qty * self._options.fee_rate).quantize(_BASE_PLACES, ROUND_CEILING), base
        return (qty * price * self._options.fee_rate).quantize(_QUOTE_PLACES), ""

    def _portion(self, order: VenueOrder, rest: Decimal) -> Decimal:
        if not self._options.partial_chance or self._uniform() >= self._options.partial_chance:
            return rest
        instrument = self._instrument(order.ticker)
        lot = instrument.lot_size if instrument is not None else Decimal(1)
        return max((rest / 2 / lot).to_integral_value(ROUND_FLOOR) * lot, min(lot, rest))

    def _account(self, execution: Execution) -> None:
        self.book.executions.append(execution)
        notional = execution.qty * execution.price
        self.book.cash -= notional * execution.side.sign + execution.quote_fee
        holding = self.book.holdings.setdefault(execution.ticker, Holding())
        if execution.side is Side.BUY:
            credited = execution.qty - execution.base_fee
            holding.qty, holding.cost = holding.qty + credited, holding.cost + notional
        else:
            average = holding.average
            holding.qty -= execution.qty
            holding.cost = holding.cost - average * execution.qty if holding.qty else ZERO

    # -- questions ------------------------------------------------------------------------------------------------

    def order_of(self, client_order_id: str) -> VenueOrder | None:
        name = self._by_client_id.get(client_order_id)
        return None if name is None else self.book.orders[name]

    def working(self) -> list[VenueOrder]:
        return [item.order for waiting in self._working.values() for item in waiting.values()]

    def working_tickers(self) -> Iterable[str]:
        return [ticker for ticker, waiting in self._working.items() if waiting]

    def holding(self, ticker: str) -> Holding:
        return self.book.holdings.get(ticker, _NOTHING)

    def price(self, ticker: str) -> Decimal | None:
        found = self._prices.get(ticker)
        if isinstance(found, float):
            found = self._prices[ticker] = exact(found)
        return found

    def buying_power(self) -> Decimal:
        """Cash less what resting buys may take."""
        taken = ZERO
        for waiting in self._working.values():
            for item in waiting.values():
                if item.order.side is Side.BUY:
                    price = item.order.limit_price or self.price(item.order.ticker) or ZERO
                    taken += (item.order.qty - item.order.filled_qty) * price
        return self.book.cash - taken

    def positions_value(self) -> Decimal:
        """What is held, at the last prices."""
        total, prices = ZERO, self._prices
        for ticker, holding in self.book.holdings.items():
            qty = holding.qty
            if qty:
                price = prices.get(ticker)
                if isinstance(price, float):  # as ``price`` does: a replay asks at every bar
                    price = prices[ticker] = Decimal(repr(price))
                total += qty * (holding.average if price is None else price)
        return total


_NOTHING = Holding()


def exact(value: float) -> Decimal:
    """The decimal that a price in a file says: shortest text that is the same float."""
    return Decimal(repr(value))


def _check_pair(request: OrderRequest, instrument: Instrument) -> None:
    stop, limit = request.stop_price or ZERO, request.limit_price or ZERO
    if not instrument.protective_pair:
        raise OrderRefused("no_pairs", f"{request.ticker} holds no take-profit and stop-loss as one order")
    if request.side is not Side.SELL or request.type is not OrderType.LIMIT or not 0 < stop < limit:
        raise OrderRefused("bad_pair", f"a pair sells at a limit with a stop below it, not at {limit} with {stop}")


def _request_of(order: VenueOrder) -> OrderRequest:
    return OrderRequest(
        order.client_order_id or order.venue_order_id,
        order.ticker,
        order.side,
        order.qty,
        order.type,
        TimeInForce.GTC,
        order.limit_price,
        stop_price=order.stop_price,
    )
