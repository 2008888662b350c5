"""The demo's first model: trained on the simulated market's past when there is none, with progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from shared.clock import Clock
from worker.feeds.bars import BarSeries
from worker.models.child import train_in_child
from worker.models.registry import ModelRegistry
from worker.venues.base import Venue

TRAINING_BARS = 4 * 1440
"""Four days of minutes a ticker: enough for some twenty regimes each."""


def ensure_model(
    registry: ModelRegistry,
    venue: Venue,
    tickers: Sequence[str],
    horizon: int,
    clock: Clock,
    progress: Callable[[int, int], None],
) -> bool:
    """Train, register and assign a model where the cycle bot has none; whether it did."""
    if registry.assigned(1) is not None:
        return False
    now = clock.now()
    # one by one: days of minutes of every ticker in one answer would be too much for a slow machine's three seconds
    found = {ticker: venue.bars([ticker], TRAINING_BARS, now)[ticker] for ticker in tickers}
    series = [BarSeries(ticker, tuple(bars), False) for ticker, bars in found.items() if bars]
    model = train_in_child(series, horizon, progress)
    registry.register(model, "trained on the simulated market's past", assigned_to=1)
    return True
