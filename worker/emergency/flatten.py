"""Closing positions after a proven stop, only where configured: reduce-only market orders, one at a time per symbol.

Outside the gate, with ids of their own that are written to disk before they are sent; the next attempt for a symbol
only after the last one is final at the venue. While the session is closed nothing is sent.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

from shared.errors import NotSent, VenueAmbiguous, VenueError, VenueRejected
from worker.core.orders import FINAL
from worker.core.types import OrderRequest, OrderType, Side, TimeInForce, VenuePosition
from worker.emergency.stop import FLATTEN_PREFIX, StopState
from worker.venues.base import Venue

PERIOD_SECONDS = 1.0


class Flattener:
    """``remember`` writes an id to disk and returns False where that failed: then nothing is sent."""

    def __init__(self, venue: Venue, remember: Callable[[str], bool], publish: Callable[[StopState], None]) -> None:
        self._venue, self._remember, self._publish = venue, remember, publish
        self._attempts: dict[str, int] = {}
        self._never_there: set[str] = set()

    def run(self, state: StopState, abandoned: threading.Event) -> None:
        """Until nothing is held, or trading is resumed."""
        while not abandoned.is_set():
            before = state.flatten
            try:
                state.flatten = self._round(state)
            except VenueError as error:
                state.note(f"flatten: {error}")
            if state.flatten == "CLOSED":
                state.positions_open, state.positions_unprotected = 0, []
                return
            if state.flatten != before:
                self._publish(state)
            abandoned.wait(PERIOD_SECONDS)

    def _round(self, state: StopState) -> str:
        positions = self._venue.positions()
        if not positions:
            return "CLOSED"
        if not self._venue.clock().is_open:
            return "QUEUED"
        for position in positions:
            self._close(state, position)
        return "CLOSING"

    def _close(self, state: StopState, position: VenuePosition) -> None:
        symbol = re.sub(r"[^A-Za-z0-9]", "", position.ticker)[:12]
        number = self._attempts.get(symbol, 0)
        if number and not self._is_final(self._name(state, symbol, number)):
            return
        name = self._name(state, symbol, number + 1)
        if not self._remember(name):
            state.note("flatten: the disk does not take the order's id, so it is not sent")
            return
        self._attempts[symbol] = number + 1
        request = OrderRequest(
            name,
            position.ticker,
            Side.SELL if position.side == "long" else Side.BUY,
            position.qty,
            OrderType.MARKET,
            TimeInForce.DAY,
            reduce_only=True,
        )
        try:
            self._venue.submit(request, lambda: None)
        except (NotSent, VenueRejected) as error:
            self._never_there.add(name)
            state.note(f"flatten {position.ticker}: {error}")
        except VenueAmbiguous as error:
            state.note(f"flatten {position.ticker}: {error}")

    @staticmethod
    def _name(state: StopState, symbol: str, number: int) -> str:
        return f"{FLATTEN_PREFIX}{state.stop_id}-{symbol}-{number}"

    def _is_final(self, name: str) -> bool:
        """An id that the venue does not know may still appear, unless it was refused: then it never will."""
        try:
            return name in self._never_there or self._venue.order_by_client_id(name).state in FINAL
        except VenueError:
            return False
