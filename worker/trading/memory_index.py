"""What the in-memory book keeps up with every change, so that no question looks through all of it."""

from __future__ import annotations

from typing import Any

from shared.keys import TRADES_LOG_LENGTH
from worker.core.ledger import log_entry, own_part
from worker.core.orders import Order
from worker.core.positions import Position
from worker.core.types import Effect


class OpenIndex:
    """Orders that may still work and positions that are open, by id; ``exposed`` counts, by ticker, the positions and
    the entries at work."""

    def __init__(self) -> None:
        self.orders: dict[str, Order] = {}
        self.positions: dict[str, Position] = {}
        self.exposed: dict[str, int] = {}

    def keep(self, order: Order) -> None:
        """An order as it is now."""
        was = self.orders.get(order.client_order_id)
        if was is not None and was.effect is Effect.ENTRY:
            self._expose(was.ticker, -1)
        if order.is_final:
            self.orders.pop(order.client_order_id, None)
            return
        self.orders[order.client_order_id] = order
        if order.effect is Effect.ENTRY:
            self._expose(order.ticker, 1)

    def hold(self, position: Position) -> None:
        """A position as it is now."""
        if position.id in self.positions:
            self._expose(position.symbol, -1)
        if position.is_closed:
            self.positions.pop(position.id, None)
            return
        self.positions[position.id] = position
        self._expose(position.symbol, 1)

    def _expose(self, ticker: str, change: int) -> None:
        count = self.exposed.get(ticker, 0) + change
        if count:
            self.exposed[ticker] = count
        else:
            del self.exposed[ticker]


class TradesLog:
    """The orders of ``trades_log``; they become entries where somebody asks. See ``ledger.update_log``."""

    def __init__(self) -> None:
        self._orders: dict[str, Order] = {}

    def show(self, order: Order) -> None:
        """Its entry anew where it stands, else as the newest."""
        if order.is_external and not own_part(order)[0]:
            return
        self._orders[order.client_order_id] = order
        if len(self._orders) > TRADES_LOG_LENGTH:
            del self._orders[next(iter(self._orders))]

    def entries(self) -> list[dict[str, Any]]:
        return [log_entry(order) for order in self._orders.values()]
