"""Yahoo's minute bars through yfinance, an optional extra: unofficial, delayed at times, and limited as it pleases.

Tickers that fail come as columns of NaN without an exception, and a rate limit is swallowed by ``download``; so the
session counts what Yahoo refuses.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from shared.errors import ConfigError, VenueUnavailable
from worker.core.types import Bar, LastPrice

CALL_SECONDS = 10.0
COLUMNS = ("Open", "High", "Low", "Close", "Volume")


class YahooData:
    """``url`` replaces the host of every call where it is given; ``cache`` is where yfinance keeps time zones."""

    name = "yfinance"

    def __init__(self, url: str | None, cache: Path) -> None:
        """Raises ConfigError where the package is absent."""
        try:
            import yfinance
        except ImportError:
            raise ConfigError("MARKET_DATA=yfinance needs yfinance: pip install yfinance") from None
        logging.getLogger("yfinance").setLevel(logging.CRITICAL)  # it logs each failed ticker; ours are in the notes
        yfinance.set_tz_cache_location(str(cache))
        self._download = yfinance.download
        self._session = _session(url)

    def last_price(self, ticker: str) -> LastPrice:
        bars = self._bars([ticker])[ticker]
        if not bars:
            raise VenueUnavailable(f"yfinance: no price for {ticker}")
        return LastPrice(Decimal(repr(bars[-1].close)), bars[-1].start)

    def bars(self, tickers: Sequence[str], count: int, until: datetime) -> dict[str, list[Bar]]:
        end = int(until.timestamp()) // 60 * 60
        found = self._bars(tickers)
        return {ticker: [b for b in bars if b.start.timestamp() < end][-count:] for ticker, bars in found.items()}

    def _bars(self, tickers: Sequence[str]) -> dict[str, list[Bar]]:
        self._session.refused = 0
        try:
            frame = self._download(
                list(tickers),
                period="1d",
                interval="1m",
                group_by="ticker",
                auto_adjust=False,
                threads=False,
                progress=False,
                timeout=CALL_SECONDS,
                session=self._session,
                multi_level_index=True,
            )
        except Exception as error:  # yfinance raises its own, pandas' and its transport's, all meaning: no data
            raise VenueUnavailable(f"yfinance: {type(error).__name__}") from None
        found = {ticker: _rows(frame, ticker) for ticker in tickers}
        if tickers and not any(found.values()):
            why = "Yahoo limits the rate (HTTP 429)" if self._session.refused else "no bars for any ticker"
            raise VenueUnavailable(f"yfinance: {why}")
        return found


def _rows(frame: Any, ticker: str) -> list[Bar]:
    """The bars of one ticker in a frame with (ticker, field) columns; rows with a NaN or a zero price are none."""
    if frame is None or ticker not in frame.columns.get_level_values(0):
        return []
    part = frame[ticker]
    if any(name not in part.columns for name in COLUMNS):
        return []
    bars = []
    for stamp, *values in part[list(COLUMNS)].itertuples(name=None):
        numbers = [float(value) for value in values]
        if all(math.isfinite(n) for n in numbers) and min(numbers[:4]) > 0:
            bars.append(Bar(stamp.to_pydatetime().astimezone(UTC), *numbers))
    return bars


def _session(url: str | None) -> Any:
    """yfinance's own kind of session, which counts refusals and, for tests and proxies, calls another host."""
    from curl_cffi import requests

    base: Any = requests.Session

    class Session(base):  # type: ignore[misc]  # typed as Any: the package is an extra
        refused = 0

        def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
            answer = super().request(method, _elsewhere(url, host), *args, **kwargs)
            self.refused += answer.status_code == 429
            return answer

        def get(self, url: str, **kwargs: Any) -> Any:
            return self.request("GET", url, **kwargs)

        def post(self, url: str, **kwargs: Any) -> Any:
            return self.request("POST", url, **kwargs)

    host = url
    return Session(impersonate="chrome")


def _elsewhere(address: str, url: str | None) -> str:
    if url is None:
        return address
    base, parts = urlsplit(url), urlsplit(address)
    return urlunsplit((base.scheme, base.netloc, parts.path, parts.query, ""))
