"""The trades of the seeded market: one per ticker every 250 ms, the same whenever and wherever they are asked for.

``GET /trades?tickers=A,B`` is a websocket that sends each slot's trades as one JSON array, within its first
milliseconds: symbol, price, quantity, is_buyer_maker, venue_time in microseconds, trade_id. The id is the slot.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec
from aiohttp import web

from shared.clock import Clock
from worker.core.trades import Trade, micros
from worker.venues.simulated.answers import refuse
from worker.venues.simulated.market import EPOCH, TICK_MS, SeededMarket

_SLOT = timedelta(milliseconds=TICK_MS)
_SLOTS_A_MINUTE = 60_000 // TICK_MS
Pinned = Callable[[str], Decimal | None]


def slot_at(moment: datetime) -> int:
    """The number of the slot that runs then."""
    return (moment - EPOCH) // _SLOT


def trade_at(market: SeededMarket, ticker: str, slot: int, pinned: Decimal | None = None) -> Trade:
    """The trade that opens a slot. Takers lean to the side that the minute moves to. Raises KeyError."""
    at = EPOCH + slot * _SLOT
    price = market.last(ticker, at).price if pinned is None else pinned
    bar = market.bar(ticker, slot // _SLOTS_A_MINUTE)
    dice = random.Random(f"{ticker}:trade:{slot}:{bar.volume}")  # noqa: S311 - a market, not a secret
    lean = 0.2 if bar.close > bar.open else -0.2
    quantity = max(round(bar.volume / _SLOTS_A_MINUTE * dice.expovariate(1.0), 2), 0.01)
    time = micros(at)
    return Trade(ticker, float(price), quantity, dice.random() > 0.5 + lean, time, time, slot)


def seeded_trades(market: SeededMarket, tickers: Sequence[str], start: datetime, end: datetime) -> Iterator[Trade]:
    """All trades of ``[start, end)``, in order: what a live feed would have given."""
    first = slot_at(start) + (EPOCH + slot_at(start) * _SLOT < start)
    for slot in range(first, slot_at(end - timedelta(microseconds=1)) + 1):
        for ticker in tickers:
            yield trade_at(market, ticker, slot)


class TickBoard:
    """Everyone who listens to trades."""

    def __init__(self, market: SeededMarket, clock: Clock, pinned: Pinned) -> None:
        self._market, self._clock, self._pinned = market, clock, pinned
        self._channels: set[web.WebSocketResponse] = set()

    async def trades(self, request: web.Request) -> web.StreamResponse:
        tickers = [t for t in request.query.get("tickers", "").split(",") if t]
        if not tickers or not all(self._market.instrument(t) for t in tickers):
            return refuse(404, "unknown_ticker", "tickers=A,B names tickers that are traded here")
        channel = web.WebSocketResponse(heartbeat=10)
        await channel.prepare(request)
        self._channels.add(channel)
        sending = asyncio.create_task(self._send(channel, tickers))
        try:
            async for _ in channel:
                pass
        finally:
            self._channels.discard(channel)
            sending.cancel()
        return channel

    async def _send(self, channel: web.WebSocketResponse, tickers: Sequence[str]) -> None:
        last = slot_at(self._clock.now())
        while not channel.closed:
            now = self._clock.now()
            slot = slot_at(now)
            if slot > last:
                last = slot
                found = [trade_at(self._market, t, slot, self._pinned(t)) for t in tickers]
                try:
                    await channel.send_bytes(msgspec.json.encode(found))
                except ConnectionError:
                    return
            await asyncio.sleep(max((EPOCH + (slot + 1) * _SLOT - now).total_seconds(), 0.001))

    async def hang_up(self) -> None:
        for channel in list(self._channels):
            await channel.close()
