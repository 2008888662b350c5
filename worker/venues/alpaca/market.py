"""Alpaca's market data: last trades and minute bars, of stocks and of coins."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from shared.clock import Clock, rfc3339
from shared.errors import VenueUnavailable
from worker.core.types import Bar, LastPrice
from worker.venues.alpaca import mapping, wire
from worker.venues.alpaca.clients import Clients, RestClient
from worker.venues.alpaca.endpoints import Endpoints

BARS_PAGE = 10_000
BAR_IS_CURRENT = timedelta(minutes=2)
SESSION_REACH = timedelta(hours=9)
MINUTE = timedelta(minutes=1)


class Market:
    """``feed`` is where prices of stocks are from: ``iex`` or ``sip``."""

    def __init__(self, clients: Clients, feed: str, endpoints: Endpoints, clock: Clock) -> None:
        self._stocks, self._crypto, self._feed = clients.stocks, clients.crypto, feed
        self._endpoints, self._clock = endpoints, clock

    def last_price(self, ticker: str) -> LastPrice:
        """The last trade, or the close of a bar that is current. Raises VenueUnavailable."""

        def ask() -> LastPrice:
            if "/" in ticker:
                body = _object(self._crypto, "/crypto/us/latest/trades", {"symbols": ticker})
            else:
                body = _object(self._stocks, "/stocks/trades/latest", {"symbols": ticker, "feed": self._feed})
            return wire.read(lambda: mapping.last_price(body["trades"][ticker]))

        return self._endpoints.ask("trades", ask, lambda: self._price_from_bars(ticker))

    def _price_from_bars(self, ticker: str) -> LastPrice:
        """Without the endpoint of trades: the last minute's close, which is current until the next one is due."""
        now = self._clock.now()
        found = self.bars([ticker], 1, now + MINUTE)[ticker]
        if not found or now - found[-1].start > BAR_IS_CURRENT:
            raise VenueUnavailable(f"{ticker}: neither a last trade nor a current bar")
        return LastPrice(Decimal(repr(found[-1].close)), now)

    def bars(self, tickers: Sequence[str], count: int, until: datetime) -> dict[str, list[Bar]]:
        """See ``venues.base.Venue.bars``."""
        start = until - max(SESSION_REACH, timedelta(minutes=2 * count))
        crypto, stocks = [t for t in tickers if "/" in t], [t for t in tickers if "/" not in t]
        found: dict[str, list[Bar]] = {t: [] for t in tickers}
        window = {"timeframe": "1Min", "start": rfc3339(start), "end": rfc3339(until), "limit": BARS_PAGE}
        if stocks:
            query = {**window, "symbols": ",".join(stocks), "feed": self._feed, "adjustment": "raw"}
            _collect(self._stocks, "/stocks/bars", query, found)
        if crypto:
            _collect(self._crypto, "/crypto/us/bars", {**window, "symbols": ",".join(crypto)}, found)
        complete = until - MINUTE
        return {t: [b for b in bars if b.start <= complete][-count:] for t, bars in found.items()}


def _collect(client: RestClient, path: str, query: dict[str, Any], into: dict[str, list[Bar]]) -> None:
    """All pages of bars, by ticker."""
    for _ in range(wire.MAX_PAGES):
        body = _object(client, path, query)

        def take(body: Any = body) -> None:
            for ticker, rows in body["bars"].items():
                into[ticker] += [mapping.bar(row) for row in rows]

        wire.read(take)
        token = body.get("next_page_token")
        if not token:
            return
        query = {**query, "page_token": token}
    raise VenueUnavailable(f"more than {wire.MAX_PAGES} pages of bars")


def _object(client: RestClient, path: str, query: dict[str, Any]) -> Any:
    body = wire.get(lambda: client.get(path, query))
    if not isinstance(body, dict):
        raise VenueUnavailable(f"{path}: an answer that makes no sense: {str(body)[:200]}")
    return body
