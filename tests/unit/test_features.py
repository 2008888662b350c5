"""Features against the plain pandas formula on every capture, and from any sixty candles alone."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.formula import by_pandas
from tests.market import CAPTURES, FUTURES, built, recorded
from worker.core.candles import WINDOW, Candle, CandleBuilder
from worker.core.features import FEATURE_NAMES, FEATURE_VERSION, FeatureWindow, feature_rows
from worker.core.trades import SECOND

NAMES_OF_VERSION_1 = [
    "close",
    "high",
    "low",
    "return_1",
    "return_5",
    "return_10",
    "return_30",
    "sma_5",
    "sma_10",
    "sma_20",
    "sma_30",
    "sma_dist_5",
    "sma_dist_10",
    "sma_dist_20",
    "sma_dist_30",
    "volatility_10",
    "volatility_30",
    "volatility_59",
    "rsi_14",
    "momentum_5",
    "momentum_10",
    "momentum_30",
    "volume",
    "volume_ratio",
    "net_flow",
    "net_flow_5",
    "net_flow_10",
    "net_flow_30",
    "trades",
    "range",
]


def assert_equal(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    """To 1e-9 of the larger of the value and a thousandth of the column's largest."""
    assert found.shape == expected.shape
    floor = np.abs(expected).max(axis=0) / 1000
    allowed = 1e-9 * np.maximum(np.abs(expected), floor)
    wrong = np.argwhere(~(np.abs(found - expected) <= allowed))
    told = [(int(r), FEATURE_NAMES[c], found[r, c], expected[r, c]) for r, c in wrong[:5]]
    assert not told, told


def test_names_when_version_1_are_these_thirty() -> None:
    """A model that was trained on them reads them by place."""
    assert (FEATURE_VERSION, list(FEATURE_NAMES)) == (1, NAMES_OF_VERSION_1)


@pytest.mark.parametrize("name", [*CAPTURES, "made up"])
def test_values_when_on_a_real_capture_equal_pandas(data: Path, name: str) -> None:
    candles = wild(2000) if name == "made up" else built(recorded(data, name), CandleBuilder("X"))[:50_000]
    if len(candles) < WINDOW:
        pytest.skip(f"{name}: {len(candles)} seconds are no window")
    found = np.array([values for _, values in feature_rows(candles)])
    assert_equal(found, by_pandas(candles))


def wild(count: int) -> list[Candle]:
    """Seconds with jumps, silences and one enormous trade."""
    dice, close, found = random.Random(1), 0.00000638, []
    for n in range(count):
        opened = close
        if dice.random() < 0.6:
            close *= math.exp(dice.gauss(0, 0.3 if n == 500 else 0.0005))
        volume = 0.0 if close == opened else 1e12 if n == 900 else dice.expovariate(0.001)
        bought = volume * dice.random()
        found.append(
            Candle(
                "X",
                n * SECOND,
                opened,
                max(opened, close),
                min(opened, close),
                close,
                volume,
                bought,
                volume - bought,
                int(volume > 0),
            )
        )
    return found


def test_values_when_rebuilt_from_sixty_candles_are_the_very_same(data: Path) -> None:
    """A restart needs sixty seconds and nothing else; what came before leaves no trace."""
    for candles in (built(recorded(data, FUTURES), CandleBuilder("X")), wild(1500)):
        for index, (candle, values) in enumerate(feature_rows(candles)):
            if index % 7 == 0:
                fresh = FeatureWindow()
                ready = [fresh.push(c) for c in candles[index : index + WINDOW]]
                assert ready == [False] * (WINDOW - 1) + [True]
                assert (fresh.newest, fresh.values()) == (candle, values)


def test_values_when_nothing_moves_are_defined() -> None:
    flat = [Candle("X", n * SECOND, 2.0, 2.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0) for n in range(WINDOW)]
    values = dict(zip(FEATURE_NAMES, next(iter(feature_rows(flat)))[1], strict=True))
    assert values["rsi_14"] == 50.0
    assert all(values[name] == 0.0 for name in FEATURE_NAMES if name.startswith(("volatility", "volume", "return")))
    rising = [Candle("X", n * SECOND, 1.0, 1.0 + n, 1.0, 1.0 + n, 1.0, 1.0, 0.0, 1) for n in range(WINDOW)]
    assert next(iter(feature_rows(rising)))[1][FEATURE_NAMES.index("rsi_14")] == 100.0


def test_window_when_a_gap_comes_wants_sixty_whole_candles_again() -> None:
    candles = wild(200)
    gap = Candle("X", 0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0, True)
    window = FeatureWindow()
    ready = [window.push(c) for c in [*candles[:100], gap, *candles[100:]]]
    assert ready == [False] * 59 + [True] * 41 + [False] * 60 + [True] * 41
    window.push(gap)
    with pytest.raises(ValueError, match="0 of the last 60"):
        window.values()
