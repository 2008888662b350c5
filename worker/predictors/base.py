"""The predictor port."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from worker.core.types import Prediction
from worker.venues.base import Venue


@dataclass(frozen=True, slots=True)
class PredictionSet:
    """What is predicted, and for every other ticker why not."""

    predictions: Mapping[str, Prediction]
    notes: Mapping[str, str] = field(default_factory=dict)


class Predictor(Protocol):
    """Predicts the change of each ticker over the horizon, as a fraction, never rescaled."""

    def predict(self, tickers: Sequence[str], venue: Venue, now: datetime, stale_data_seconds: float) -> PredictionSet:
        """Tickers without a usable answer are in the notes. Raises PredictionError where nothing can be answered."""
