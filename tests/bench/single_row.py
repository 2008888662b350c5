"""One row of features through 100 trees × 31 leaves: the fast way against ``Booster.predict``, warm and cold.

Cold means that the caches held something else in between: 64 MB are walked over before each call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from tests.bench.table import Row, median, p99, timed
from worker.models.booster import import_lightgbm
from worker.models.validation import check_text
from worker.predictors.row import RowPredictor, load_row_predictor, plain_call

FEATURES, TREES, LEAVES = 30, 100, 31
WARM, COLD = 5000, 150
COLD_BYTES = 64 * 1024 * 1024
NAMES = tuple(f"f{n}" for n in range(FEATURES))
Tell = Callable[[str], None]


def rows(tell: Tell) -> list[Row]:
    tell(f"training a model of {TREES} trees × {LEAVES} leaves")
    text, asked = trained_text()
    fast = load_row_predictor(text, "lightgbm:bench", NAMES, "bench")
    booster = import_lightgbm().Booster(model_str=text)
    slow = RowPredictor(plain_call(booster), check_text(text.encode()), "lightgbm:bench", 1, fast=False)
    tell("one row, warm and cold")
    figures = {name: (warm(model, asked), cold(model, asked)) for name, model in (("fast", fast), ("slow", slow))}
    (fast_warm, fast_cold), (slow_warm, slow_cold) = figures["fast"], figures["slow"]
    way = "C entry" if fast.fast else "Booster.predict, the C entry is missing"
    return [
        _row(f"features → probability, {TREES} × {LEAVES}, warm ({way})", fast_warm, slow_warm, "≤ 6 µs"),
        _row(f"features → probability, {TREES} × {LEAVES}, cold caches", fast_cold, slow_cold, "≤ 90 µs"),
    ]


def _row(path: str, fast: Sequence[float], slow: Sequence[float], reach: str) -> Row:
    return Row(
        path,
        _micro(median(fast)),
        _micro(p99(fast)),
        f"{median(slow) / median(fast):.1f} × as fast as the habit",
        reach=reach,
        habit=f"Booster.predict, one thread: {_micro(median(slow))}, p99 {_micro(p99(slow))}",
    )


def _micro(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} µs"


def trained_text(names: Sequence[str] = NAMES) -> tuple[str, list[list[float]]]:
    """A binary model and a hundred rows to ask it."""
    lightgbm = import_lightgbm()
    dice = np.random.default_rng(6)
    x = dice.normal(size=(20_000, FEATURES))
    y = x[:, 0] + x[:, 1] * x[:, 2] + dice.normal(size=len(x)) > 0
    parameters = {"objective": "binary", "num_leaves": LEAVES, "num_threads": 1, "verbosity": -1, "seed": 6}
    data = lightgbm.Dataset(x, y.astype(float), feature_name=list(names), params={"verbosity": -1, "num_threads": 1})
    return lightgbm.train(parameters, data, TREES).model_to_string(), x[:100].tolist()


def warm(model: RowPredictor, asked: list[list[float]]) -> list[float]:
    """Seconds of each call, another row each time."""
    turn = iter(asked * (2 * WARM // len(asked)))
    return timed(lambda: model.predict(next(turn)), WARM)


def cold(model: RowPredictor, asked: list[list[float]]) -> list[float]:
    """Seconds of each call after the caches were walked over."""
    filler, spent = np.zeros(COLD_BYTES // 8), []
    for number in range(COLD):
        filler += 1
        start = time.perf_counter()
        model.predict(asked[number % len(asked)])
        spent.append(time.perf_counter() - start)
    return spent
