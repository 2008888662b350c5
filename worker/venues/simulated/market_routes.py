"""Account and market of the simulated venue over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from aiohttp import web

from worker.venues.simulated.answers import refuse, unknown_ticker
from worker.venues.simulated.codec import read_time, time_text
from worker.venues.simulated.exchange import Exchange

MOST_BARS = 20_000


class MarketRoutes:
    """What is held, and what it is worth."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def routes(self) -> Sequence[web.RouteDef]:
        return [
            web.get("/positions", self.positions),
            web.get("/account", self.account),
            web.get("/clock", self.time),
            web.get("/instruments/{ticker}", self.instrument),
            web.get("/prices/{ticker}", self.price),
            web.get("/bars", self.bars),
        ]

    async def positions(self, _request: web.Request) -> web.Response:
        now, rows = self._exchange.clock.now(), []
        for ticker, holding in sorted(self._exchange.engine.book.holdings.items()):
            if holding.qty:
                value = holding.qty * self._exchange.price(ticker, now)[0]
                rows.append(
                    {
                        "ticker": ticker,
                        "qty": str(holding.qty),
                        "side": "long",
                        "avg_entry_price": str(holding.average),
                        "market_value": str(value),
                        "unrealized_pl": str(value - holding.cost),
                    }
                )
        return web.json_response(rows)

    async def account(self, _request: web.Request) -> web.Response:
        now, engine = self._exchange.clock.now(), self._exchange.engine
        worth = [h.qty * self._exchange.price(t, now)[0] for t, h in engine.book.holdings.items() if h.qty]
        return web.json_response(
            {
                "equity": str(engine.book.cash + sum(worth, Decimal(0))),
                "cash": str(engine.book.cash),
                "buying_power": str(engine.buying_power()),
                "currency": "USD",
            }
        )

    async def time(self, _request: web.Request) -> web.Response:
        return web.json_response({"now": time_text(self._exchange.clock.now()), "is_open": True})

    async def instrument(self, request: web.Request) -> web.Response:
        found = self._exchange.market.instrument(request.match_info["ticker"])
        if found is None:
            return unknown_ticker()
        return web.json_response(
            {
                "ticker": found.ticker,
                "lot_size": str(found.lot_size),
                "tick_size": str(found.tick_size),
                "min_notional": "0",
                "protective_pair": found.protective_pair,
            }
        )

    async def price(self, request: web.Request) -> web.Response:
        ticker = request.match_info["ticker"]
        if not self._exchange.trades(ticker):
            return unknown_ticker()
        price, at = self._exchange.price(ticker, self._exchange.clock.now())
        return web.json_response({"price": str(price), "time": time_text(at)})

    async def bars(self, request: web.Request) -> web.Response:
        try:
            count, until = int(request.query["count"]), read_time(request.query["until"])
        except (KeyError, ValueError):
            return refuse(422, "bad_request", "count and until are needed")
        if until is None or not 0 < count <= MOST_BARS:
            return refuse(422, "bad_request", f"count is 1 to {MOST_BARS:,}")
        until = min(until, self._exchange.clock.now())
        rows: dict[str, list[Any]] = {}
        for ticker in request.query.get("tickers", "").split(","):
            found = self._exchange.market.bars(ticker, count, until) if self._exchange.trades(ticker) else []
            rows[ticker] = [[time_text(b.start), b.open, b.high, b.low, b.close, b.volume] for b in found]
            await asyncio.sleep(0)
        return web.json_response(rows)
