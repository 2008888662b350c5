"""The watch after a stop that was proven."""

from __future__ import annotations

from shared.errors import VenueError
from worker.core import ids
from worker.core.types import Effect
from worker.venues.base import PartlyRead, Venue


class Sentry:
    """After STOPPED and while OFF: an order of ours that appears reopens the stop."""

    PERIOD_SECONDS = 5.0

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    def sees_ours(self, policy: str) -> bool:
        """Whether an order of ours that the policy cancels works at the venue; False where it cannot be read."""
        try:
            orders = self._venue.open_orders()
        except PartlyRead as error:
            orders = list(error.found)
        except VenueError:
            return False
        if policy == "cancel_entries":
            return any(ids.effect_of(o.client_order_id) is Effect.ENTRY for o in orders)
        return any(ids.is_ours(o.client_order_id) for o in orders)
