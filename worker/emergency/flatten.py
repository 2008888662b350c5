"""Closing positions after a proven stop, only where configured: reduce-only market orders, one at a time per symbol.

Outside the gate, with ids of their own that are written to disk before they are sent; the next attempt for a symbol
only after the last one is final at the venue. While the session is closed nothing is sent of what has one.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from shared.clock import rfc3339
from shared.errors import NotSent, OrderNotFound, VenueAmbiguous, VenueError, VenueRejected
from worker.core import ids
from worker.core.decide import round_down
from worker.core.order_states import FINAL
from worker.core.types import OrderRequest, OrderType, Side, TimeInForce, VenuePosition
from worker.emergency.memory import MemoryFile
from worker.emergency.state import StopState
from worker.venues.base import Venue

ZERO = Decimal(0)
PERIOD_SECONDS = 1.0
STALE_ROUNDS = 30
"""How long a position is believed to be listed late, after the order that closed it has filled."""
LONGEST_PERIOD_SECONDS = 30.0
PENDING = frozenset({"CLOSING", "QUEUED"})


class Flattener:
    """Goes on where an earlier process, or an earlier run of the same stop, left off: by what stands on disk."""

    def __init__(self, venue: Venue, memory: MemoryFile, publish: Callable[[StopState], None]) -> None:
        self._venue, self._memory, self._publish = venue, memory, publish
        self._sent: dict[str, int] = {}
        self._refused: dict[str, int] = {}
        self._in_lots: set[str] = set()
        self._closing: dict[str, str] = {}
        self._filled: set[str] = set()
        self._waited: dict[str, int] = {}
        self._pause = PERIOD_SECONDS

    def run(self, state: StopState, abandoned: threading.Event) -> None:
        """Until nothing is held, or trading is resumed."""
        self._recall(state)
        while not abandoned.is_set():
            before = state.flatten
            try:
                state.flatten = self._round(state)
            except VenueError as error:
                state.note(f"flatten: {error}")
            if state.flatten != before:
                self._remember(state)
            if state.flatten == "CLOSED":
                state.positions_open, state.positions_unprotected = 0, []
                return
            if state.flatten != before:
                self._publish(state)
            abandoned.wait(self._pause)

    # -- what stands on disk --------------------------------------------------------------------------------------

    def _recall(self, state: StopState) -> None:
        held = self._memory.memory.flatten
        if held is not None and held.get("stop_id") == state.stop_id:
            self._sent, self._refused = _numbers(held.get("sent")), _numbers(held.get("refused"))
            closing = held.get("closing")
            self._closing = dict(closing) if isinstance(closing, dict) else {}
        self._remember(state)

    def _remember(self, state: StopState) -> bool:
        """Whether it is on disk now."""
        self._memory.change(
            flatten={
                "stop_id": state.stop_id,
                "requested_at": rfc3339(state.requested_at),
                "state": state.flatten,
                "sent": dict(self._sent),
                "refused": dict(self._refused),
                "closing": dict(self._closing),
            }
        )
        return self._memory.trusted

    # -- one round ------------------------------------------------------------------------------------------------

    def _round(self, state: StopState) -> str:
        # What is still under way is asked for before the positions: a fill in between would be sold a second time.
        under_way = {symbol for symbol in self._sent if not self._is_over(state, symbol)}
        positions = [p for p in self._venue.positions() if self._sellable(p)]
        if not positions:
            return "CLOSED"
        if not self._venue.clock().is_open:
            positions = [p for p in positions if not self._has_sessions(p)]
            if not positions:
                return "QUEUED"
        free = [p for p in positions if _symbol(p) not in under_way and not self._is_stale(state, p)]
        refused = [p.ticker for p in free if not self._close(state, p)]
        self._pause = min(self._pause * 2, LONGEST_PERIOD_SECONDS) if refused else PERIOD_SECONDS
        return "CLOSING"

    def _has_sessions(self, position: VenuePosition) -> bool:
        """A pair, like BTC/USD, trades day and night where stocks do not."""
        return self._venue.capabilities.sessions and "/" not in position.ticker

    def _is_stale(self, state: StopState, position: VenuePosition) -> bool:
        """Our order has filled and the position is listed as it was before: sold once more, it would be a short one."""
        symbol = _symbol(position)
        if symbol not in self._filled or self._closing.get(symbol) != _size(position):
            return False
        self._waited[symbol] = self._waited.get(symbol, 0) + 1
        state.note(
            f"flatten {position.ticker}: {self._name(state, symbol)} has filled, and the position is still listed"
        )
        return self._waited[symbol] <= STALE_ROUNDS

    def _close(self, state: StopState, position: VenuePosition) -> bool:
        """Send one order that closes it; False where it was not sent or refused."""
        symbol = _symbol(position)
        self._sent[symbol] = self._sent.get(symbol, 0) + 1
        self._closing[symbol] = _size(position)
        self._filled.discard(symbol)
        self._waited.pop(symbol, None)
        name = self._name(state, symbol)
        if not self._remember(state):
            self._sent[symbol] -= 1
            state.note("flatten: the disk does not take the order's id, so it is not sent")
            return False
        side = Side.SELL if position.side == "long" else Side.BUY
        qty = self._sellable(position)
        request = OrderRequest(name, position.ticker, side, qty, OrderType.MARKET, TimeInForce.DAY, reduce_only=True)
        try:
            self._venue.submit(request, lambda: None)
        except (NotSent, VenueRejected) as error:
            self._refused[symbol] = self._sent[symbol]
            if isinstance(error, VenueRejected):
                self._in_lots.add(symbol)
            self._remember(state)
            state.note(f"flatten {position.ticker}: {error}")
            return False
        except VenueAmbiguous as error:
            state.note(f"flatten {position.ticker}: {error}")
        return True

    def _sellable(self, position: VenuePosition) -> Decimal:
        """All of it, and after a refusal whole lots; 0 for a rest of a pair that is less than the venue sells."""
        if _symbol(position) not in self._in_lots:
            return position.qty
        try:
            instrument = self._venue.instrument(position.ticker)
        except VenueError:
            return position.qty
        lots = round_down(position.qty, instrument.lot_size)
        if lots and lots >= instrument.min_qty:
            return lots
        return ZERO if instrument.lot_size < 1 else position.qty

    def _name(self, state: StopState, symbol: str) -> str:
        return f"{ids.FLATTEN_PREFIX}{state.stop_id}-{symbol}-{self._sent[symbol]}"

    def _is_over(self, state: StopState, symbol: str) -> bool:
        """An id that the venue does not know may still appear, unless it was refused: then it never will."""
        if self._refused.get(symbol) == self._sent[symbol]:
            return True
        name = self._name(state, symbol)
        try:
            told = self._venue.order_by_client_id(name)
            if told.filled_qty:
                self._filled.add(symbol)
            return told.state in FINAL
        except OrderNotFound:
            state.note(f"flatten: the venue does not know {name} yet, so nothing more is sent for {symbol}")
        except VenueError as error:
            state.note(f"flatten {name}: {error}")
        return False


def _size(position: VenuePosition) -> str:
    return str(position.signed_qty.normalize())


def _symbol(position: VenuePosition) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", position.ticker)[:12]


def _numbers(found: object) -> dict[str, int]:
    rows: Mapping[Any, Any] = found if isinstance(found, Mapping) else {}
    return {str(symbol): number for symbol, number in rows.items() if isinstance(number, int)}
