"""The replay's predictor: the same features and model as live, computed for all decision times at once.

A prediction is looked up by the close of the bar that it was made on, so it never knows a later one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

from worker.core.bar_features import WINDOW, feature_matrix, split_sessions
from worker.core.types import Prediction
from worker.feeds.bars import BarSeries
from worker.predictors.base import Market, PredictionSet
from worker.predictors.lightgbm import BAR_SECONDS, LoadedModel


class ReplayPredictor:
    """Predictions by ticker and bar close."""

    def __init__(self, model: LoadedModel, series: Sequence[BarSeries]) -> None:
        self._source = model.source
        self._found: dict[str, dict[float, float]] = {one.ticker: _predict(model, one) for one in series}

    def predict(
        self, tickers: Sequence[str], market: Market, now: datetime, stale_data_seconds: float
    ) -> PredictionSet:
        stamp = now.timestamp()
        predictions: dict[str, Prediction] = {}
        notes: dict[str, str] = {}
        for ticker in tickers:
            change = self._found[ticker].get(stamp)
            if change is None or not math.isfinite(change):
                notes[ticker] = f"no row of {WINDOW} bars ends here"
            else:
                predictions[ticker] = Prediction(change, None, now, self._source)
        return PredictionSet(predictions, notes)

    def largest(self) -> float | None:
        """The largest predicted change of the whole replay, by size."""
        values = [abs(v) for rows in self._found.values() for v in rows.values() if math.isfinite(v)]
        return max(values, default=None)


def _predict(model: LoadedModel, series: BarSeries) -> dict[float, float]:
    found: dict[float, float] = {}
    for run in split_sessions(series.bars, sessions=series.sessions):
        rows = feature_matrix(run, sessions=series.sessions)
        if len(rows):
            closes = (b.start.timestamp() + BAR_SECONDS for b in run[WINDOW - 1 :])
            found.update(zip(closes, model.predict(rows).tolist(), strict=True))
    return found
