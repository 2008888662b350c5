"""Feature version 1: thirty numbers from the last 60 complete one-second candles of a symbol, O(1) a second.

``c[0]`` is the newest close, ``c[k]`` the one k seconds before. Columns, in order:

- ``close``, ``high``, ``low`` of the newest candle;
- ``return_k`` = c[0] ÷ c[k] − 1;
- ``sma_k`` = mean of the last k closes, ``sma_dist_k`` = c[0] ÷ sma_k − 1;
- ``volatility_k`` = population standard deviation (ddof 0) of the last k one-second returns;
- ``rsi_14`` = 100 − 100 ÷ (1 + gains ÷ losses), simple means of the last 14 changes (Cutler); 100 where only the losses
  are 0, 50 where both are;
- ``momentum_k`` = c[0] − c[k];
- ``volume`` and ``volume_ratio`` = volume ÷ mean volume of the 60, 0 where that is 0;
- ``net_flow`` = bought less sold volume, ``net_flow_k`` = its sum over the last k candles;
- ``trades``, and ``range`` = (high − low) ÷ close.

Sums are integers, units of 2⁻⁸⁰ (2⁻⁶⁴ for returns): floats lose a little at every step, most of all in a
standard deviation after a jump has left it, and would have to be summed anew again and again. These never drift, so
that 60 candles give the same numbers whatever came before them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from math import sqrt

import msgspec

from worker.core.candles import WINDOW, Candle

FEATURE_VERSION = 1
RETURNS = (1, 5, 10, 30)
MEANS = (5, 10, 20, 30)
VOLATILITIES = (10, 30, 59)
RSI_SPAN = 14
MOMENTA = (5, 10, 30)
FLOWS = (5, 10, 30)
FEATURE_NAMES: tuple[str, ...] = (
    *("close", "high", "low"),
    *(f"return_{k}" for k in RETURNS),
    *(f"sma_{k}" for k in MEANS),
    *(f"sma_dist_{k}" for k in MEANS),
    *(f"volatility_{k}" for k in VOLATILITIES),
    f"rsi_{RSI_SPAN}",
    *(f"momentum_{k}" for k in MOMENTA),
    *("volume", "volume_ratio"),
    "net_flow",
    *(f"net_flow_{k}" for k in FLOWS),
    *("trades", "range"),
)
_UNIT = 2.0**80
_RETURN_UNIT = 2.0**64
_MEAN_5, _MEAN_10, _MEAN_20, _MEAN_30 = (1 / (k * _UNIT) for k in MEANS)
_DEVIATION_10, _DEVIATION_30, _DEVIATION_59 = (1 / (k * _RETURN_UNIT) for k in VOLATILITIES)


class _Totals(msgspec.Struct, frozen=True, gc=False):
    """The close of one candle and everything summed up from the window's beginning to its end.

    A sum over the last k candles is the newest total less the one k candles before: one addition a second and column,
    however many spans are asked for.
    """

    close: float
    price: int
    prices: int
    moves: int
    squares: int
    gains: int
    volumes: int
    flows: int


_NOTHING = _Totals(0.0, 0, 0, 0, 0, 0, 0, 0)


class FeatureWindow:
    """The last candles of one symbol and their sums. A gap candle empties it: sixty whole ones must follow."""

    __slots__ = ("_count", "_newest", "_totals")

    def __init__(self) -> None:
        self._newest: Candle | None = None
        self._clear()

    @property
    def ready(self) -> bool:
        """Whether the last ``WINDOW`` candles came in a row and none was a gap."""
        return self._count >= WINDOW

    @property
    def newest(self) -> Candle | None:
        """The candle that ``values`` tells of."""
        return self._newest

    def _clear(self) -> None:
        self._count = 0
        self._totals = deque((_NOTHING,) * (WINDOW + 1), WINDOW + 1)

    def push(self, candle: Candle) -> bool:
        """Take the next complete candle, in the order of time. Returns ``ready``."""
        self._newest = candle
        if candle.gap:
            if self._count:
                self._clear()
            return False
        close, totals = candle.close, self._totals
        price, before = int(close * _UNIT), totals[-1]
        moves, squares, gains = before.moves, before.squares, before.gains
        if self._count:
            move, change = int((close / before.close - 1.0) * _RETURN_UNIT), price - before.price
            moves += move
            squares += move * move
            if change > 0:
                gains += change
        totals.append(
            _Totals(
                close,
                price,
                before.prices + price,
                moves,
                squares,
                gains,
                before.volumes + int(candle.volume * _UNIT),
                before.flows + int((candle.buy_volume - candle.sell_volume) * _UNIT),
            )
        )
        self._count = count = self._count + 1
        return count >= WINDOW

    def values(self) -> list[float]:
        """The thirty numbers, in the order of ``FEATURE_NAMES``. Raises ValueError where the window is not ready."""
        candle, totals = self._newest, self._totals
        if candle is None or self._count < WINDOW:
            raise ValueError(f"{self._count} of the last {WINDOW} candles are there")
        now, ago_5, ago_10, ago_20, ago_30 = totals[-1], totals[-6], totals[-11], totals[-21], totals[-31]
        ago_14, ago_59, ago_60 = totals[-1 - RSI_SPAN], totals[-60], totals[0]
        close, high, low, volume = candle.close, candle.high, candle.low, candle.volume
        prices, moves, squares, flows = now.prices, now.moves, now.squares, now.flows
        sma_5, sma_10 = (prices - ago_5.prices) * _MEAN_5, (prices - ago_10.prices) * _MEAN_10
        sma_20, sma_30 = (prices - ago_20.prices) * _MEAN_20, (prices - ago_30.prices) * _MEAN_30
        move_10, move_30, move_59 = moves - ago_10.moves, moves - ago_30.moves, moves - ago_59.moves
        c5, c10, c30 = ago_5.close, ago_10.close, ago_30.close
        gains = now.gains - ago_14.gains
        losses = gains - (now.price - ago_14.price)  # changes sum up to the change in all
        volumes = now.volumes - ago_60.volumes
        return [
            close,
            high,
            low,
            close / totals[-2].close - 1.0,
            close / c5 - 1.0,
            close / c10 - 1.0,
            close / c30 - 1.0,
            sma_5,
            sma_10,
            sma_20,
            sma_30,
            close / sma_5 - 1.0,
            close / sma_10 - 1.0,
            close / sma_20 - 1.0,
            close / sma_30 - 1.0,
            sqrt(10 * (squares - ago_10.squares) - move_10 * move_10) * _DEVIATION_10,
            sqrt(30 * (squares - ago_30.squares) - move_30 * move_30) * _DEVIATION_30,
            sqrt(59 * (squares - ago_59.squares) - move_59 * move_59) * _DEVIATION_59,
            (100.0 - 100.0 / (1.0 + gains / losses)) if losses else (100.0 if gains else 50.0),
            close - c5,
            close - c10,
            close - c30,
            volume,
            volume * _UNIT * WINDOW / volumes if volumes else 0.0,
            candle.buy_volume - candle.sell_volume,
            (flows - ago_5.flows) / _UNIT,
            (flows - ago_10.flows) / _UNIT,
            (flows - ago_30.flows) / _UNIT,
            float(candle.trades),
            (high - low) / close,
        ]


def feature_rows(candles: Iterable[Candle]) -> Iterator[tuple[Candle, list[float]]]:
    """For every candle of one symbol that has sixty whole ones behind it: the candle and its values."""
    window = FeatureWindow()
    for candle in candles:
        if window.push(candle):
            yield candle, window.values()
