"""A registry model over the venue's minute bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from shared.errors import PredictionError
from shared.model_terms import CHANGE_OBJECTIVES
from worker.core.bar_features import NAMES, VERSION, WINDOW, feature_matrix, session_minute, session_of
from worker.core.types import Bar, Prediction
from worker.models.booster import import_lightgbm
from worker.models.probe import probe_in_child
from worker.models.registry import ModelRegistry
from worker.models.validation import ModelRefused, check_text
from worker.predictors.base import Market, PredictionSet

BOT_ID = 1
BAR_SECONDS = 60
REGULAR_MINUTES = 390


class LoadedModel:
    """A checked model, ready to predict rows of ``bars-1``. One thread always."""

    def __init__(self, text: str, source: str) -> None:
        lightgbm = import_lightgbm()

        facts = check_text(text.encode())
        if facts.feature_names != NAMES:
            raise ModelRefused("feature_names", f"are not those of {VERSION}", " ".join(facts.feature_names))
        if facts.objective not in CHANGE_OBJECTIVES:
            raise ModelRefused("objective", "a cycle model predicts a change", facts.objective)
        self.source = source
        try:
            self._booster = lightgbm.Booster(model_str=text)
        except lightgbm.basic.LightGBMError as error:
            raise ModelRefused("file", f"LightGBM does not load it: {error}") from error

    def predict(self, rows: Any) -> Any:
        """Predicted changes for ``rows`` of shape (n, 14): shape (n,)."""
        return self._booster.predict(rows, num_threads=1)


class LightGBMPredictor:
    """Predicts with the newest valid model assigned to the cycle bot; a new one is picked up between two cycles."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry
        self._loaded: tuple[object, LoadedModel] | None = None

    def predict(
        self, tickers: Sequence[str], market: Market, now: datetime, stale_data_seconds: float
    ) -> PredictionSet:
        model = self._model()
        sessions = market.capabilities.sessions
        bars = market.bars(tickers, WINDOW, now)
        notes: dict[str, str] = {}
        rows, asked = [], []
        for ticker in tickers:
            found = bars.get(ticker, [])
            problem = _problem(found, now, stale_data_seconds, sessions=sessions)
            if problem:
                notes[ticker] = problem
                continue
            row = feature_matrix(found[-WINDOW:], sessions=sessions)[0]
            if all(map(math.isfinite, row)):
                rows.append(row)
                asked.append(ticker)
            else:
                notes[ticker] = "the bars give features that are no numbers"
        predictions: dict[str, Prediction] = {}
        for ticker, change in zip(asked, model.predict(rows) if rows else [], strict=True):
            if math.isfinite(change):
                predictions[ticker] = Prediction(float(change), None, now, model.source)
            else:
                notes[ticker] = f"the model predicts {change}"
        return PredictionSet(predictions, notes)

    def _model(self) -> LoadedModel:
        found = self._registry.assigned(BOT_ID)
        if found is None:
            raise PredictionError("no model is assigned to the cycle bot: train one with `sixbot model train`")
        key = (found.get("id"), found.get("sha256"))
        if self._loaded is not None and self._loaded[0] == key:
            return self._loaded[1]
        text = self._registry.text(int(found["id"]))
        if text is None:
            raise PredictionError(f"model {found['id']} has no text")
        try:
            check_text(text.encode())
            probe_in_child(text, len(NAMES))
            model = LoadedModel(text, f"lightgbm:{found['id']}")
        except ModelRefused as error:
            raise PredictionError(f"model {found['id']} is refused: {error}") from error
        self._loaded = (key, model)
        return model


def _problem(bars: Sequence[Bar], now: datetime, stale_data_seconds: float, *, sessions: bool) -> str:
    """Why these bars give no row; empty where they do."""
    if len(bars) < WINDOW:
        return f"{len(bars)} bars, {WINDOW} are needed"
    if not all(math.isfinite(b.close) and b.close > 0 and math.isfinite(b.volume) for b in bars[-WINDOW:]):
        return "a bar has no sane price or volume"
    last = bars[-1].start
    age = (now - last - timedelta(seconds=BAR_SECONDS)).total_seconds()
    if age > BAR_SECONDS + stale_data_seconds:
        return f"STALE_DATA: the last bar ended {age:.0f} s ago"
    if sessions:
        first = bars[-WINDOW].start
        inside = all(0 <= session_minute(b, sessions=True) < REGULAR_MINUTES for b in (first, last))
        if not inside or session_of(first, sessions=True) != session_of(last, sessions=True):
            return f"fewer than {WINDOW} bars in this session so far"
    return ""
