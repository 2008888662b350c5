"""Finnhub, Yahoo's chart API and xAI's chat completions on loopback, each as odd as the real one."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from tests.servers.base import ProtocolServer

KEY = "test-market-key"
Row = tuple[int, float | None, float | None, float | None, float | None, float | None]
"""Unix second, open, high, low, close, volume."""


def minutes(count: int, last: int, price: float = 100.0) -> list[Row]:
    """Bars of the last ``count`` minutes before ``last``."""
    end = last // 60 * 60
    return [(end - 60 * n, price, price + 1, price - 1, price + 0.5, 10.0 + n) for n in range(count, 0, -1)]


class FinnhubServer(ProtocolServer):
    """``quotes`` and ``candles`` by symbol; an unknown symbol has zeros, or no data."""

    def __init__(self) -> None:
        super().__init__()
        self.quotes: dict[str, dict[str, Any]] = {}
        self.candles: dict[str, list[Row]] = {}
        self.keys: set[str] = set()

    def route_of(self, request: web.Request) -> str:
        return request.path.removeprefix("/api/v1/")

    async def reply(self, request: web.Request, body: bytes) -> web.StreamResponse:
        self.keys.add(request.headers.get("X-Finnhub-Token", ""))
        symbol = request.query["symbol"]
        if self.route_of(request) == "quote":
            zeros = dict.fromkeys(("c", "h", "l", "o", "pc", "t"), 0)
            return web.json_response(self.quotes.get(symbol, zeros))
        start, end = int(request.query["from"]), int(request.query["to"])
        rows = [row for row in self.candles.get(symbol, []) if start <= row[0] <= end]
        if not rows:
            return web.json_response({"s": "no_data"})
        columns = dict(zip("tohlcv", map(list, zip(*rows, strict=True)), strict=True))
        return web.json_response({"s": "ok", **columns})


class YahooServer(ProtocolServer):
    """``candles`` by symbol; an unknown symbol is a 404 with Yahoo's error document."""

    def __init__(self) -> None:
        super().__init__()
        self.candles: dict[str, list[Row]] = {}

    def route_of(self, request: web.Request) -> str:
        return "chart" if request.path.startswith("/v8/finance/chart/") else request.path

    async def reply(self, request: web.Request, body: bytes) -> web.StreamResponse:
        if self.route_of(request) != "chart":
            return web.Response(text="crumb")
        symbol = request.path.rpartition("/")[2]
        if symbol not in self.candles:
            error = {"code": "Not Found", "description": "No data found, symbol may be delisted"}
            return web.json_response({"chart": {"result": None, "error": error}}, status=404)
        rows = self.candles[symbol]
        quote = {name: [row[n] for row in rows] for n, name in enumerate(("open", "high", "low", "close", "volume"), 1)}
        day = {"start": rows[0][0], "end": rows[-1][0] + 60, "timezone": "EST", "gmtoffset": -18000}
        meta = {
            "symbol": symbol,
            "currency": "USD",
            "instrumentType": "EQUITY",
            "exchangeTimezoneName": "America/New_York",
            "gmtoffset": -18000,
            "dataGranularity": "1m",
            "priceHint": 2,
            "regularMarketPrice": rows[-1][4],
            "validRanges": ["1d", "5d"],
            "tradingPeriods": [[day]],
            "currentTradingPeriod": {"pre": day, "regular": day, "post": day},
        }
        found = {"meta": meta, "timestamp": [row[0] for row in rows], "indicators": {"quote": [quote]}}
        return web.json_response({"chart": {"result": [found], "error": None}})


class XaiServer(ProtocolServer):
    """``text`` is what the model says; ``asked`` is what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.text = "{}"
        self.finish = "stop"
        self.usage: Any = {
            "prompt_tokens": 4643,
            "completion_tokens": 1187,
            "total_tokens": 6690,
            "completion_tokens_details": {"reasoning_tokens": 860},
        }
        self.asked: list[dict[str, Any]] = []

    async def reply(self, request: web.Request, body: bytes) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.json_response({"error": "Incorrect API key provided"}, status=400)
        self.asked.append(json.loads(body))
        choice = {"index": 0, "message": {"role": "assistant", "content": self.text}, "finish_reason": self.finish}
        return web.json_response({"object": "chat.completion", "choices": [choice], "usage": self.usage})
