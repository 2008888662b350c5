"""The market data port."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from worker.core.types import Bar, LastPrice

CALL_SECONDS = 3.0


class MarketData(Protocol):
    """Minute bars and last prices of a third party."""

    @property
    def name(self) -> str:
        """``finnhub`` or ``yfinance``."""

    def last_price(self, ticker: str) -> LastPrice:
        """The last trade. Raises VenueUnavailable; zero or NaN is no price."""

    def bars(self, tickers: Sequence[str], count: int, until: datetime) -> dict[str, list[Bar]]:
        """As ``Venue.bars``: the last ``count`` complete minutes before ``until``, oldest first.

        A ticker without bars has an empty list. Raises VenueUnavailable where nothing can be had.
        """
