"""The simulated venue in process, for replay: the same engine, an injected clock, bars that somebody pushes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from shared.clock import Clock
from shared.errors import OrderNotFound, VenueAmbiguous, VenueRejected, VenueUnavailable
from worker.core.fills import EngineOptions
from worker.core.matching import MatchingEngine
from worker.core.refusal import DUPLICATE_ID, OrderRefused
from worker.core.types import (
    AccountState,
    Bar,
    Execution,
    Instrument,
    LastPrice,
    MarketClock,
    OrderRequest,
    OrderUpdate,
    VenueOrder,
    VenuePosition,
)
from worker.core.venue_book import Book
from worker.venues.base import CancelOutcome, CancelResult, Capabilities, SendGuard

ZERO = Decimal(0)
KEPT_BARS = 256


class _NoStream:
    """Updates are pushed by ``advance`` itself."""

    connected = True
    generation = 1

    def close(self) -> None:
        """Nothing runs."""


class LocalVenue:
    """See ``venues.base.Venue``. ``advance`` moves the market by one bar and returns what it filled."""

    name = "simulated"
    mode = "simulated"

    def __init__(
        self,
        clock: Clock,
        instruments: Mapping[str, Instrument],
        cash: Decimal,
        options: EngineOptions,
        uniform: Callable[[], float],
        is_open: Callable[[datetime], bool] | None = None,
    ) -> None:
        self._clock, self._instruments, self._is_open = clock, instruments, is_open
        pairs = any(i.protective_pair for i in instruments.values())
        self.capabilities = Capabilities(sessions=is_open is not None, protective_pairs=pairs)
        self.engine = MatchingEngine(Book(cash), instruments.get, options, uniform)
        self._on_bar = self.engine.on_bar
        self._bars = {ticker: deque[Bar](maxlen=KEPT_BARS) for ticker in instruments}
        self._listeners: list[Callable[[OrderUpdate], None]] = []

    def advance(self, ticker: str, bar: Bar) -> list[OrderUpdate]:
        """One complete bar: fills happen at its open, the price afterwards is its close."""
        self._bars[ticker].append(bar)
        updates = self._on_bar(ticker, bar)
        return self._push(updates) if updates else updates

    def trade(self, ticker: str, price: Decimal, within: tuple[Decimal, Decimal] | None = None) -> list[OrderUpdate]:
        """One trade of the market, now: what it reaches fills, ``within`` its bar where it is made from one."""
        return self._push(self.engine.on_price(ticker, price, self._clock.now(), within))

    def _push(self, updates: list[OrderUpdate]) -> list[OrderUpdate]:
        for update in updates:
            for listener in self._listeners:
                listener(update)
        return updates

    def submit(self, request: OrderRequest, guard: SendGuard) -> VenueOrder:
        guard()
        try:
            return self.engine.place(request, self._clock.now()).order
        except OrderRefused as error:
            if error.code == DUPLICATE_ID:
                raise VenueAmbiguous(str(error)) from error
            raise VenueRejected(str(error), error.code) from error

    def cancel(self, venue_order_id: str) -> CancelResult:
        try:
            update = self.engine.cancel(venue_order_id, self._clock.now())
        except KeyError:
            return CancelResult(venue_order_id, CancelOutcome.ALREADY_FINAL)
        outcome = CancelOutcome.ALREADY_FINAL if update is None else CancelOutcome.REQUESTED
        return CancelResult(venue_order_id, outcome)

    def cancel_all(self) -> list[CancelResult]:
        return [self.cancel(o.venue_order_id) for o in self.engine.working()]

    def cancel_all_after(self, seconds: float) -> None:
        raise VenueUnavailable("a replay has no dead-man's switch")

    def open_orders(self) -> list[VenueOrder]:
        return self.engine.working()

    def orders_since(self, since: datetime) -> list[VenueOrder]:
        return [o for o in self.engine.book.orders.values() if o.created_at is not None and o.created_at >= since]

    def order_by_client_id(self, client_order_id: str) -> VenueOrder:
        order = self.engine.order_of(client_order_id)
        if order is None:
            raise OrderNotFound(f"no order {client_order_id}")
        return order

    def fills_since(self, since: datetime) -> list[Execution]:
        found = []
        for execution in reversed(self.engine.book.executions):
            if execution.time < since:
                break
            found.append(execution)
        return found[::-1]

    def positions(self) -> list[VenuePosition]:
        rows = []
        for ticker, holding in self.engine.book.holdings.items():
            if holding.qty:
                value = holding.qty * (self.engine.price(ticker) or holding.average)
                rows.append(VenuePosition(ticker, holding.qty, "long", holding.average, value, value - holding.cost))
        return rows

    def account(self) -> AccountState:
        cash = self.engine.book.cash
        return AccountState(cash + self.engine.positions_value(), cash, self.engine.buying_power())

    def clock(self) -> MarketClock:
        now = self._clock.now()
        return MarketClock(now, self._is_open is None or self._is_open(now))

    def instrument(self, ticker: str) -> Instrument:
        found = self._instruments.get(ticker)
        if found is None:
            raise VenueUnavailable(f"{ticker} is not traded here")
        return found

    def last_price(self, ticker: str) -> LastPrice:
        price = self.engine.price(ticker)
        if price is None:
            raise VenueUnavailable(f"{ticker} has no price yet")
        return LastPrice(price, self._clock.now())

    def bars(self, tickers: Sequence[str], count: int, until: datetime) -> dict[str, list[Bar]]:
        return {t: [b for b in list(self._bars.get(t, ()))[-count:] if b.start < until] for t in tickers}

    def stream_updates(self, on_update: Callable[[OrderUpdate], None]) -> _NoStream:
        self._listeners.append(on_update)
        return _NoStream()

    def close(self) -> None:
        """Nothing is open."""
