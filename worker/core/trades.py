"""What every market feed gives: one frozen ``Trade`` per execution at a venue.

Times are integers in microseconds since 1970 UTC. Prices and quantities are floats, since candles and features are;
an order's price is made of a trade's by ``Decimal(repr(price))``. A ``msgspec.Struct`` without garbage collection is
the fastest frozen object to build that Python has: about a tenth of a microsecond.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

SECOND = 1_000_000
MINUTE = 60 * SECOND
SMALLEST, LARGEST = 1e-15, 1e15
"""Every price and every quantity lies between them; what does not is garbage."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Trade(msgspec.Struct, frozen=True, gc=False):
    """One execution as the venue tells it.

    ``quantity`` is in base units (contracts × contract size). ``is_buyer_maker`` is true where the taker sold, None
    where the source does not say. ``venue_time`` is the venue's clock, ``received_at`` ours when the message came; a
    source without a receive clock gives the venue's time twice. ``trade_id`` grows within a symbol, None where the
    source has none. Of one that is not ``priced`` the quantity counts, and the price is not the market's.
    """

    symbol: str
    price: float
    quantity: float
    is_buyer_maker: bool | None
    venue_time: int
    received_at: int
    trade_id: int | None = None
    priced: bool = True


def micros(moment: datetime) -> int:
    """An aware datetime as microseconds since 1970 UTC, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(value: int) -> datetime:
    """The inverse of ``micros``, exactly.

    Until the year 2242 a float of seconds is nearer to its own microsecond than to any other, and this is twice as fast
    as adding a timedelta.
    """
    return datetime.fromtimestamp(value / 1e6, UTC)
