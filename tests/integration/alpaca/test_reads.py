"""A read that went wrong says so: an empty list is told only where the account is empty."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.errors import OrderNotFound, VenueUnavailable
from tests.contract.cases_alpaca import alpaca_venue, minutes
from tests.integration.alpaca.support import dripping, error, go, limit_order, lines, listener
from tests.servers.alpaca import AlpacaServer
from worker.core.types import Bar, Side
from worker.venues.alpaca import AlpacaVenue
from worker.venues.base import PartlyRead

SINCE = datetime(2022, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)

READS: dict[str, tuple[str, Callable[[AlpacaVenue], object]]] = {
    "open_orders": ("GET /v2/orders", lambda v: v.open_orders()),
    "orders_since": ("GET /v2/orders", lambda v: v.orders_since(SINCE)),
    "order_by_client_id": ("GET /v2/orders:by_client_order_id", lambda v: v.order_by_client_id("known")),
    "fills_since": ("GET /v2/account/activities/FILL", lambda v: v.fills_since(SINCE)),
    "positions": ("GET /v2/positions", lambda v: v.positions()),
    "account": ("GET /v2/account", lambda v: v.account()),
    "clock": ("GET /v2/clock", lambda v: v.clock()),
    "instrument": ("GET /v2/assets/AAPL", lambda v: v.instrument("AAPL")),
    "last_price": ("GET /v2/stocks/trades/latest", lambda v: v.last_price("AAPL")),
    "last_price_crypto": ("GET /v1beta3/crypto/us/latest/trades", lambda v: v.last_price("BTC/USD")),
    "bars": ("GET /v2/stocks/bars", lambda v: v.bars(["AAPL"], 5, NOW)),
    "bars_crypto": ("GET /v1beta3/crypto/us/bars", lambda v: v.bars(["BTC/USD"], 5, NOW)),
    "cancel_all": ("DELETE /v2/orders", lambda v: v.cancel_all()),
}

LIES = [
    400,
    429,
    500,
    502,
    504,
    "reset",
    "",
    "null",
    "{}",
    '""',
    "0",
    "[null]",
    "[{}]",
    '[{"id": "5b7a',
    "<html>upstream</html>",
    "[" * 100_000,
    (302, ""),
    (302, "[]"),
    (401, error(40110000, "request is not authorized")),
    (403, error(40310000, "forbidden")),
    (404, "<html>not found</html>"),
    (404, error(40410001, "another code")),
    (429, error(42910000, "rate limit exceeded")),
]


@pytest.mark.parametrize("read", READS)
def test_read_when_lied_to_is_unavailable_and_asked_once(server: AlpacaServer, venue: AlpacaVenue, read: str) -> None:
    """No retry either: a stop that waits 9 s for alpaca-py to try three times more is no stop."""
    route, ask = READS[read]
    if read in {"fills_since", "instrument", "clock"}:
        ask(venue)  # once an endpoint was there, its absence is a failure
        server.requests.clear()
    server.lie(route, *LIES)
    for lie in LIES:
        with pytest.raises(VenueUnavailable):
            pytest.fail(f"{read} told {lie!r} answered {ask(venue)!r}")
    assert server.requests[route] == len(LIES)
    assert server.requests["GET /v2/elsewhere"] == 0


def test_read_when_the_structured_404_is_not_about_an_order_is_unavailable(
    server: AlpacaServer, venue: AlpacaVenue
) -> None:
    """OrderNotFound is a statement about one order; anywhere else it would be taken for an answer."""
    for read, (route, ask) in READS.items():
        if read == "order_by_client_id":
            continue
        server.lie(route, (404, error(40410000, "not found")))
        with pytest.raises(VenueUnavailable):
            ask(venue)


def test_order_by_client_id_when_the_404_is_structured_is_not_found_and_as_html_is_not(
    server: AlpacaServer, venue: AlpacaVenue
) -> None:
    with pytest.raises(OrderNotFound):
        venue.order_by_client_id("never-seen")
    server.lie("GET /v2/orders:by_client_order_id", (404, "<html>no such host</html>"))
    with pytest.raises(VenueUnavailable):
        venue.order_by_client_id("never-seen")


def test_order_by_client_id_when_told_another_order_is_unavailable(server: AlpacaServer, venue: AlpacaVenue) -> None:
    other = server.foreign_order()
    server.lie("GET /v2/orders:by_client_order_id", json.dumps(other))
    with pytest.raises(VenueUnavailable, match="another order"):
        venue.order_by_client_id(limit_order().client_order_id)


def test_read_when_the_venue_never_answers_gives_up_by_itself() -> None:
    with listener() as (_, venue), pytest.raises(VenueUnavailable):
        venue.open_orders()


def test_read_when_the_answer_drips_gives_up_by_itself() -> None:
    """The status and headers come at once, the list never ends; a stop must not hang on it."""
    with dripping("[]", headers_first=True) as venue, pytest.raises(VenueUnavailable):
        venue.open_orders()


def test_orders_when_pages_are_short_are_all_read_oldest_first(server: AlpacaServer, venue: AlpacaVenue) -> None:
    """An order missed on page two is one that a stop leaves working."""
    since = datetime.now(UTC) - timedelta(seconds=1)
    names = [venue.submit(limit_order(), go).client_order_id for _ in range(7)]
    names.append(server.foreign_order()["client_order_id"])
    server.page_size = 3
    assert [o.client_order_id for o in venue.open_orders()] == names
    assert [o.client_order_id for o in venue.orders_since(since)] == names
    assert venue.orders_since(datetime.now(UTC) + timedelta(minutes=1)) == []


def test_orders_when_a_later_page_fails_are_unavailable_as_a_whole(server: AlpacaServer, venue: AlpacaVenue) -> None:
    for _ in range(4):
        venue.submit(limit_order(), go)
    server.page_size = 2
    newest = list(server.orders.values())[:1:-1]
    server.lie("GET /v2/orders", json.dumps(newest), 500)
    with pytest.raises(PartlyRead) as caught:
        venue.open_orders()
    assert sorted(o.venue_order_id for o in caught.value.found) == sorted(row["id"] for row in newest)


def test_orders_when_one_of_them_cannot_be_read_are_unavailable_with_the_others_and_its_id(
    server: AlpacaServer, venue: AlpacaVenue
) -> None:
    """A stop cancels those: one mangled row must not keep a hundred orders working, and its own id is enough."""
    for _ in range(3):
        venue.submit(limit_order(), go)
    rows = list(server.orders.values())
    odd = {**rows[1], "status": "teleported", "created_at": [], "submitted_at": "soon"}
    server.lie("GET /v2/orders", json.dumps([rows[0], odd, rows[2], None, {"id": 7}, {"id": ""}]))
    with pytest.raises(PartlyRead) as caught:
        venue.open_orders()
    found = {o.venue_order_id: o.client_order_id for o in caught.value.found}
    assert found == {row["id"]: row["client_order_id"] for row in rows}


def test_orders_when_full_pages_repeat_for_ever_are_unavailable(server: AlpacaServer, venue: AlpacaVenue) -> None:
    order = server.foreign_order()
    page = json.dumps([order] * 500)
    server.lie("GET /v2/orders", page, page, page)
    with pytest.raises(VenueUnavailable, match="no end"):
        venue.open_orders()


def test_orders_when_the_page_size_is_not_kept_are_all_there(server: AlpacaServer, venue: AlpacaVenue) -> None:
    """An address in Alpaca's place that knows no pages tells all at once, and the same again."""
    order = server.foreign_order()
    page = json.dumps([{**order, "id": f"{number:036d}"} for number in range(600)])
    server.lie("GET /v2/orders", page, page)
    assert len(venue.open_orders()) == 600
    fill = {
        "activity_type": "FILL",
        "transaction_time": "2026-01-05T15:00:00Z",
        **{"order_id": order["id"], "symbol": "AAPL", "side": "buy", "qty": "1", "price": "100"},
    }
    server.fills.extend({**fill, "id": f"20260105::{number}"} for number in range(150))
    page = json.dumps(server.fills)
    server.lie("GET /v2/account/activities/FILL", page, page)
    assert len(venue.fills_since(datetime(2026, 1, 1, tzinfo=UTC))) == 150


def test_fills_when_pages_are_short_are_all_read_oldest_first(server: AlpacaServer, venue: AlpacaVenue) -> None:
    since = datetime.now(UTC) - timedelta(seconds=1)
    placed = venue.submit(limit_order(), go)
    for cents in range(8):
        server.fill(placed.client_order_id or "", "0.25", f"50.0{cents}")
    server.page_size = 3
    fills = venue.fills_since(since)
    assert [str(f.price) for f in fills] == [f"50.0{cents}" for cents in range(8)]
    assert [f.execution_id for f in fills] == [f["id"].partition("::")[2] for f in server.fills]
    assert {(f.venue_order_id, f.side, f.derived) for f in fills} == {(placed.venue_order_id, Side.BUY, True)}


@pytest.mark.parametrize("change", [{"qty": "-1"}, {"price": "NaN"}, {"side": None}, {"transaction_time": "soon"}])
def test_fills_when_one_of_them_makes_no_sense_are_the_others(
    server: AlpacaServer, venue: AlpacaVenue, change: dict[str, object]
) -> None:
    """Its order tells what has filled; an account that cannot be read trades nothing, not even its exits."""
    placed = venue.submit(limit_order(), go)
    since = datetime.now(UTC) - timedelta(seconds=1)
    for cents in range(3):
        server.fill(placed.client_order_id or "", "0.25", f"50.0{cents}")
    server.fills[1] |= change
    assert [str(f.price) for f in venue.fills_since(since)] == ["50.00", "50.02"]


def test_bars_when_paged_are_the_last_complete_ones_of_each_ticker(server: AlpacaServer, venue: AlpacaVenue) -> None:
    server.bars = {"AAPL": minutes(90), "MSFT": minutes(60, 200.0), "BTC/USD": minutes(50, 60000.0)}
    until = datetime.now(UTC)
    found = venue.bars(["AAPL", "MSFT", "BTC/USD", "SPY"], 55, until)
    assert {ticker: len(bars) for ticker, bars in found.items()} == {"AAPL": 55, "MSFT": 55, "BTC/USD": 50, "SPY": 0}
    for bars in found.values():
        assert [b.start for b in bars] == sorted({b.start for b in bars})
        assert all(b.start + timedelta(minutes=1) <= until for b in bars)
    assert {b.open for b in found["MSFT"]} == {200.0}


def test_bars_when_their_minute_is_not_over_are_left_out(server: AlpacaServer, venue: AlpacaVenue) -> None:
    row: dict[str, Any] = {"t": "2026-01-05T14:58:00Z", "o": 1.0, "h": 2.0, "l": 0.5, "c": 1.5, "v": 10}
    server.bars = {"AAPL": [row, {**row, "t": "2026-01-05T14:59:00Z"}, {**row, "t": "2026-01-05T15:00:00Z"}]}
    starts = [b.start for b in venue.bars(["AAPL"], 5, NOW)["AAPL"]]
    assert starts == [NOW - timedelta(minutes=2), NOW - timedelta(minutes=1)]
    assert venue.bars(["AAPL"], 5, NOW - timedelta(seconds=1))["AAPL"] == [
        Bar(NOW - timedelta(minutes=2), 1.0, 2.0, 0.5, 1.5, 10.0)
    ]


@pytest.mark.parametrize("price", ["0", "0.0", "-1", "NaN", "Infinity", "-Infinity", "1e400", "null", '"NaN"', "true"])
def test_last_price_when_it_is_no_price_is_unavailable(server: AlpacaServer, venue: AlpacaVenue, price: str) -> None:
    body = f'{{"trades": {{"AAPL": {{"t": "2026-01-05T15:00:00Z", "p": {price}}}}}}}'
    server.lie("GET /v2/stocks/trades/latest", body)
    with pytest.raises(VenueUnavailable):
        venue.last_price("AAPL")


def test_positions_when_crypto_is_held_name_the_pair(server: AlpacaServer, venue: AlpacaVenue) -> None:
    """Alpaca says BTCUSD here and BTC/USD everywhere else."""
    server.set_price("BTC/USD", "60000")
    wanted = limit_order(ticker="BTC/USD", limit_price=limit_order().limit_price * 2000, qty=limit_order().qty / 4)
    placed = venue.submit(wanted, go)
    server.set_price("BTC/USD", "61000")
    assert venue.order_by_client_id(placed.client_order_id or "").filled_qty == wanted.qty
    assert server.held["BTC/USD"][0] == wanted.qty * (1 - server.crypto_fee)
    assert [(p.ticker, p.signed_qty) for p in venue.positions()] == [("BTC/USD", server.held["BTC/USD"][0])]


def test_reads_when_told_what_was_recorded_make_sense(server: AlpacaServer, venue: AlpacaVenue, data: Path) -> None:
    rows = lines(data / "alpaca/real_account_clock_fill_crypto.jsonl")
    for row in rows:
        server.lie(row["endpoint"], (200, json.dumps(row["body"])))
    server.lie("GET /v2/account/activities/FILL", (200, "[]"))
    account, clock = venue.account(), venue.clock()
    assert (str(account.equity), str(account.cash), str(account.buying_power)) == ("48.61", "5.92", "5.92")
    assert (account.currency, account.trading_blocked) == ("USD", False)
    assert clock.now == datetime(2024, 7, 18, 8, 10, 33, 389152, tzinfo=UTC)
    assert clock.next_open == datetime(2024, 7, 18, 13, 30, tzinfo=UTC)
    assert clock.is_open is False
    (fill,) = venue.fills_since(SINCE)
    assert (fill.ticker, fill.side, str(fill.qty), str(fill.price)) == ("LTC/USD", Side.SELL, "0.07", "67.31")
    assert fill.execution_id == "ca2aafd0-1270-4b56-b0a9-85423b4a07c8"
    (bar,) = venue.bars(["BTC/USD"], 5, datetime(2024, 7, 18, 5, 3, tzinfo=UTC))["BTC/USD"]
    assert (bar.open, bar.high, bar.low, bar.close, bar.volume) == (64625.4, 64625.4, 64598.55, 64616.2175, 0.015155213)


def test_clock_when_only_crypto_trades_is_always_open(server: AlpacaServer) -> None:
    server.is_open = False
    venue = alpaca_venue(server, crypto_only=True)
    told = venue.clock()
    assert (told.is_open, told.next_open, told.next_close) == (True, None, None)
    assert venue.capabilities.sessions is False
    venue.close()
