"""Orders of every kind that Alpaca has, in the account of a trader: shown, accounted for, never in its way."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from shared.clock import ManualClock, TradingCalendar
from tests.builders import order
from tests.integration.alpaca.support import go, limit_order, lines
from tests.servers.alpaca import OPEN, AlpacaServer
from worker.core.orders import Order
from worker.core.types import OrderState
from worker.trading.book import RedisBook
from worker.trading.reconcile import Snapshot
from worker.venues.alpaca import AlpacaVenue

S = OrderState
Look = Callable[..., Snapshot]
CALENDAR = TradingCalendar(ZoneInfo("UTC"))
ENTRY = "sbe1r0123456789"


def known(book: RedisBook, shown: dict[str, Any]) -> Order:
    found = book.order(shown["id"])
    assert found is not None
    assert found.is_external
    return found


def ours(server: AlpacaServer, venue: AlpacaVenue, book: RedisBook, qty: str = "2", price: str = "100.00") -> None:
    """An entry of ours, filled and in the book."""
    book.adopt(order(qty=Decimal(qty), state=S.SUBMITTED, created_at=datetime.now(UTC)))
    venue.submit(limit_order(client_order_id=ENTRY, qty=Decimal(qty)), go)
    server.fill(ENTRY, qty, price)


def test_bracket_when_it_lives_is_three_orders_of_others_whose_fills_count(
    server: AlpacaServer, book: RedisBook, look: Look
) -> None:
    parent, profit, stop = server.bracket("AAPL", "3", "100.00", "105.00", "95.00")
    look()
    assert [known(book, o).state for o in (parent, profit, stop)] == [S.ACCEPTED] * 3
    server.fill(parent["client_order_id"], "3", "99.50")
    assert look(2).external == frozenset({"AAPL"})
    assert (known(book, parent).filled_qty, book.exposure()) == (3, {"AAPL": Decimal(3)})
    assert {o.client_order_id for o in book.open_orders()} == {profit["id"], stop["id"]}
    server.fill(profit["client_order_id"], "3", "105.00")
    snapshot = look(2)
    assert (snapshot.external, snapshot.drift) == (frozenset(), "")
    assert known(book, profit).filled_notional == Decimal(315)
    assert known(book, stop).state is S.CANCELED  # which no stream told
    assert book.open_orders() == []


def test_bracket_leg_when_it_sells_what_we_hold_closes_our_position(
    server: AlpacaServer, venue: AlpacaVenue, book: RedisBook, look: Look
) -> None:
    """The owner protects our position by hand: its stop fills."""
    ours(server, venue, book)
    look()
    leg = server.add(side="sell", qty="2", type="stop", stop_price="95", order_class="oco", status="held")
    look()
    assert known(book, leg).state is S.ACCEPTED
    server.fill(leg["client_order_id"], "2", "94.90")
    assert look(2).drift == ""
    assert book.open_positions() == []
    assert book.stats().total.pnl == Decimal("-10.20")


def test_bracket_when_recorded_at_a_paper_account_is_accounted_for(
    server: AlpacaServer, book: RedisBook, look: Look, data: Path
) -> None:
    found = json.loads((data / "alpaca/real_bracket_order_filled_TSLA_20230612a.json").read_text())
    parent: dict[str, Any] = found["body"][0]
    entry, profit, stop = parent, *parent["legs"]
    server.orders[parent["id"]] = parent
    for number, filled in enumerate((entry, profit)):
        server.fills.append(
            {
                "id": f"2023061216000000{number}::x{number}",
                "activity_type": "FILL",
                "transaction_time": filled["filled_at"],
                "price": filled["filled_avg_price"],
                "qty": filled["filled_qty"],
                "side": filled["side"],
                "symbol": "TSLA",
                "order_id": filled["id"],
            }
        )
    snapshot = look(3, clock=ManualClock(datetime(2023, 6, 12, 17, tzinfo=UTC)))
    assert [(known(book, o).state, known(book, o).filled_notional) for o in (entry, profit)] == [
        (S.FILLED, Decimal("2461.50")),
        (S.FILLED, Decimal("2470.090")),
    ]
    assert book.order(stop["id"]) is None  # it never filled nor worked while we looked
    assert (snapshot.external, snapshot.drift, sum(book.exposure().values())) == (frozenset(), "", 0)


def test_order_by_notional_when_it_fills_is_known_by_what_it_filled(
    server: AlpacaServer, book: RedisBook, look: Look
) -> None:
    placed = server.add(qty=None, notional="500", status="new")
    look()
    assert (known(book, placed).state, known(book, placed).filled_qty) == (S.ACCEPTED, 0)
    server.fill(placed["client_order_id"], "1.234567891", "200.05")
    look()
    assert (known(book, placed).state, known(book, placed).filled_qty) == (S.PARTIALLY_FILLED, Decimal("1.234567891"))
    server.fill(placed["client_order_id"], "1.264807157", "200.00")
    server.orders[placed["id"]]["status"] = "filled"
    assert look(2).external == frozenset({"AAPL"})
    found = known(book, placed)
    assert (found.state, found.qty, found.filled_qty) == (S.FILLED, Decimal("2.499375048"), Decimal("2.499375048"))
    assert found.filled_notional == Decimal("1.234567891") * Decimal("200.05") + Decimal("1.264807157") * 200
    assert book.exposure() == {"AAPL": Decimal("2.499375048")}


def test_position_when_a_hand_sells_a_fraction_keeps_the_exact_rest(
    server: AlpacaServer, venue: AlpacaVenue, book: RedisBook, look: Look
) -> None:
    ours(server, venue, book)
    look()
    server.by_hand("AAPL", "sell", "0.123456789", "101.37")
    assert look(2).drift == ""
    assert [p.quantity for p in book.open_positions()] == [Decimal("1.876543211")]
    server.by_hand("AAPL", "sell", "1.876543211", "99.99")
    assert look(2).drift == ""
    sold = Decimal("0.123456789") * Decimal("101.37") + Decimal("1.876543211") * Decimal("99.99")
    assert book.stats().total.pnl == sold - 200


@pytest.mark.parametrize("status", ["stopped", "suspended", "calculated", "done_for_day", "held", "pending_replace"])
def test_order_of_others_when_in_any_working_status_is_shown_and_cancelled_by_a_stop(
    server: AlpacaServer, venue: AlpacaVenue, book: RedisBook, look: Look, status: str
) -> None:
    placed = server.add(status=status)
    look(2)
    assert (known(book, placed).state, len(book.open_orders())) == (S.ACCEPTED, 1)
    venue.cancel_all()
    look()
    assert known(book, placed).state is S.CANCELED


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("away", [False, True])
def test_order_when_replaced_by_hand_goes_on_as_ours_under_its_new_id(
    server: AlpacaServer, venue: AlpacaVenue, book: RedisBook, look: Look, steps: int, away: bool
) -> None:
    book.adopt(order(qty=Decimal(2), state=S.SUBMITTED, created_at=datetime.now(UTC)))
    venue.submit(limit_order(client_order_id=ENTRY), go)
    look()
    last = next(o for o in server.orders.values() if o["client_order_id"] == ENTRY)
    for _ in range(steps):
        new = server.add(type="limit", limit_price="51.00", qty="3", status="new", replaces=last["id"])
        last.update(status="replaced", replaced_by=new["id"])
        last = new
    if not away:
        look(2)
    server.fill(last["client_order_id"], "3", "51.00")
    assert look(2, new=away).drift == ""
    assert book.order(ENTRY).state is S.REPLACED  # type: ignore[union-attr]
    found = book.order(last["client_order_id"])
    assert found is not None
    assert (found.bot_id, found.state, found.filled_qty) == ("1", S.FILLED, 3)
    assert [(p.id, p.quantity) for p in book.open_positions()] == [(ENTRY, 3)]
    assert (book.exposure(), book.open_orders()) == ({}, [])


def test_account_when_it_holds_every_recorded_order_is_reconciled(
    server: AlpacaServer, book: RedisBook, look: Look, data: Path
) -> None:
    """The library's own examples, as they stand: JSON numbers, unknown symbols, no prices."""
    rows = [row["body"] for row in lines(data / "alpaca/alpaca-py_trading_client_mocks.jsonl")]
    orders = [o for body in rows for o in (body if isinstance(body, list) else [body]) if _is_order(o)]
    assert len(orders) > 5
    for number, found in enumerate(orders):
        name = f"00000000-0000-4000-8000-{number:012d}"
        server.orders[name] = found | {"id": name, "client_order_id": name}
    working = {n for n, o in server.orders.items() if o["status"] in OPEN}
    look(2)
    assert {o.client_order_id for o in book.open_orders()} == working
    server.orders["spread"] = {
        **orders[0],
        "id": "spread",
        "symbol": "",
        "side": "",
        "status": "new",
        "order_class": "mleg",
        "legs": [orders[0] | {"id": f"leg-{n}", "status": "new", "symbol": f"SPY26030{n}C00600000"} for n in (1, 2)],
    }
    look(2)
    assert {o.client_order_id for o in book.open_orders()} == working | {"spread", "leg-1", "leg-2"}


def _is_order(body: object) -> bool:
    return isinstance(body, dict) and {"id", "client_order_id", "order_class", "submitted_at"} <= body.keys()
