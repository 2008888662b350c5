"""The signal: a prediction against the thresholds, scaled by the strategy. Strictly greater, never equal."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Decimal

from shared.documents import TradingSettings
from worker.core.types import Instrument, Side

ZERO = Decimal(0)
THRESHOLD_MULTIPLIER = {"CONSERVATIVE": Decimal("1.5"), "BALANCED": Decimal("1.0"), "AGGRESSIVE": Decimal("0.7")}
NEARLY = 1 - 1e-9
"""Farther from a threshold than any rounding of a float."""
FEE_SHARE = Decimal("0.01")
"""No fee takes more of what is bought."""
SIZE_SCALE = {"CONSERVATIVE": Decimal("0.5"), "BALANCED": Decimal("0.75"), "AGGRESSIVE": Decimal("1.0")}


def thresholds(settings: TradingSettings) -> tuple[Decimal, Decimal]:
    """Effective buy and sell thresholds, as fractions."""
    factor = THRESHOLD_MULTIPLIER[settings.strategy]
    return settings.buy_threshold_pct * factor, settings.sell_threshold_pct * factor


def quiet_band(buy_above: Decimal, sell_below: Decimal) -> tuple[float, float]:
    """A change strictly between these floats is no signal whatever is held; the band's edges are for ``signal``."""
    return -float(sell_below) * NEARLY, float(buy_above) * NEARLY


def signal(change_pct: Decimal, buy_above: Decimal, sell_below: Decimal, held: Decimal) -> Side | None:
    """Buy above the one threshold; sell what is held below the negative of the other; else nothing."""
    if not change_pct.is_finite():
        return None
    if change_pct > buy_above:
        return Side.BUY
    if held > 0 and change_pct < -sell_below:
        return Side.SELL
    return None


def entry_size(settings: TradingSettings, held: Decimal, instrument: Instrument) -> Decimal:
    """Shares to buy: up to the strategy's share of ``max_position_per_trade``, less what is held; 0 for none.

    What a fee in the base currency took of a purchase is not bought once more.
    """
    target = max(
        (settings.max_position_per_trade * SIZE_SCALE[settings.strategy]).to_integral_value(ROUND_FLOOR), Decimal(1)
    )
    return round_down(target - held, instrument.lot_size) if target - held > target * FEE_SHARE else Decimal(0)


def exit_size(settings: TradingSettings, sellable: Decimal, instrument: Instrument) -> Decimal:
    """Shares to sell: never more than is held and not yet being sold, nor than one order may have."""
    return round_down(min(sellable, Decimal(settings.max_position_per_trade)), instrument.lot_size)


def round_down(quantity: Decimal, step: Decimal) -> Decimal:
    """To a whole number of lots, towards zero; in plain digits, never as 1E+1."""
    return max((quantity / step).to_integral_value(ROUND_DOWN) * step + ZERO, ZERO) if step > 0 else quantity


def passive_limit(side: Side, reference: Decimal, offset_pct: Decimal, tick: Decimal) -> Decimal:
    """A limit that rests: below the reference for a buy, above it for a sell, rounded away from it to a tick."""
    if side is Side.BUY:
        return (reference * (1 - offset_pct) / tick).to_integral_value(ROUND_FLOOR) * tick
    return (reference * (1 + offset_pct) / tick).to_integral_value(ROUND_CEILING) * tick
