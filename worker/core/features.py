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

Running sums are integers, units of 2⁻⁸⁰ (2⁻⁶⁴ for returns): floats lose a little at every step, most of all in a
standard deviation after a jump has left it, and would have to be summed anew again and again. These never drift, so
that 60 candles give the same numbers whatever came before them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import sqrt

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
_TRIM = 2 * WINDOW
"""So much is kept of each column at most: with a thousand symbols the caches are what is short."""


class FeatureWindow:
    """The last candles of one symbol and their sums. A gap candle empties it: sixty whole ones must follow."""

    __slots__ = (
        *("_newest", "_count", "_closes", "_fixed", "_moves", "_squares", "_changes", "_volumes", "_flows"),
        *("_sum_5", "_sum_10", "_sum_20", "_sum_30", "_gains", "_losses", "_volume", "_flow_5", "_flow_10", "_flow_30"),
        *("_move_10", "_move_30", "_move_59", "_square_10", "_square_30", "_square_59"),
    )

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
        self._closes: list[float] = [0.0] * WINDOW
        self._fixed, self._moves, self._squares, self._changes, self._volumes, self._flows = (
            [0] * WINDOW for _ in range(6)
        )
        self._sum_5 = self._sum_10 = self._sum_20 = self._sum_30 = 0
        self._gains = self._losses = self._volume = self._flow_5 = self._flow_10 = self._flow_30 = 0
        self._move_10 = self._move_30 = self._move_59 = 0
        self._square_10 = self._square_30 = self._square_59 = 0

    def push(self, candle: Candle) -> bool:
        """Take the next complete candle, in the order of time. Returns ``ready``."""
        self._newest = candle
        if candle.gap:
            if self._count:
                self._clear()
            return False
        close = candle.close
        fixed = int(close * _UNIT)
        closes, prices = self._closes, self._fixed
        if self._count:
            self._move(int((close / closes[-1] - 1.0) * _RETURN_UNIT), fixed - prices[-1])
        self._sum_5 += fixed - prices[-5]
        self._sum_10 += fixed - prices[-10]
        self._sum_20 += fixed - prices[-20]
        self._sum_30 += fixed - prices[-30]
        closes.append(close)
        prices.append(fixed)
        flows = self._flows
        flow = int((candle.buy_volume - candle.sell_volume) * _UNIT)
        self._flow_5 += flow - flows[-5]
        self._flow_10 += flow - flows[-10]
        self._flow_30 += flow - flows[-30]
        flows.append(flow)
        volume = int(candle.volume * _UNIT)
        self._volume += volume - self._volumes[-WINDOW]
        self._volumes.append(volume)
        self._count += 1
        if len(closes) > _TRIM:
            for column in (closes, prices, self._moves, self._squares, self._changes, self._volumes, flows):
                del column[:-WINDOW]
        return self._count >= WINDOW

    def _move(self, move: int, change: int) -> None:
        """The return and the change of price of the newest candle against the one before."""
        moves, squares, changes = self._moves, self._squares, self._changes
        square = move * move
        self._move_10 += move - moves[-10]
        self._move_30 += move - moves[-30]
        self._move_59 += move - moves[-59]
        self._square_10 += square - squares[-10]
        self._square_30 += square - squares[-30]
        self._square_59 += square - squares[-59]
        moves.append(move)
        squares.append(square)
        gone = changes[-RSI_SPAN]
        if gone > 0:
            self._gains -= gone
        else:
            self._losses += gone
        if change > 0:
            self._gains += change
        else:
            self._losses -= change
        changes.append(change)

    def values(self) -> list[float]:
        """The thirty numbers, in the order of ``FEATURE_NAMES``. Raises ValueError where the window is not ready."""
        candle, closes = self._newest, self._closes
        if candle is None or self._count < WINDOW:
            raise ValueError(f"{self._count} of the last {WINDOW} candles are there")
        close, high, low, volume = candle.close, candle.high, candle.low, candle.volume
        sma_5, sma_10 = self._sum_5 * _MEAN_5, self._sum_10 * _MEAN_10
        sma_20, sma_30 = self._sum_20 * _MEAN_20, self._sum_30 * _MEAN_30
        c5, c10, c30 = closes[-6], closes[-11], closes[-31]
        gains, losses = self._gains, self._losses
        return [
            close,
            high,
            low,
            close / closes[-2] - 1.0,
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
            sqrt(10 * self._square_10 - self._move_10 * self._move_10) * _DEVIATION_10,
            sqrt(30 * self._square_30 - self._move_30 * self._move_30) * _DEVIATION_30,
            sqrt(59 * self._square_59 - self._move_59 * self._move_59) * _DEVIATION_59,
            (100.0 - 100.0 / (1.0 + gains / losses)) if losses else (100.0 if gains else 50.0),
            close - c5,
            close - c10,
            close - c30,
            volume,
            volume * _UNIT * WINDOW / self._volume if self._volume else 0.0,
            candle.buy_volume - candle.sell_volume,
            self._flow_5 / _UNIT,
            self._flow_10 / _UNIT,
            self._flow_30 / _UNIT,
            float(candle.trades),
            (high - low) / close,
        ]


def feature_rows(candles: Iterable[Candle]) -> Iterator[tuple[Candle, list[float]]]:
    """For every candle of one symbol that has sixty whole ones behind it: the candle and its values."""
    window = FeatureWindow()
    for candle in candles:
        if window.push(candle):
            yield candle, window.values()
