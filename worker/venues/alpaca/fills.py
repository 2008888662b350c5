"""Alpaca's fills, which tell neither their fee nor the pair that they are of."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

from shared.clock import rfc3339
from shared.errors import VenueUnavailable
from worker.core.types import Execution, Side
from worker.venues.alpaca import mapping, wire
from worker.venues.alpaca.clients import RestClient
from worker.venues.alpaca.endpoints import Endpoints
from worker.venues.alpaca.fees import CryptoFees
from worker.venues.alpaca.listing import OrderList
from worker.venues.alpaca.pairs import Pairs

ACTIVITIES_PAGE = 100
ODD_KEPT = 1000


class Fills:
    """Executions of one account, under the ids by which the port knows their orders."""

    def __init__(
        self, client: RestClient, pairs: Pairs, fees: CryptoFees, listing: OrderList, endpoints: Endpoints
    ) -> None:
        self._client, self._pairs, self._fees = client, pairs, fees
        self._listing, self._endpoints = listing, endpoints
        self._odd, self._logger = set[str](), logging.getLogger("venue.alpaca")

    def since(self, since: datetime) -> list[Execution]:
        """Oldest first, all pages; none where the address has no such endpoint. Raises VenueUnavailable."""
        query: dict[str, Any] = {"after": rfc3339(since), "direction": "asc", "page_size": ACTIVITIES_PAGE}
        fills: dict[str, Execution] = {}
        for _ in range(wire.MAX_PAGES):
            ask = partial(wire.rows, partial(self._client.get, "/account/activities/FILL", query))
            # Without the endpoint an order's cumulative figures tell all but the fees.
            rows = self._endpoints.ask("fills", ask, list)
            read, odd = wire.read(partial(mapping.fills_in, rows))
            self._warn(odd)
            new = {f.execution_id: f for f in map(self._fees.charged, read) if f.execution_id not in fills}
            fills |= new
            if not new and len(rows) != ACTIVITIES_PAGE:
                self._learn(list(fills.values()), since)
                return [self._pairs.fill(f) for f in fills.values()]
            if not new:
                break
            query = {**query, "page_token": rows[-1]["id"]}
        raise VenueUnavailable(f"no end of fills after {len(fills)}")

    def _warn(self, odd: Sequence[str]) -> None:
        for name in odd:
            if name not in self._odd:
                self._logger.warning("a fill that makes no sense: %s", name)
        if len(self._odd) > ODD_KEPT:
            self._odd.clear()
        self._odd.update(odd)

    def _learn(self, fills: Sequence[Execution], since: datetime) -> None:
        """Find the pairs that fills are of, which their rows do not tell. Raises VenueUnavailable."""
        sold = {f.venue_order_id for f in fills if f.side is Side.SELL}
        if not self._unknown(sold):
            return
        self._listing.since(since)
        for name in self._unknown(sold):
            self._listing.find_pair(name)

    def _unknown(self, venue_order_ids: set[str]) -> list[str]:
        return sorted(name for name in venue_order_ids if not self._pairs.knows(name))
