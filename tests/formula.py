"""Feature version 1 as one writes it down in pandas: the reference of tests, and the habit of the bench."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view

from worker.core.candles import WINDOW, Candle


def by_pandas(candles: Sequence[Candle]) -> np.ndarray[Any, Any]:
    """Rows for every candle that has 59 before it."""
    frame = pd.DataFrame(
        [[c.high, c.low, c.close, c.volume, c.buy_volume, c.sell_volume, c.trades] for c in candles],
        columns=["high", "low", "close", "volume", "buy", "sell", "trades"],
    )
    close, change, step = frame.close, frame.close.diff(), frame.close.pct_change()
    flow = frame.buy - frame.sell
    gains, losses = change.clip(lower=0), -change.clip(upper=0)
    out = pd.DataFrame({"close": close, "high": frame.high, "low": frame.low})
    for k in (1, 5, 10, 30):
        out[f"return_{k}"] = close / close.shift(k) - 1
    for k in (5, 10, 20, 30):
        out[f"sma_{k}"] = close.rolling(k).mean()
    for k in (5, 10, 20, 30):
        out[f"sma_dist_{k}"] = close / out[f"sma_{k}"] - 1
    for k in (10, 30, 59):  # rolling(k).std() keeps a residue of a jump that has left the window
        out[f"volatility_{k}"] = np.append(np.full(k - 1, np.nan), sliding_window_view(step, k).std(axis=1))
    gain, loss = (sliding_window_view(x, 14).mean(axis=1) for x in (gains, losses))
    with np.errstate(divide="ignore", invalid="ignore"):
        rsi = np.where(loss > 0, 100 - 100 / (1 + gain / loss), np.where(gain > 0, 100.0, 50.0))
    out["rsi_14"] = np.append(np.full(13, np.nan), rsi)
    for k in (5, 10, 30):
        out[f"momentum_{k}"] = close - close.shift(k)
    out["volume"] = frame.volume
    any_volume = frame.volume.rolling(WINDOW).max() > 0
    out["volume_ratio"] = (frame.volume / frame.volume.rolling(WINDOW).mean()).where(any_volume, 0.0)
    out["net_flow"] = flow
    for k in (5, 10, 30):
        out[f"net_flow_{k}"] = flow.rolling(k).sum()
    out["trades"], out["range"] = frame.trades, (frame.high - frame.low) / close
    return out.to_numpy(dtype=float)[WINDOW - 1 :]
