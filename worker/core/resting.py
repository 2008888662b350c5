"""Orders at rest at the simulated venue: which prices reach them, and what all of them together take.

Sums and reach are kept as orders come and go: neither an order nor a price looks at those that it does not concern.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from worker.core.types import OrderRequest, OrderType, Side, TimeInForce, VenueOrder

ZERO = Decimal(0)
_LOWEST, _HIGHEST = Decimal("-Infinity"), Decimal("Infinity")


@dataclass(slots=True)
class Resting:
    """One order at rest."""

    order: VenueOrder
    request: OrderRequest
    effective_at: datetime
    triggered: bool = False
    """The stop of a pair has been met: the rest of it is a market order."""

    @property
    def open_qty(self) -> Decimal:
        return self.order.qty - self.order.filled_qty

    @property
    def reach(self) -> tuple[Decimal, Decimal]:
        """It may fill at a price that is at most the first, or at least the second."""
        request = self.request
        if self.triggered or request.type is OrderType.MARKET:
            return _HIGHEST, _LOWEST
        limit = request.limit_price or ZERO
        if self.order.side is Side.BUY:
            return limit, _HIGHEST
        return (_LOWEST if request.stop_price is None else request.stop_price), limit

    def takes(self, price: Decimal) -> bool:
        """Whether it is a market order at this price, which a stop becomes when it is met."""
        stop = self.request.stop_price
        self.triggered = self.triggered or (stop is not None and price <= stop)
        return self.triggered or self.request.type is OrderType.MARKET


@dataclass(slots=True)
class Queue:
    """Those of one ticker, in the order in which they came."""

    items: dict[str, Resting] = field(default_factory=dict)
    selling: Decimal = ZERO
    low: Decimal = _LOWEST
    high: Decimal = _HIGHEST
    aimed: bool = True

    def aim(self, item: Resting) -> None:
        low, high = item.reach
        self.low, self.high = max(self.low, low), min(self.high, high)

    def aim_anew(self) -> None:
        self.low, self.high, self.aimed = _LOWEST, _HIGHEST, True
        for item in self.items.values():
            self.aim(item)


class RestingOrders:
    """All of a venue's."""

    def __init__(self) -> None:
        self.by_ticker: dict[str, Queue] = {}
        """Tickers in which something rests; for reading."""
        self._market_buys: dict[str, Resting] = {}
        self._limit_buys, self._bidding = 0, ZERO

    def add(self, order: VenueOrder, request: OrderRequest, effective_at: datetime) -> None:
        queue = self.by_ticker.setdefault(order.ticker, Queue())
        item = Resting(order, request, effective_at, triggered=bool(order.stop_filled_qty))
        queue.items[order.venue_order_id] = item
        queue.aim(item)
        self._count(queue, item, 1)

    def changed(self, item: Resting, order: VenueOrder) -> None:
        """A part of it has filled."""
        queue = self.by_ticker[order.ticker]
        self._count(queue, item, -1)
        item.order = order
        self._count(queue, item, 1)

    def remove(self, order: VenueOrder) -> None:
        """Nothing where it does not rest."""
        queue = self.by_ticker.get(order.ticker)
        item = None if queue is None else queue.items.pop(order.venue_order_id, None)
        if queue is None or item is None:
            return
        self._count(queue, item, -1)
        queue.aimed = False
        if not queue.items:
            del self.by_ticker[order.ticker]

    def _count(self, queue: Queue, item: Resting, sign: int) -> None:
        if item.order.side is Side.SELL:
            queue.selling += sign * item.open_qty
        elif item.request.limit_price is None:
            if sign > 0:
                self._market_buys[item.order.venue_order_id] = item
            else:
                del self._market_buys[item.order.venue_order_id]
        else:
            self._limit_buys += sign
            left = self._bidding + sign * item.open_qty * item.request.limit_price
            self._bidding = left if self._limit_buys else ZERO

    def __iter__(self) -> Iterator[VenueOrder]:
        return (item.order for queue in self.by_ticker.values() for item in queue.items.values())

    def tickers(self) -> list[str]:
        """Those in which something rests."""
        return list(self.by_ticker)

    def reached(self, ticker: str, low: Decimal, high: Decimal) -> Sequence[Resting]:
        """All of a ticker where prices from ``low`` to ``high`` may fill one of them, else none."""
        queue = self.by_ticker.get(ticker)
        if queue is None:
            return ()
        if not queue.aimed:
            queue.aim_anew()
        if low > queue.low and high < queue.high:
            return ()
        queue.aimed = False  # what fills or becomes a market order now is reached elsewhere from now on
        return list(queue.items.values())

    def selling(self, ticker: str) -> Decimal:
        """What resting sells of a ticker have still to sell."""
        queue = self.by_ticker.get(ticker)
        return ZERO if queue is None else queue.selling

    @property
    def bidding(self) -> Decimal:
        """What resting limit buys may still cost."""
        return self._bidding

    @property
    def market_buys(self) -> list[Resting]:
        """Those whose cost is a question of the price."""
        return list(self._market_buys.values())


def request_of(order: VenueOrder) -> OrderRequest:
    """What an order read back from a ledger was asked for with; it rests until it is cancelled."""
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
