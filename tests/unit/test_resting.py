"""Orders at rest: their sums and the prices that reach them are those that looking through all of them would give."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from worker.core.resting import Resting, RestingOrders
from worker.core.types import OrderRequest, OrderState, OrderType, Side, VenueOrder

NOW = datetime(2026, 1, 5, 15, tzinfo=UTC)
TICKERS = ("AAPL", "MSFT")
prices = st.integers(90, 110).map(Decimal)
steps = st.lists(
    st.tuples(
        st.sampled_from(["buy", "sell", "market buy", "market sell", "pair", "fill", "remove", "price"]),
        st.sampled_from(TICKERS),
        prices,
        st.integers(2, 9),
    ),
    max_size=40,
)


def placed(name: str, ticker: str, kind: str, price: Decimal, qty: int) -> tuple[VenueOrder, OrderRequest]:
    market = kind.startswith("market")
    side = Side.BUY if kind.endswith("buy") else Side.SELL
    request = OrderRequest(
        name,
        ticker,
        side,
        Decimal(qty),
        OrderType.MARKET if market else OrderType.LIMIT,
        limit_price=None if market else price,
        stop_price=price - 5 if kind == "pair" else None,
    )
    order = VenueOrder(name, name, ticker, side, request.qty, OrderState.ACCEPTED, limit_price=request.limit_price)
    return order, request


def may_fill(item: Resting, price: Decimal) -> bool:
    request = item.request
    if item.triggered or request.limit_price is None:
        return True
    if request.side is Side.BUY:
        return price <= request.limit_price
    return price >= request.limit_price or (request.stop_price is not None and price <= request.stop_price)


def every(resting: RestingOrders) -> list[Resting]:
    return [item for queue in resting.by_ticker.values() for item in queue.items.values()]


@given(steps)
def test_resting_when_orders_come_fill_and_go_agrees_with_a_look_at_all_of_them(
    plan: list[tuple[str, str, Decimal, int]],
) -> None:
    resting = RestingOrders()
    for number, (what, ticker, price, qty) in enumerate(plan):
        here = [item for item in every(resting) if item.order.ticker == ticker]
        if what == "price":
            wanted = here if any(may_fill(item, price) for item in here) else []
            assert list(resting.reached(ticker, price, price)) == wanted
            for item in here:
                item.takes(price)
        elif what == "remove" and here:
            resting.remove(here[qty % len(here)].order)
        elif what == "fill" and here:
            item = here[qty % len(here)]
            if item.open_qty > 1:
                resting.changed(item, replace(item.order, filled_qty=item.order.filled_qty + 1))
        elif what not in {"remove", "fill"}:
            resting.add(*placed(f"o{number}", ticker, what, price, qty), NOW)
        left = every(resting)
        for one in TICKERS:
            sells = [i.open_qty for i in left if i.order.ticker == one and i.order.side is Side.SELL]
            assert resting.selling(one) == sum(sells, Decimal(0))
        buys = [i for i in left if i.order.side is Side.BUY]
        limits = [i.open_qty * i.request.limit_price for i in buys if i.request.limit_price is not None]
        assert resting.bidding == sum(limits, Decimal(0))
        markets = [i.order.venue_order_id for i in buys if i.request.limit_price is None]
        assert sorted(i.order.venue_order_id for i in resting.market_buys) == sorted(markets)
        assert sorted(resting.tickers()) == sorted({i.order.ticker for i in left})
