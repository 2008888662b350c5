"""Alpaca's list of orders, all pages of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from shared.clock import rfc3339
from shared.errors import VenueUnavailable
from worker.core.order_states import FINAL
from worker.core.types import VenueOrder
from worker.venues.alpaca import mapping, wire
from worker.venues.alpaca.clients import RestClient
from worker.venues.alpaca.pairs import Pairs
from worker.venues.base import PartlyRead

ORDERS_PAGE = 500


class OrderList:
    """Working orders, and those created since a moment; pairs of ours as one."""

    def __init__(self, client: RestClient, pairs: Pairs) -> None:
        self._client, self._pairs = client, pairs

    def open(self) -> list[VenueOrder]:
        """A working order's finished legs, and the finished parent of working legs, are told but are not open.

        Raises PartlyRead.
        """
        try:
            found = self._pages({"status": "open"})
        except PartlyRead as error:
            raise PartlyRead(str(error), [o for o in error.found if o.state not in FINAL]) from error
        return [o for o in found if o.state not in FINAL]

    def since(self, since: datetime) -> list[VenueOrder]:
        """Raises PartlyRead."""
        return self._pages({"status": "all", "after": rfc3339(since - timedelta(milliseconds=1))})

    def _pages(self, query: dict[str, Any]) -> list[VenueOrder]:
        """All pages, newest first as the API likes it, returned oldest first; legs stand beside their parents.

        A short page does not end the list, since legs are rolled up after the page is cut: a page without news does.
        Raises PartlyRead with what could be read.
        """
        found: list[VenueOrder] = []
        known: set[str] = set()
        page = {**query, "limit": ORDERS_PAGE, "direction": "desc", "nested": "true"}
        for _ in range(wire.MAX_PAGES):
            rows: list[Any] = []
            try:
                rows = wire.rows(partial(self._client.get, "/orders", page))
                told = wire.read(partial(self._pairs.orders, rows[::-1]))
            except VenueUnavailable as error:
                raise PartlyRead(str(error), self._readable(rows) + found) from error
            new = [o for o in told if o.venue_order_id not in known]
            known.update(o.venue_order_id for o in new)
            found = new + found
            if not new and len(rows) != ORDERS_PAGE:  # more than was asked for is all there is
                return found
            if not new:
                break
            page = {**page, "until": wire.read(partial(mapping.until, rows))}
        raise PartlyRead(f"no end of orders after {len(found)}", found)

    def _readable(self, rows: Sequence[Any]) -> list[VenueOrder]:
        """The orders of a page that can be read, whatever stands beside them."""
        found: list[VenueOrder] = []
        for row in reversed(rows):
            with suppress(*wire.MALFORMED):
                found += self._pairs.orders([row])
        return found
