"""Closing what is held after a stop, where the venue sells whole lots only and fees have left a fraction of one."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from tests.servers.exchange import PAIR, exchange_server, simulated_venue
from tests.support import eventually
from worker.core.types import OrderRequest, OrderType, Side, TimeInForce
from worker.emergency.flatten import Flattener
from worker.emergency.memory import MemoryFile
from worker.emergency.state import StopState
from worker.emergency.switch import Cause


def test_flatten_when_a_fraction_of_a_lot_is_held_sells_the_lots_and_ends(tmp_path: Path) -> None:
    """One that asked for the fraction too would be refused for ever, and the position stay open."""
    with exchange_server(tmp_path) as server, simulated_venue(server) as venue:
        server.set_price(PAIR, Decimal(100))
        buy = OrderRequest("entry", PAIR, Side.BUY, Decimal("0.1234"), OrderType.MARKET, TimeInForce.GTC)
        venue.submit(buy, lambda: None)
        eventually(lambda: venue.positions(), what="the purchase")
        (held,) = venue.positions()
        assert held.qty % Decimal("0.0001")
        state = StopState("s1", Cause("emergency_stop", "test"), "flatten", datetime.now(UTC))
        flattener = Flattener(venue, MemoryFile(tmp_path / "memory.json"), lambda _state: None)
        thread = threading.Thread(target=flattener.run, args=(state, abandoned := threading.Event()), daemon=True)
        thread.start()
        eventually(lambda: state.flatten == "CLOSED", what=f"the end: {state.errors}")
        abandoned.set()
        thread.join(30)
        (rest,) = venue.positions()
        assert rest.qty == held.qty % Decimal("0.0001")
        sold = [e for e in server.engine.book.executions if e.side is Side.SELL]
        assert [e.qty for e in sold] == [held.qty - rest.qty]
