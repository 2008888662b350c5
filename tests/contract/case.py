"""What the contract suite needs to know of a venue under test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from worker.venues.base import Venue


@dataclass(frozen=True)
class VenueCase:
    """A venue, a hand on its prices, and its ledger's word on how often it accepted a client order id; ``pair`` is one
    whose fees are taken from what is credited."""

    venue: Venue
    set_price: Callable[[str, Decimal], None]
    submitted: Callable[[str], int]
    tickers: tuple[str, ...]
    pair: str = "BTC/USD"
