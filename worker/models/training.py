"""Training a cycle model: one regression of the change over the horizon on the bar features, honestly validated.

Predictions are never rescaled. The last fifth of the rows, behind a gap of one horizon, is not trained on and gives
the figures; the model that is kept is trained on everything that was given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.errors import ConfigError
from worker.core.bar_features import NAMES, VERSION, feature_matrix, split_sessions, targets
from worker.feeds.bars import BarSeries
from worker.models.booster import import_lightgbm

ROUNDS = 80
HOLDOUT = 0.2
LEAST_ROWS = 30
PARAMETERS: dict[str, Any] = {
    "objective": "regression",
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 20,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "seed": 6,
    "verbosity": -1,
}

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """LightGBM text, the feature version it wants, and what the held-out rows say of it."""

    text: str
    feature_version: str | int
    horizon_minutes: int | None
    metrics: dict[str, float]
    facts: dict[str, Any] = field(default_factory=dict)
    """What it was trained for, where that is more than a horizon: fields for ``model:{id}``."""


def training_rows(series: Sequence[BarSeries], horizon: int) -> tuple[Any, Any, Any]:
    """Features, targets and each row's place in time (Unix seconds), over all series and sessions."""
    import numpy as np

    xs, ys, ts = [], [], []
    for one in series:
        for run in split_sessions(one.bars, sessions=one.sessions):
            x, y = feature_matrix(run, sessions=one.sessions), targets(run, horizon)
            known = ~np.isnan(y)
            xs.append(x[known])
            ys.append(y[known])
            ts.append(np.array([b.start.timestamp() for b in run[60:]])[known])
    if not xs or not sum(len(x) for x in xs):
        raise ConfigError(f"too few bars to train on: a session of more than {60 + horizon} bars is needed")
    return np.concatenate(xs), np.concatenate(ys), np.concatenate(ts)


def train(
    series: Sequence[BarSeries],
    horizon: int,
    progress: Progress = lambda done, total: None,
    shuffle_labels: bool = False,
) -> TrainedModel:
    """Train on everything given. Raises ConfigError where there is too little. ``progress`` counts boosting rounds.

    ``shuffle_labels`` destroys what could be learned: what a test compares an honest model with.
    """
    import numpy as np

    x, y, t = training_rows(series, horizon)
    if len(x) < LEAST_ROWS:
        raise ConfigError(f"too few rows to train on: {len(x)}, at least {LEAST_ROWS} are needed")
    order = np.argsort(t, kind="stable")
    x, y, t = x[order], y[order], t[order]
    if shuffle_labels:
        y = np.random.default_rng(6).permutation(y)
    total = 2 * ROUNDS
    metrics = _held_out(x, y, t, horizon, lambda done: progress(done, total))
    booster = _fit(x, y, lambda done: progress(ROUNDS + done, total))
    progress(total, total)
    return TrainedModel(booster.model_to_string(), VERSION, horizon, metrics)


def _fit(x: Any, y: Any, progress: Callable[[int], None]) -> Any:
    lightgbm = import_lightgbm()

    data = lightgbm.Dataset(x, y, feature_name=list(NAMES), params={"verbosity": -1, "num_threads": 1})
    return lightgbm.train(PARAMETERS, data, ROUNDS, callbacks=[lambda env: progress(env.iteration + 1)])


def _held_out(x: Any, y: Any, t: Any, horizon: int, progress: Callable[[int], None]) -> dict[str, float]:
    import numpy as np

    cut = t[int(len(t) * (1 - HOLDOUT))]
    early, late = t < cut - horizon * 60, t >= cut
    figures: dict[str, float] = {"rows": float(len(x)), "held_out_rows": float(late.sum())}
    if early.sum() < LEAST_ROWS or late.sum() < 2:
        return figures
    guess = _fit(x[early], y[early], progress).predict(x[late], num_threads=1)
    truth = y[late]
    varied = guess.std() > 0 and truth.std() > 0
    figures |= {
        "mae": float(np.abs(guess - truth).mean()),
        "mae_of_no_change": float(np.abs(truth).mean()),
        "correlation": float(np.corrcoef(guess, truth)[0, 1]) if varied else 0.0,
        "largest_prediction": float(np.abs(guess).max()),
    }
    return figures
