"""Alpaca takes the fee of a crypto purchase from the coin and tells it nowhere: estimated at once, corrected by the
position, and never a drift."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tests.builders import order
from tests.integration.alpaca.support import go, limit_order
from tests.servers.alpaca import AlpacaServer
from worker.core.orders import Order
from worker.core.types import Effect, Execution, OrderState, Side, TimeInForce
from worker.trading.book import RedisBook
from worker.trading.reconcile import Snapshot
from worker.venues.alpaca import AlpacaVenue
from worker.venues.alpaca.fees import TAKER_RATES, CryptoFees

Look = Callable[..., Snapshot]
PAIR, ENTRY, EXIT = "BTC/USD", "sbe1r0123456789", "sbx1r0123456789"
LEAST = Decimal("0.0001")


def placed(venue: AlpacaVenue, book: RedisBook, name: str, side: Side, qty: str) -> None:
    """An order of ours at the venue and in the book."""
    effect = Effect.ENTRY if side is Side.BUY else Effect.EXIT
    ours: Order = order(
        name, ticker=PAIR, side=side, effect=effect, qty=Decimal(qty), state=OrderState.SUBMITTED,
        created_at=datetime.now(UTC), position_id=ENTRY, least_qty=LEAST,
    )  # fmt: skip
    book.adopt(ours)
    venue.submit(limit_order(client_order_id=name, ticker=PAIR, side=side, qty=Decimal(qty)), go)


def entered(server: AlpacaServer, venue: AlpacaVenue, book: RedisBook) -> None:
    placed(venue, book, ENTRY, Side.BUY, "2")
    server.fill(ENTRY, "2", "100")


@pytest.mark.parametrize("tier", [None, "1", "8", "new"])
def test_fee_when_no_fill_tells_it_is_the_takers_of_the_accounts_tier(tier: str | None) -> None:
    fees, rate = CryptoFees(), TAKER_RATES.get(str(tier), Decimal("0.0025"))
    fees.learn({} if tier is None else {"crypto_tier": tier})
    now = datetime.now(UTC)
    fill = Execution("x", "v", None, PAIR, Side.BUY, Decimal("0.123456789"), Decimal(50_000), Decimal(0), now)
    bought = fees.charged(fill)
    assert bought.fee_currency == "BTC"
    assert 0 <= bought.base_fee - fill.qty * rate < Decimal("1e-9")
    sold = fees.charged(Execution("x", "v", None, PAIR, Side.SELL, Decimal(2), Decimal(50_000), Decimal(0), now))
    assert (sold.quote_fee, sold.base_fee) == (100_000 * rate, 0)
    stock = Execution("x", "v", None, "AAPL", Side.BUY, Decimal(2), Decimal(100), Decimal(0), now)
    assert fees.charged(stock) is stock
    known = Execution("x", "v", None, PAIR, Side.BUY, Decimal(2), Decimal(100), Decimal("0.1"), now)
    assert fees.charged(known) is known


def test_order_when_it_is_for_a_pair_is_never_for_the_day(server: AlpacaServer, venue: AlpacaVenue) -> None:
    """Alpaca takes gtc and ioc for crypto, and refuses day."""
    for ticker, wanted in ((PAIR, "gtc"), ("AAPL", "day")):
        request = limit_order(client_order_id=f"sbe1r-{wanted}", ticker=ticker, time_in_force=TimeInForce.DAY)
        assert server.orders[venue.submit(request, go).venue_order_id]["time_in_force"] == wanted


@pytest.mark.parametrize("rate", ["0.0025", "0.0015", "0", "0.0087"])
def test_position_when_its_fee_was_not_told_is_what_the_venue_holds_and_no_drift(
    server: AlpacaServer, venue: AlpacaVenue, book: RedisBook, look: Look, rate: str
) -> None:
    """At the estimate, a maker's, none as some paper accounts, and more than ever."""
    server.crypto_fee = Decimal(rate)
    entered(server, venue, book)
    for _ in range(3):
        snapshot = look()
        assert (snapshot.drift, snapshot.external) == ("", frozenset())
    (position,) = book.open_positions()
    assert position.quantity == server.held[PAIR][0] == 2 - 2 * server.crypto_fee
    placed(venue, book, EXIT, Side.SELL, str(position.quantity))
    server.fill(EXIT, str(position.quantity), "110")
    snapshot = look(2)
    assert (snapshot.drift, snapshot.external, book.open_positions()) == ("", frozenset(), [])
    assert server.held[PAIR][0] == 0
    stats = book.stats()
    estimated = position.quantity * 110 * (Decimal("0.0025") - server.crypto_fee)
    assert stats.total.pnl == server.cash - 100_000 - estimated


def test_position_when_its_exit_works_is_corrected_all_the_same(
    server: AlpacaServer, venue: AlpacaVenue, book: RedisBook, look: Look
) -> None:
    """An exit that works hides its ticker from the comparison with the venue, and would do so for its whole life."""
    server.crypto_fee = Decimal("0.0015")
    entered(server, venue, book)
    look()
    placed(venue, book, EXIT, Side.SELL, "1.995")
    look(2)
    assert [p.quantity for p in book.open_positions()] == [Decimal("1.997")]


def test_rest_when_a_position_closed_on_an_estimate_is_ours_to_sell(
    server: AlpacaServer, venue: AlpacaVenue, book: RedisBook, look: Look
) -> None:
    """What the fee was less than estimated would else be taken for somebody else's, and close the pair to entries."""
    server.crypto_fee = Decimal("0.0015")
    entered(server, venue, book)
    look()
    placed(venue, book, EXIT, Side.SELL, "1.995")
    server.fill(EXIT, "1.995", "110")
    look()
    assert book.open_positions() == []
    snapshot = look(2)
    assert (snapshot.drift, snapshot.external) == ("", frozenset())
    assert [p.quantity for p in book.open_positions()] == [Decimal("0.002")]


def test_quantity_when_more_is_missing_than_a_fee_takes_is_a_drift(
    server: AlpacaServer, venue: AlpacaVenue, book: RedisBook, look: Look
) -> None:
    entered(server, venue, book)
    look()
    held, cost = server.held[PAIR]
    server.held[PAIR] = (held - Decimal("0.05"), cost)
    assert "at the venue" in look(2).drift
    assert [p.base_fees for p in book.open_positions()] == [Decimal("0.005")]


def test_purchase_when_by_hand_beside_ours_counts_for_others_net_of_its_fee(
    server: AlpacaServer, venue: AlpacaVenue, book: RedisBook, look: Look
) -> None:
    entered(server, venue, book)
    look()
    server.by_hand(PAIR, "buy", "1", "100")
    snapshot = look(2)
    assert (snapshot.drift, snapshot.external) == ("", frozenset({PAIR}))
    assert book.exposure() == {PAIR: Decimal("0.9975")}
    assert [p.quantity for p in book.open_positions()] == [Decimal("1.995")]


def test_dust_when_it_is_left_is_neither_drift_nor_others_and_is_counted_once_more_when_sold(
    server: AlpacaServer, venue: AlpacaVenue, book: RedisBook, look: Look
) -> None:
    server.crypto_fee = Decimal("0.00252")
    placed(venue, book, ENTRY, Side.BUY, "1")
    server.fill(ENTRY, "1", "100")
    look(3)
    (position,) = book.open_positions()
    sold = position.quantity // LEAST * LEAST
    assert position.quantity - sold == Decimal("0.00008")
    placed(venue, book, EXIT, Side.SELL, str(sold))
    server.fill(EXIT, str(sold), "110")
    for _ in range(3):
        snapshot = look()
        assert (snapshot.drift, snapshot.external, book.open_positions()) == ("", frozenset(), [])
    assert book.dust() == {PAIR: Decimal("0.00008")}
    snapshot = look(2, new=True)  # a restart knows it too
    assert (snapshot.drift, snapshot.external) == ("", frozenset())
    server.by_hand(PAIR, "sell", "0.00008", "110")
    snapshot = look(3)
    assert (snapshot.drift, snapshot.external) == ("", frozenset())
    assert datetime.now(UTC) - snapshot.read_at < timedelta(minutes=1)
