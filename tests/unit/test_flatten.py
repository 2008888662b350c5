"""Closing positions after a stop: never more is sold than is held, whatever the venue lists late."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest

from shared.errors import OrderNotFound
from tests.support import eventually
from worker.core.types import MarketClock, OrderRequest, OrderState, Side, VenueOrder, VenuePosition
from worker.emergency import flatten
from worker.emergency.flatten import Flattener
from worker.emergency.memory import MemoryFile
from worker.emergency.state import StopState
from worker.emergency.switch import Cause
from worker.venues.base import Capabilities, Venue

NOW = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)


class LateList:
    """Fills at once, and lists the position as it was for ``late`` more looks."""

    def __init__(self, late: int, filled: str = "10") -> None:
        self.late, self.filled = late, Decimal(filled)
        self.held = Decimal(10)
        self.sent: dict[str, VenueOrder] = {}

    def positions(self) -> list[VenuePosition]:
        shown = self.held
        if self.sent and self.late:
            self.late -= 1
            shown = Decimal(10)
        one = Decimal(1)
        return [VenuePosition("AAPL", abs(shown), "long" if shown > 0 else "short", one, one, one)] if shown else []

    def clock(self) -> MarketClock:
        return MarketClock(NOW, is_open=True)

    def submit(self, request: OrderRequest, _guard: Any) -> VenueOrder:
        qty = min(self.filled, request.qty)
        state = OrderState.FILLED if qty == request.qty else OrderState.CANCELED
        name = request.client_order_id
        told = VenueOrder(name, name, request.ticker, request.side, request.qty, state, filled_qty=qty)
        self.sent[name] = told
        self.held += request.side.sign * qty
        return told

    def order_by_client_id(self, name: str) -> VenueOrder:
        if name not in self.sent:
            raise OrderNotFound(name)
        return self.sent[name]


def close(venue: LateList, path: Path, monkeypatch: pytest.MonkeyPatch) -> StopState:
    monkeypatch.setattr(flatten, "PERIOD_SECONDS", 0.001)
    state = StopState("12345678", Cause("emergency_stop", "trading_settings", ""), "flatten", NOW, flatten="CLOSING")
    memory = MemoryFile(path / "emergency.json")
    closing = Flattener(cast("Venue", venue), memory, lambda _state: None)
    closing._pause = 0.001
    done = threading.Thread(target=closing.run, args=(state, threading.Event()), daemon=True)
    done.start()
    done.join(30)
    assert not done.is_alive()
    memory.close()
    return state


def test_flatten_when_the_closed_position_is_listed_late_sells_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sold twice, a position that was to be closed is a short one."""
    venue = LateList(late=5)
    state = close(venue, tmp_path, monkeypatch)
    assert (len(venue.sent), venue.held, state.flatten) == (1, Decimal(0), "CLOSED")
    assert any("still listed" in error for error in state.errors)


def test_flatten_when_an_order_fills_in_part_sells_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    venue = LateList(late=2, filled="4")
    state = close(venue, tmp_path, monkeypatch)
    assert [o.qty for o in venue.sent.values()] == [Decimal(10), Decimal(6), Decimal(2)]
    assert (venue.held, state.flatten) == (Decimal(0), "CLOSED")


class Closed:
    """The session of stocks is closed; pairs trade."""

    capabilities = Capabilities(sessions=True)

    def __init__(self) -> None:
        self.held = {"AAPL": Decimal(3), "BTC/USD": Decimal("0.5")}
        self.sent: list[str] = []

    def positions(self) -> list[VenuePosition]:
        one = Decimal(1)
        return [VenuePosition(name, qty, "long", one, one, one) for name, qty in self.held.items()]

    def clock(self) -> MarketClock:
        return MarketClock(NOW, is_open=False)

    def submit(self, request: OrderRequest, _guard: Any) -> VenueOrder:
        self.sent.append(request.ticker)
        self.held.pop(request.ticker)
        name = request.client_order_id
        return VenueOrder(
            name, name, request.ticker, request.side, request.qty, OrderState.FILLED, filled_qty=request.qty
        )

    def order_by_client_id(self, name: str) -> VenueOrder:
        return VenueOrder(name, name, "BTC/USD", Side.SELL, Decimal("0.5"), OrderState.FILLED)


def test_flatten_when_the_session_is_closed_closes_what_has_none_and_waits_with_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A coin falls on a weekend too."""
    monkeypatch.setattr(flatten, "PERIOD_SECONDS", 0.001)
    venue, abandoned = Closed(), threading.Event()
    state = StopState("12345678", Cause("emergency_stop", "trading_settings", ""), "flatten", NOW, flatten="CLOSING")
    memory = MemoryFile(tmp_path / "emergency.json")
    closing = Flattener(cast("Venue", venue), memory, lambda _state: None)
    closing._pause = 0.001
    done = threading.Thread(target=closing.run, args=(state, abandoned), daemon=True)
    done.start()
    eventually(lambda: state.flatten == "QUEUED", what="stocks wait")
    abandoned.set()
    done.join(30)
    assert (venue.sent, list(venue.held)) == (["BTC/USD"], ["AAPL"])
    memory.close()
