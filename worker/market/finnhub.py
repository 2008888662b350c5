"""Finnhub: last prices from ``quote``, minute bars from ``stock/candle`` (which Finnhub keeps for paying users)."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import urllib3

from shared.clock import Clock
from shared.errors import VenueUnavailable, shorten
from worker.core.types import Bar, LastPrice
from worker.venues.http import pool_manager

CALLS_A_MINUTE = 60
MINUTE = timedelta(minutes=1)
LATEST = 4_102_444_800
"""2100 in Unix seconds: what is later is no time."""
LOOKBACK_MINUTES = 3
"""How many minutes are asked for per bar wanted: minutes without a trade have none."""


class FinnhubData:
    """Errors come as an object with ``error``, as a bare string, or as HTML; a zero is no price."""

    name = "finnhub"

    def __init__(self, key: str, url: str, clock: Clock) -> None:
        self._key, self._url, self._clock = key, url.rstrip("/"), clock
        self._http = pool_manager(2)
        self._calls: deque[float] = deque()
        self._not_before = float("-inf")

    def last_price(self, ticker: str) -> LastPrice:
        found = self._get("quote", {"symbol": ticker})
        price, at = _number(found.get("c")), _number(found.get("t"))
        if price is None or price <= 0 or at is None or not 0 < at < LATEST:
            raise VenueUnavailable(f"finnhub: no price for {ticker} (c {shorten(found.get('c'))})")
        return LastPrice(Decimal(repr(price)), datetime.fromtimestamp(at, UTC))

    def bars(self, tickers: Sequence[str], count: int, until: datetime) -> dict[str, list[Bar]]:
        """Tickers that the minute's calls do not reach, or whose answer is none, have no bars.

        Raises VenueUnavailable where no ticker has any.
        """
        end = int(until.timestamp()) // 60 * 60
        found: dict[str, list[Bar]] = {ticker: [] for ticker in tickers}
        problem = "finnhub: no bars for any ticker"
        for ticker in tickers:
            if not self._may_call():
                break
            start = end - 60 * count * LOOKBACK_MINUTES
            span = {"symbol": ticker, "resolution": "1", "from": str(start), "to": str(end - 1)}
            try:
                answer = self._get("stock/candle", span)
                found[ticker] = [b for b in _bars(answer) if b.start.timestamp() < end][-count:]
            except VenueUnavailable as error:  # what one ticker is refused costs the others nothing
                problem = str(error)
        if tickers and not any(found.values()):
            raise VenueUnavailable(problem)
        return found

    def _may_call(self) -> bool:
        now = self._clock.monotonic()
        while self._calls and now - self._calls[0] >= 60:
            self._calls.popleft()
        return now >= self._not_before and len(self._calls) < CALLS_A_MINUTE

    def _get(self, path: str, fields: Mapping[str, str]) -> Mapping[str, Any]:
        if not self._may_call():
            raise VenueUnavailable(f"finnhub: {CALLS_A_MINUTE} calls a minute are used up")
        self._calls.append(self._clock.monotonic())
        headers = {"X-Finnhub-Token": self._key}
        try:
            answer = self._http.request(
                "GET", f"{self._url}/api/v1/{path}", fields=dict(fields), headers=headers, redirect=False
            )
            raw = answer.data
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise VenueUnavailable(f"finnhub: {type(error).__name__}") from None
        if answer.status == 429:
            self._not_before = self._clock.monotonic() + 60
        return _object(answer.status, raw)


def _object(status: int, raw: bytes) -> Mapping[str, Any]:
    """The JSON object of a good answer. Raises VenueUnavailable."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        found = raw[:200].decode(errors="replace")
    if isinstance(found, dict) and status == 200 and not found.get("error"):
        return found
    told = found.get("error", found) if isinstance(found, dict) else found
    raise VenueUnavailable(f"finnhub: HTTP {status} {shorten(told)}")


def _bars(found: Mapping[str, Any]) -> list[Bar]:
    """Bars of a candle answer, oldest first. Raises VenueUnavailable where its columns do not fit together."""
    if found.get("s") == "no_data":
        return []
    columns = [found.get(name) for name in "tohlcv"]
    if found.get("s") != "ok" or not all(isinstance(c, list) for c in columns):
        raise VenueUnavailable(f"finnhub: candles that are none (s {shorten(found.get('s'))})")
    try:
        rows = list(zip(*(c for c in columns if isinstance(c, list)), strict=True))
    except ValueError:
        raise VenueUnavailable("finnhub: candle columns of different lengths") from None
    bars = []
    for row in rows:
        values = [_number(value) for value in row]
        if any(v is None for v in values) or not all(v is not None and v > 0 for v in values[:5]):
            continue  # a minute with a zero or no number in it is none
        at, *prices = [v for v in values if v is not None]
        if at >= LATEST or prices[-1] < 0:
            continue
        bars.append(Bar(datetime.fromtimestamp(at, UTC), *prices))
    bars.sort(key=lambda b: b.start)
    return [b for b, after in pairwise([*bars, None]) if b is not None and (after is None or after.start > b.start)]


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        return None  # NaN too; an integer of hundreds of digits is no float at all
    return float(value)
