"""Training a stream model: does the take-profit come first? Judged walking forward, with a gap that no label crosses.

Features are those of the live bot, by its own code, at the seconds at which it decides; labels are its own exit rule
after fees. The figures come from rows that no model had seen, each judged by one that knew only what was over
``holding_time`` + 60 s before; the model that is kept is trained on everything. One thread, and the same for a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from shared.errors import ConfigError
from worker.core.candles import Candle
from worker.core.exits import REASONS, TP_HIT, UNKNOWN, ExitRule, outcomes
from worker.core.features import FEATURE_NAMES, FEATURE_VERSION, FeatureWindow
from worker.core.trades import SECOND
from worker.models.booster import import_lightgbm
from worker.models.figures import calibration, figures
from worker.models.training import TrainedModel

LEAST_ROWS = 200
LEAST_OF_A_CLASS = 10
PURGE_SECONDS = 60

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class StreamJob:
    """What to train for. ``threshold`` is the bot's ``confidence_threshold``."""

    rule: ExitRule
    threshold: float = 0.4
    predict_seconds: int = 2
    folds: int = 5
    rounds: int = 100
    seed: int = 6

    @property
    def gap_seconds(self) -> int:
        """What lies between the last row that a fold's model learns from and the first that it is judged on."""
        return self.rule.holding_time + PURGE_SECONDS


@dataclass(frozen=True, slots=True)
class Rows:
    """One row a decision, in the order of time: features (n, 30), the candle's end in Unix seconds, reason, profit."""

    x: Any
    at: Any
    reason: Any
    profit: Any

    @property
    def label(self) -> Any:
        """1 where the take-profit comes first and pays its fees."""
        return ((self.reason == TP_HIT) & (self.profit > 0)).astype(float)

    def pick(self, which: Any) -> Rows:
        """Some of them, by a mask or by places."""
        return Rows(self.x[which], self.at[which], self.reason[which], self.profit[which])


@dataclass(frozen=True, slots=True)
class StreamResult:
    """The model, and what the report draws."""

    model: TrainedModel
    importance: tuple[tuple[str, float], ...]
    calibration: tuple[tuple[float, float, int], ...]
    folds: tuple[dict[str, float], ...]


def decision_rows(series: Iterable[Sequence[Candle]], job: StreamJob) -> Rows:
    """The rows of candles without a hole, one sequence per recording. Raises ConfigError where there are none."""
    import numpy as np

    xs, ats, reasons, profits = [], [], [], []
    for candles in series:
        window, entries, features = FeatureWindow(), [], []
        for number, candle in enumerate(candles):
            if window.push(candle) and candle.end // SECOND % job.predict_seconds == 0:
                entries.append(number)
                features.append(window.values())
        if not entries:
            continue
        reason, profit = outcomes(candles, entries, job.rule)
        known = reason != UNKNOWN
        xs.append(np.array(features)[known])
        ats.append(np.array([candles[n].end // SECOND for n in entries])[known])
        reasons.append(reason[known])
        profits.append(profit[known])
    if not sum(map(len, xs)):
        raise ConfigError(
            f"too little data: 60 seconds and then holding_time ({job.rule.holding_time} s) without a gap are needed"
        )
    x, at, reason, profit = (np.concatenate(parts) for parts in (xs, ats, reasons, profits))
    order = np.argsort(at, kind="stable")
    return Rows(x[order], at[order], reason[order], profit[order])


def train_stream(
    series: Iterable[Sequence[Candle]],
    job: StreamJob,
    progress: Progress = lambda done, total: None,
    shift: int = 0,
) -> StreamResult:
    """Raises ConfigError where no trade of the rule can pay its fees, or there is too little to learn from.

    ``shift`` moves the labels so many rows against the features: what a test compares an honest model with.
    """
    import numpy as np

    if job.rule.best <= 0:
        raise ConfigError(
            f"profit_target_pct {job.rule.profit_target_pct:g} does not pay two maker fees of {job.rule.maker_fee:g}: "
            "no trade of this rule can earn anything"
        )
    rows = decision_rows(series, job)
    if shift:
        rows = Rows(rows.x, rows.at, np.roll(rows.reason, shift), np.roll(rows.profit, shift))
    label = rows.label
    _check_enough(label)
    total = (job.folds + 1) * job.rounds
    guess, folds = _walk_forward(rows, job, lambda done: progress(done, total))
    booster = _fit(rows.x, label, job, lambda done: progress(job.folds * job.rounds + done, total))
    progress(total, total)
    gains = booster.feature_importance("gain")
    whole = float(gains.sum()) or 1.0
    importance = sorted(zip(FEATURE_NAMES, (float(g) / whole for g in gains), strict=True), key=lambda p: -p[1])
    seen = ~np.isnan(guess)
    metrics = _judge(guess[seen], rows.pick(seen), job) | {"rows": float(len(label))}
    metrics |= {f"share_{REASONS[r].lower()}": float((rows.reason == r).mean()) for r in REASONS}
    model = TrainedModel(booster.model_to_string(), FEATURE_VERSION, None, metrics, _facts(job))
    return StreamResult(model, tuple(importance), calibration(guess[seen], label[seen]), tuple(folds))


def _facts(job: StreamJob) -> dict[str, Any]:
    rule = job.rule
    return {
        "trained_for": {
            "holding_time": rule.holding_time,
            "profit_target_pct": rule.profit_target_pct,
            "stop_loss_pct": rule.stop_loss_pct,
            "confidence_threshold": job.threshold,
            "maker_fee": rule.maker_fee,
            "taker_fee": rule.taker_fee,
            "predict_seconds": job.predict_seconds,
            "gap_seconds": job.gap_seconds,
            "folds": job.folds,
            "rounds": job.rounds,
            "seed": job.seed,
        }
    }


def _check_enough(label: Any) -> None:
    if len(label) < LEAST_ROWS:
        raise ConfigError(f"too few decisions to learn from: {len(label)}, at least {LEAST_ROWS} are needed")
    for called, count in (("a take-profit", int(label.sum())), ("another end", int((1 - label).sum()))):
        if count < LEAST_OF_A_CLASS:
            raise ConfigError(f"only {count} of {len(label)} trades end by {called}: there is nothing to tell apart")


def _walk_forward(rows: Rows, job: StreamJob, progress: Callable[[int], None]) -> tuple[Any, list[dict[str, float]]]:
    """Each row's probability by a model that knew only the past (NaN where there was none), and figures per fold."""
    import numpy as np

    label, guess, folds = rows.label, np.full(len(rows.at), np.nan), []
    bounds = [len(rows.at) * (k + 1) // (job.folds + 1) for k in range(job.folds + 1)]
    for number, (start, end) in enumerate(pairwise(bounds)):
        before = rows.at < rows.at[start] - job.gap_seconds
        judged = np.arange(start, end)
        enough = before.sum() >= LEAST_ROWS and 0 < label[before].sum() < before.sum()
        if enough and len(judged):
            booster = _fit(rows.x[before], label[before], job, _offset(progress, number * job.rounds))
            guess[judged] = booster.predict(rows.x[judged], num_threads=1)
            found = _judge(guess[judged], rows.pick(judged), job)
            span = {"learned_until": float(rows.at[before][-1]), "judged_from": float(rows.at[start])}
            folds.append(found | span | {"learned_rows": float(before.sum())})
        progress((number + 1) * job.rounds)
    if not folds:
        raise ConfigError(
            f"the recording is too short to judge a model: a fold needs {LEAST_ROWS} decisions, then a gap of "
            f"{job.gap_seconds} s, before the rows that it is judged on"
        )
    return guess, folds


def _offset(progress: Callable[[int], None], base: int) -> Callable[[int], None]:
    return lambda done: progress(base + done)


def _fit(x: Any, label: Any, job: StreamJob, progress: Callable[[int], None]) -> Any:
    lightgbm = import_lightgbm()
    parameters = {
        "objective": "binary",
        "learning_rate": 0.05,
        "num_leaves": 31,
        "min_data_in_leaf": 20,
        "num_threads": 1,
        "deterministic": True,
        "force_row_wise": True,
        "seed": job.seed,
        "verbosity": -1,
    }
    data = lightgbm.Dataset(x, label, feature_name=list(FEATURE_NAMES), params={"verbosity": -1, "num_threads": 1})
    return lightgbm.train(parameters, data, job.rounds, callbacks=[lambda env: progress(env.iteration + 1)])


def _judge(guess: Any, rows: Rows, job: StreamJob) -> dict[str, float]:
    return figures(guess, rows.label, rows.profit, rows.at, job.threshold, job.rule.holding_time)
