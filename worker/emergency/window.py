"""What may still arrive at a venue after the fence: orders that the trader had let go before."""

from __future__ import annotations

from shared.clock import Clock
from shared.errors import OrderNotFound, VenueUnavailable
from worker.core.order_states import FINAL
from worker.emergency.state import StopState
from worker.emergency.trader import TraderProcess
from worker.venues.base import Venue

ACKNOWLEDGE_SECONDS = 1.0
IN_FLIGHT_SECONDS = 3.25
AFTER_KILL_SECONDS = 1.0


class InFlightWindow:
    """One stop's wait for the trader's word, for its end, or for the longest that an order can be under way.

    ``noticed`` is when the stop was noticed, on the monotonic clock.
    """

    def __init__(self, state: StopState, venue: Venue, trader: TraderProcess, clock: Clock, noticed: float) -> None:
        self._state, self._venue, self._trader = state, venue, trader
        self._clock, self._noticed = clock, noticed
        self._trader_ran = False
        self._gone_at: float | None = None

    def begin(self) -> None:
        """Note whether a trader runs; before the first cancel."""
        self._trader_ran = self._trader.runs()

    def is_over(self, epoch: int | None) -> bool:
        """Whether no order from before the fence can still appear at the venue.

        ``epoch`` is what the fence has led to, None where Redis is away. A trader that does not acknowledge it is
        killed.
        """
        since = self._clock.monotonic() - self._noticed
        if epoch is None:
            self._state.trader = "not asked, Redis is away"
            return since >= IN_FLIGHT_SECONDS
        if self._gone_at is None and not self._trader.runs():
            # One that ended during this stop, killed for another account's part of it say, sent until just now.
            self._gone_at = self._clock.monotonic() if self._trader_ran else self._noticed
            self._state.trader = self._state.trader or "none runs"
        if self._gone_at is not None:
            return self._clock.monotonic() - self._gone_at >= AFTER_KILL_SECONDS and self._resolved()
        ack = self._trader.acknowledgement()
        if ack is not None and ack.epoch >= epoch:
            self._state.trader = "acknowledged"
            return not ack.in_flight or (since >= IN_FLIGHT_SECONDS and self._resolved())
        if since >= ACKNOWLEDGE_SECONDS:
            self._state.trader, is_over = self._trader.kill()
            if not is_over:  # one of another user's, say: what it has sent before the fence may still be on its way
                return since >= IN_FLIGHT_SECONDS and self._resolved()
            self._gone_at = self._clock.monotonic()
        return False

    def _resolved(self) -> bool:
        """Ask the venue for every id that the trader listed as in flight."""
        ack = self._trader.acknowledgement()
        unknown = set()
        for name in ack.in_flight if ack is not None else ():
            try:
                if self._venue.order_by_client_id(name).state not in FINAL:
                    unknown.add(name)
            except (OrderNotFound, VenueUnavailable):
                unknown.add(name)
        self._state.unknown = frozenset(unknown)
        return not unknown
