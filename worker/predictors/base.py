"""The predictor port."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import msgspec

from worker.core.types import Bar, Prediction
from worker.venues.base import Capabilities


class PredictionSet(msgspec.Struct, frozen=True):
    """What is predicted, and for every other ticker why not."""

    predictions: Mapping[str, Prediction]
    notes: Mapping[str, str] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Loading:
    """A model's text that must be loaded: its size in bytes, and the step that does it, which may take seconds."""

    size: int
    run: Callable[[], object]


class Market(Protocol):
    """What a predictor sees of the market: a venue, or a venue whose bars come from elsewhere."""

    @property
    def capabilities(self) -> Capabilities: ...

    def bars(self, tickers: Sequence[str], count: int, until: datetime) -> dict[str, list[Bar]]:
        """As ``Venue.bars``. Raises VenueUnavailable."""


class Predictor(Protocol):
    """Predicts the change of each ticker over the horizon, as a fraction, never rescaled."""

    def predict(
        self, tickers: Sequence[str], market: Market, now: datetime, stale_data_seconds: float
    ) -> PredictionSet:
        """Tickers without a usable answer are in the notes. Raises PredictionError where nothing can be answered."""
