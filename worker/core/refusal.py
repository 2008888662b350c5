"""What the simulated venue refuses of an order by what it says, before any question of money."""

from __future__ import annotations

from worker.core.types import Instrument, OrderRequest, OrderType, Side

DUPLICATE_ID = "duplicate_client_order_id"


class OrderRefused(Exception):
    """A structured refusal; ``code`` is for programs, the text for people."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


def check_request(request: OrderRequest, instrument: Instrument | None) -> None:
    """Raises OrderRefused."""
    if instrument is None or not instrument.tradable:
        raise OrderRefused("unknown_ticker", f"{request.ticker} is not traded here")
    if not request.qty.is_finite() or request.qty <= 0 or request.qty % instrument.lot_size:
        raise OrderRefused("bad_quantity", f"quantity {request.qty} is no positive multiple of {instrument.lot_size}")
    if request.type not in {OrderType.MARKET, OrderType.LIMIT}:
        raise OrderRefused("bad_type", f"{request.type} orders are not traded here")
    if (request.type is OrderType.LIMIT) != (request.limit_price is not None and request.limit_price > 0):
        raise OrderRefused("bad_price", "a limit order, and only that, has a positive limit price")
    if request.stop_price is not None:
        _check_pair(request, instrument)


def _check_pair(request: OrderRequest, instrument: Instrument) -> None:
    stop, limit = request.stop_price or 0, request.limit_price or 0
    if not instrument.protective_pair:
        raise OrderRefused("no_pairs", f"{request.ticker} holds no take-profit and stop-loss as one order")
    if request.side is not Side.SELL or request.type is not OrderType.LIMIT or not 0 < stop < limit:
        raise OrderRefused("bad_pair", f"a pair sells at a limit with a stop below it, not at {limit} with {stop}")
