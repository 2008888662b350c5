"""Venues that lie and die in a fault trial, and what their own ledgers hold: the truth that a book is judged by."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from shared.clock import parse_rfc3339
from tests.servers.alpaca import OPEN, AlpacaServer
from tests.servers.exchange import ExchangeServer
from worker.core import ids

TICKERS = ("AAPL", "MSFT", "NVDA", "AMZN", "SPY")
ZERO = Decimal(0)


@dataclass(slots=True)
class Filled:
    """What an order has filled at the venue, exactly."""

    qty: Decimal = ZERO
    notional: Decimal = ZERO
    fees: Decimal = ZERO


@dataclass(slots=True)
class TrueOrder:
    """One order in the venue's ledger. ``is_open`` where it may still fill there."""

    client_order_id: str
    venue_order_id: str
    ticker: str
    side: str
    qty: Decimal
    is_open: bool
    created_at: datetime
    filled: Filled = field(default_factory=Filled)


@dataclass(frozen=True, slots=True)
class Truth:
    """The venue's ledger; ``posts`` counts what arrived by client order id, also what was refused; ``late_qty`` is
    what was filled after a cancel, which no limit of ours can prevent."""

    orders: list[TrueOrder]
    posts: dict[str, int]
    held: dict[str, Decimal]
    late_qty: Decimal = ZERO


class FaultyBroker(AlpacaServer):
    """Alpaca whose stream repeats, swaps and loses updates, and whose new orders may be visible late."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(tickers=TICKERS)
        self._rng = rng
        self.stream_faults = False
        self.hide_next = 0
        self.late_qty = Decimal(0)
        self._kept: list[tuple[str, dict[str, Any], dict[str, Any]]] = []

    async def _push(self, event: str, order: dict[str, Any], **extra: Any) -> None:
        if event == "new" and self.hide_next:
            self.hide_next -= 1
            self.hidden.add(order["client_order_id"])
        if not self.stream_faults:
            await super()._push(event, order, **extra)
            return
        self._kept.append((event, dict(order), extra))
        roll = self._rng.random()
        if roll < 0.25:
            return  # held back: lost, or told after what came later
        chosen = self._kept[-1:] if roll < 0.5 else self._rng.sample(self._kept[-8:], min(3, len(self._kept)))
        for kept_event, kept_order, kept_extra in chosen:
            await super()._push(kept_event, kept_order, **kept_extra)

    def be_honest(self) -> None:
        """No lies, nothing hidden, the stream as it should be."""
        self.hidden.clear()
        self.stream_faults = False
        self.lies.clear()

    def fill_some(self, rng: random.Random, *, also_canceled: bool = False) -> None:
        """Fill a part of some order that rests, or the rest of one that was cancelled a moment ago."""

        async def fill() -> None:
            states = OPEN | {"canceled"} if also_canceled else OPEN
            found = [o for o in self.orders.values() if o["status"] in states]
            found = [o for o in found[-6:] if Decimal(o["filled_qty"]) < Decimal(o["qty"])]
            for order in found[: rng.randint(1, 3)]:
                if order["status"] == "canceled":
                    if order["side"] == "sell" and self.held.get(order["symbol"], (ZERO, ZERO))[0] < 1:
                        continue
                    self.late_qty += 1
                price = Decimal(rng.randint(9990, 10010)) / 100
                await self._fill(order, Decimal(1), price)

        self._do(fill())

    def fill_all(self) -> None:
        """Let every resting order fill at the price of now."""

        async def fill() -> None:
            for order in [o for o in self.orders.values() if o["status"] in OPEN]:
                await self._match(order)

        self.fill_market_orders = True
        self._do(fill())

    def truth(self) -> Truth:
        """What the ledger holds; taken in the server's own thread, so that it is of one moment. The legs of an OCO
        order of ours are that order's: one intent made them."""

        async def read() -> Truth:
            ours = {p for p in self.legs if ids.is_ours(self.orders[p]["client_order_id"])}
            of = {leg: parent for parent in ours for leg in self.legs[parent]}
            works = {of.get(o["id"], o["id"]) for o in self.orders.values() if o["status"] in OPEN}
            orders = {
                o["id"]: TrueOrder(
                    o["client_order_id"],
                    o["id"],
                    o["symbol"],
                    o["side"],
                    Decimal(o["qty"]),
                    o["id"] in works,
                    parse_rfc3339(o["created_at"]),
                )
                for o in self.orders.values()
                if o["id"] not in of
            }
            for row in self.fills:
                filled = orders[of.get(row["order_id"], row["order_id"])].filled
                filled.qty += Decimal(row["qty"])
                filled.notional += Decimal(row["qty"]) * Decimal(row["price"])
            held = {ticker: qty for ticker, (qty, _) in self.held.items() if qty}
            return Truth(list(orders.values()), dict(self.posts), held, self.late_qty)

        return self._ask(read)

    def _ask(self, work: Callable[[], Any]) -> Any:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(30)


def exchange_truth(server: ExchangeServer) -> Truth:
    """The same of the simulated exchange."""
    book = server.engine.book
    orders = {
        o.venue_order_id: TrueOrder(
            o.client_order_id or "",
            o.venue_order_id,
            o.ticker,
            o.side.value,
            o.qty,
            not o.state.value.startswith(("FILLED", "CANCELED")),
            o.created_at or datetime.now(UTC),
        )
        for o in list(book.orders.values())
    }
    for execution in list(book.executions):
        filled = orders[execution.venue_order_id].filled
        filled.qty += execution.qty
        filled.notional += execution.qty * execution.price
        filled.fees += execution.fee
    posts: dict[str, int] = {}
    for order in orders.values():
        posts[order.client_order_id] = posts.get(order.client_order_id, 0) + 1
    return Truth(list(orders.values()), posts, {t: h.qty for t, h in list(book.holdings.items()) if h.qty})
