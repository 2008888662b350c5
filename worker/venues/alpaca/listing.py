"""Alpaca's list of orders, all pages of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from shared.clock import parse_rfc3339, rfc3339
from shared.errors import OrderNotFound, VenueUnavailable
from worker.core.order_states import FINAL
from worker.core.types import VenueOrder
from worker.venues.alpaca import mapping, wire
from worker.venues.alpaca.clients import RestClient
from worker.venues.alpaca.pairs import GROUP_TOLERANCE, PAIR_CLASSES, Pairs
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
            if self._parents_found():
                found = self._pages({"status": "open"})
        except PartlyRead as error:
            raise PartlyRead(str(error), [o for o in error.found if o.state not in FINAL]) from error
        return [o for o in found if o.state not in FINAL]

    def since(self, since: datetime) -> list[VenueOrder]:
        """Raises PartlyRead."""
        return self._pages({"status": "all", "after": rfc3339(since - timedelta(milliseconds=1))})

    def find_pair(self, venue_order_id: str) -> bool:
        """Look for the pair that an order is of; whether there is one. Raises VenueUnavailable."""
        placed = self._placed_at(venue_order_id)
        if placed is not None:
            self.made_with(placed)
        if self._pairs.name(venue_order_id) == venue_order_id:
            self._pairs.is_plain(venue_order_id)
            return False
        return True

    def made_with(self, placed: datetime) -> None:
        """Read what was placed with a group's first order, so that its pair is known. Raises PartlyRead."""
        self.since(placed - GROUP_TOLERANCE)

    def _parents_found(self) -> bool:
        """Look for the pairs of legs that are listed by themselves; whether one of ours was found."""
        found = False
        for name in self._pairs.alone():
            with suppress(VenueUnavailable):  # then it is shown as it stands
                found |= self.find_pair(name)
        return found

    def _placed_at(self, venue_order_id: str) -> datetime | None:
        """When the group was placed that an order is of, through all that it replaces; None where it is of none."""
        found: datetime | None = None
        for _ in range(wire.MAX_PAGES):
            try:
                row = wire.call(partial(self._client.get, wire.order_path(venue_order_id)))
                if row.get("order_class") not in PAIR_CLASSES:
                    return None
                found, venue_order_id = parse_rfc3339(row["created_at"]), str(row.get("replaces") or "")
            except (OrderNotFound, wire.NoSuchEndpoint):
                return found
            except wire.MALFORMED as error:
                raise VenueUnavailable(f"an answer from Alpaca that makes no sense: {error!r}") from error
            if not venue_order_id:
                break
        return found

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
        """The orders of a page that can be read, whatever stands beside them; of others the id, where there is one."""
        found: list[VenueOrder] = []
        for row in reversed(rows):
            try:
                found += self._pairs.orders([row])
            except wire.MALFORMED:
                found += mapping.only_named(row)
        return found
