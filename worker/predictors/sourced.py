"""A predictor that sees a third party's bars instead of the venue's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from worker.core.types import Bar
from worker.market.base import MarketData
from worker.predictors.base import Market, PredictionSet, Predictor
from worker.venues.base import Capabilities


@dataclass(frozen=True, slots=True)
class SourcedMarket:
    """The venue's sessions with the source's bars."""

    venue: Market
    source: MarketData

    @property
    def capabilities(self) -> Capabilities:
        return self.venue.capabilities

    def bars(self, tickers: Sequence[str], count: int, until: datetime) -> dict[str, list[Bar]]:
        return self.source.bars(tickers, count, until)


class SourcedPredictor:
    """``inner`` over ``source``."""

    def __init__(self, inner: Predictor, source: MarketData) -> None:
        self._inner, self._source = inner, source

    def predict(
        self, tickers: Sequence[str], market: Market, now: datetime, stale_data_seconds: float
    ) -> PredictionSet:
        return self._inner.predict(tickers, SourcedMarket(market, self._source), now, stale_data_seconds)
