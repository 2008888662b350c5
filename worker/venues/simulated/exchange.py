"""The simulated exchange: a seeded market, a matching engine, and a ledger that knows everything first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal

from shared.clock import Clock
from worker.core.matching import MatchingEngine
from worker.core.types import OrderRequest, OrderUpdate
from worker.venues.simulated.ledger import Ledger
from worker.venues.simulated.market import TICK_MS, SeededMarket
from worker.venues.simulated.updates import UpdateBoard


class Exchange:
    """What happens is committed first, then told to ``updates``. Prices can be pinned, for tests."""

    def __init__(self, market: SeededMarket, engine: MatchingEngine, ledger: Ledger, clock: Clock) -> None:
        self.market, self.engine, self.clock, self.updates = market, engine, clock, UpdateBoard()
        self._ledger = ledger
        self._pinned: dict[str, Decimal] = {}
        self.cancels_at: float | None = None
        """When the dead-man's switch cancels everything, on the monotonic clock; None where it is not set."""

    # -- the market -----------------------------------------------------------------------------------------------

    async def pulse(self) -> None:
        """The market's beat, until cancelled."""
        while True:
            await self.match(self.engine.working_tickers())
            if self.cancels_at is not None and self.clock.monotonic() >= self.cancels_at:
                self.cancels_at = None
                await self.cancel_working()
            await asyncio.sleep(TICK_MS / 1000)

    async def match(self, tickers: Iterable[str]) -> None:
        """Let the market move past the resting orders."""
        now = self.clock.now()
        updates: list[OrderUpdate] = []
        for ticker in tuple(tickers):
            updates += self.engine.on_price(ticker, self.price(ticker, now)[0], now)
        await self.commit(updates)

    def price(self, ticker: str, now: datetime) -> tuple[Decimal, datetime]:
        """The last price and its time."""
        pinned = self._pinned.get(ticker)
        if pinned is not None:
            return pinned, now
        last = self.market.last(ticker, now)
        return last.price, last.time

    def pinned(self, ticker: str) -> Decimal | None:
        return self._pinned.get(ticker)

    async def pin(self, ticker: str, price: Decimal | None) -> None:
        """Hold a ticker at a price; None lets it go."""
        if price is None:
            self._pinned.pop(ticker, None)
        else:
            self._pinned[ticker] = price
        await self.match([ticker])

    def trades(self, ticker: str) -> bool:
        """Whether the ticker is traded here."""
        return self.market.instrument(ticker) is not None

    # -- orders ---------------------------------------------------------------------------------------------------

    async def place(self, wanted: OrderRequest) -> OrderUpdate:
        """Raises OrderRefused."""
        now = self.clock.now()
        if self.trades(wanted.ticker) and self.engine.price(wanted.ticker) is None:
            await self.commit(self.engine.on_price(wanted.ticker, self.price(wanted.ticker, now)[0], now))
        update = self.engine.place(wanted, now)
        await self.commit([update])
        return update

    async def cancel(self, venue_order_id: str) -> OrderUpdate | None:
        """None where it is final already. Raises KeyError."""
        update = self.engine.cancel(venue_order_id, self.clock.now())
        await self.commit([] if update is None else [update])
        return update

    async def cancel_working(self) -> list[OrderUpdate]:
        """Everything that works."""
        now = self.clock.now()
        updates = [self.engine.cancel(o.venue_order_id, now) for o in self.engine.working()]
        done = [u for u in updates if u is not None]
        await self.commit(done)
        return done

    def cancel_after(self, seconds: float) -> None:
        """Set the dead-man's switch; 0 takes it back."""
        self.cancels_at = self.clock.monotonic() + seconds if seconds else None

    async def commit(self, updates: Sequence[OrderUpdate]) -> None:
        """Into the ledger, then to everyone who listens."""
        if not updates:
            return
        executions = [u.execution for u in updates if u.execution is not None]
        self._ledger.commit(self.engine.book, [u.order for u in updates], executions)
        await self.updates.publish(updates)
