"""What a fill at the simulated venue is: its price, its quantity, its fee."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import msgspec

from worker.core.resting import Resting
from worker.core.types import Bar, Instrument, Side, VenueOrder

ZERO = Decimal(0)
_QUOTE_PLACES, _BASE_PLACES = Decimal("0.000001"), Decimal("0.000000001")
_REMEMBERED = 2**14


class EngineOptions(msgspec.Struct, frozen=True, gc=False):
    """How the venue behaves. Rates are fractions of the notional; ``partial_chance`` is per match.

    ``fees_in_base``: the fee of a pair (``BTC/USD``) is taken from what is credited, of a buy from the quantity.
    """

    fee_rate: Decimal = Decimal("0.0002")
    slippage: Decimal = Decimal("0.0002")
    latency: timedelta = timedelta(0)
    partial_chance: float = 0.0
    fees_in_base: bool = False


class _Decimals(dict[float, Decimal]):
    """Decimals by float. Most prices come again soon, and asking ``lru_cache`` takes half as long as making one."""

    def __missing__(self, value: float) -> Decimal:
        if len(self) >= _REMEMBERED:
            self.clear()
        made = self[value] = Decimal(repr(float(value)))
        return made


exact = _Decimals().__getitem__
"""The decimal that a price in a file says: shortest text that is the same float."""


class FillTerms:
    """How orders fill. ``uniform`` decides what is random."""

    def __init__(
        self, instrument: Callable[[str], Instrument | None], options: EngineOptions, uniform: Callable[[], float]
    ) -> None:
        self._instrument, self._options, self._uniform = instrument, options, uniform

    def price_now(self, item: Resting, price: Decimal) -> Decimal | None:
        """Of a trade at ``price``; None where it does not reach the order."""
        if item.takes(price):
            return self._slipped(item.order, price)
        limit = item.request.limit_price or ZERO
        crossed = price <= limit if item.order.side is Side.BUY else price >= limit
        return limit if crossed else None

    def price_in(self, item: Resting, bar: Bar) -> Decimal | None:
        """Within a bar; None where it does not reach the order."""
        opened, low, high = exact(bar.open), exact(bar.low), exact(bar.high)
        at_open = item.takes(opened)
        if item.takes(low):
            stop = item.request.stop_price
            met = opened if at_open or stop is None else stop
            return min(max(self._slipped(item.order, met), low), high)
        limit = item.request.limit_price or ZERO
        if item.order.side is Side.BUY:
            return min(limit, opened) if low <= limit else None
        return max(limit, opened) if high >= limit else None

    def _slipped(self, order: VenueOrder, price: Decimal) -> Decimal:
        """A little worse, rounded to the tick against the taker."""
        instrument = self._instrument(order.ticker)
        tick = instrument.tick_size if instrument is not None else Decimal("0.01")
        rounding = ROUND_CEILING if order.side is Side.BUY else ROUND_FLOOR
        worse = price * (1 + self._options.slippage * order.side.sign)
        return (worse / tick).to_integral_value(rounding) * tick

    def fee(self, order: VenueOrder, qty: Decimal, price: Decimal) -> tuple[Decimal, str]:
        """The fee and its currency, empty for the quote currency."""
        base, slash, _ = order.ticker.partition("/")
        if self._options.fees_in_base and slash and order.side is Side.BUY:
            return (qty * self._options.fee_rate).quantize(_BASE_PLACES, ROUND_CEILING), base
        return (qty * price * self._options.fee_rate).quantize(_QUOTE_PLACES), ""

    def portion(self, order: VenueOrder, rest: Decimal) -> Decimal:
        """How much of the rest one match fills."""
        if not self._options.partial_chance or self._uniform() >= self._options.partial_chance:
            return rest
        instrument = self._instrument(order.ticker)
        lot = instrument.lot_size if instrument is not None else Decimal(1)
        return max((rest / 2 / lot).to_integral_value(ROUND_FLOOR) * lot, min(lot, rest))
