"""The simulated venue's matching engine: pure, exact, and the same from the same inputs.

Live-like markets feed it prices (``on_price``), replay feeds it bars (``on_bar``): on bars an order decided at a bar's
close fills at the next bar's open, never before the decision, with slippage that stays within that bar.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal

from msgspec.structs import replace

from worker.core.fills import EngineOptions, FillTerms, exact
from worker.core.refusal import DUPLICATE_ID, OrderRefused, check_request
from worker.core.resting import Resting, RestingOrders, request_of
from worker.core.types import (
    Bar,
    Execution,
    Instrument,
    OrderRequest,
    OrderState,
    OrderUpdate,
    Side,
    TimeInForce,
    VenueOrder,
)
from worker.core.venue_book import Book, Holding

ZERO = Decimal(0)
S = OrderState
WORKING = frozenset({S.ACCEPTED, S.PARTIALLY_FILLED})
_NOTHING = Holding()


class MatchingEngine:
    """Orders in, executions out. Long only: more than is held cannot be sold."""

    def __init__(
        self,
        book: Book,
        instrument: Callable[[str], Instrument | None],
        options: EngineOptions,
        uniform: Callable[[], float],
    ) -> None:
        self.book, self._instrument, self._options = book, instrument, options
        self._terms = FillTerms(instrument, options, uniform)
        self._prices: dict[str, Decimal | float] = {}
        self._by_client_id = {o.client_order_id: n for n, o in book.orders.items() if o.client_order_id}
        self._resting = RestingOrders()
        self._queues = self._resting.by_ticker
        for order in book.orders.values():
            if order.state in WORKING and order.created_at is not None:
                self._rest(order, request_of(order), order.created_at)

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
        self._resting.add(order, request, now + self._options.latency)

    def _check(self, request: OrderRequest) -> None:
        check_request(request, self._instrument(request.ticker))
        if request.post_only and self._would_take(request):
            raise OrderRefused("would_take", f"{request.limit_price} would take, and the order is post-only")
        if request.side is Side.SELL:
            free = self.holding(request.ticker).qty - self._resting.selling(request.ticker)
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

    def cancel(self, venue_order_id: str, now: datetime) -> OrderUpdate | None:
        """Cancel what still works; None where the order is final. Raises KeyError for an unknown id."""
        order = self.book.orders[venue_order_id]
        if order.state not in WORKING:
            return None
        return OrderUpdate(self._finish(order, S.CANCELED, now))

    def _finish(self, order: VenueOrder, state: OrderState, now: datetime) -> VenueOrder:
        done = replace(order, state=state, updated_at=now)
        self.book.orders[order.venue_order_id] = done
        self._resting.remove(order)
        return done

    # -- the market -----------------------------------------------------------------------------------------------

    def on_price(
        self, ticker: str, price: Decimal, now: datetime, within: tuple[Decimal, Decimal] | None = None
    ) -> list[OrderUpdate]:
        """A trade at ``price``: market orders and stops that it reaches take it with slippage, limits that it reaches
        fill at their price; where the trade is made from a bar, ``within`` its low and high.
        """
        self._prices[ticker] = price
        updates: list[OrderUpdate] = []
        for item in self._resting.reached(ticker, price, price):
            if item.effective_at > now:
                continue
            at = self._terms.price_now(item, price)
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
        updates: list[OrderUpdate] = []
        if ticker in self._queues:
            for item in self._resting.reached(ticker, exact(bar.low), exact(bar.high)):
                if item.effective_at <= bar.start:
                    at = self._terms.price_in(item, bar)
                    if at is not None:
                        updates += self._fill(item, at, bar.start)
        self._prices[ticker] = bar.close  # made exact when it is asked for: most bars are not
        return updates

    def _fill(self, item: Resting, price: Decimal, now: datetime) -> list[OrderUpdate]:
        order = item.order
        rest = order.qty - order.filled_qty
        qty = self._terms.portion(order, rest)
        if order.side is Side.BUY and qty * price * (1 + self._options.fee_rate) > self.book.cash:
            return [OrderUpdate(self._finish(replace(order, reason="out of cash"), S.CANCELED, now))]
        fee, currency = self._terms.fee(order, qty, price)
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
        self.book.account(execution)
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
        if state is S.FILLED:
            self._resting.remove(changed)
            return [OrderUpdate(changed, execution)]
        self._resting.changed(item, changed)
        if item.request.time_in_force in {TimeInForce.IOC, TimeInForce.FOK}:
            return [OrderUpdate(changed, execution), OrderUpdate(self._finish(changed, S.CANCELED, now))]
        return [OrderUpdate(changed, execution)]

    # -- questions ------------------------------------------------------------------------------------------------

    def order_of(self, client_order_id: str) -> VenueOrder | None:
        name = self._by_client_id.get(client_order_id)
        return None if name is None else self.book.orders[name]

    def working(self) -> list[VenueOrder]:
        return list(self._resting)

    def working_tickers(self) -> list[str]:
        return self._resting.tickers()

    def holding(self, ticker: str) -> Holding:
        return self.book.holdings.get(ticker, _NOTHING)

    def price(self, ticker: str) -> Decimal | None:
        found = self._prices.get(ticker)
        if isinstance(found, float):
            found = self._prices[ticker] = exact(found)
        return found

    def buying_power(self) -> Decimal:
        """Cash less what resting buys may take."""
        taken = self._resting.bidding
        for item in self._resting.market_buys:
            taken += item.open_qty * (self.price(item.order.ticker) or ZERO)
        return self.book.cash - taken

    def positions_value(self) -> Decimal:
        """What is held, at the last prices."""
        total, prices = ZERO, self._prices
        for ticker, holding in self.book.holdings.items():
            qty = holding.qty
            if qty:
                price = prices.get(ticker)
                if isinstance(price, float):  # as ``price`` does: a replay asks at every bar
                    price = prices[ticker] = exact(price)
                total += qty * (holding.average if price is None else price)
        return total
