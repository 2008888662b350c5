"""Whatever stands in ``predictions``: any program can be the brain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from shared.clock import parse_rfc3339
from shared.documents import parse_json
from shared.errors import DocumentError, PredictionError, StoreRefused, shorten
from shared.store import MAX_RECORD_BYTES, Store
from worker.core.types import Prediction
from worker.predictors.base import Market, PredictionSet

FUTURE_SECONDS = 5.0
LARGEST = 1e6


class DocumentPredictor:
    """Reads ``{"AAPL": {"change_pct": 0.08, "confidence": 0.7, "source": "…", "time": "…Z"}}``, entry by entry.

    ``patience_seconds`` is the age that is allowed at least, for a source that answers seldom.
    """

    def __init__(self, store: Store, patience_seconds: float = 0) -> None:
        self._store, self._patience = store, patience_seconds

    def predict(
        self, tickers: Sequence[str], market: Market, now: datetime, stale_data_seconds: float
    ) -> PredictionSet:
        stale_data_seconds = max(stale_data_seconds, self._patience)
        found = self._document()
        predictions: dict[str, Prediction] = {}
        notes: dict[str, str] = {}
        for ticker in tickers:
            try:
                predictions[ticker] = _entry(found, ticker, now, stale_data_seconds)
            except ValueError as error:
                notes[ticker] = str(error)
        return PredictionSet(predictions, notes)

    def _document(self) -> Mapping[str, Any]:
        try:
            raw = self._store.read_raw(self._store.keys.predictions)
            found = {} if raw is None else parse_json(raw, MAX_RECORD_BYTES)
        except (DocumentError, StoreRefused) as error:
            raise PredictionError(f"predictions: {error}") from error
        if not isinstance(found, dict):
            raise PredictionError(f"predictions: must be a JSON object (got {shorten(found)})")
        return found


def _entry(found: Mapping[str, Any], ticker: str, now: datetime, stale_data_seconds: float) -> Prediction:
    if ticker not in found:
        raise ValueError("no prediction")
    entry = found[ticker]
    if not isinstance(entry, dict):
        raise ValueError(f"prediction must be an object (got {shorten(entry)})")
    change = _number(entry, "change_pct")
    confidence = None if entry.get("confidence") is None else _number(entry, "confidence")
    if confidence is not None and not 0 <= confidence <= 1:
        raise ValueError(f"confidence must be 0 to 1 (got {shorten(confidence)})")
    try:
        at = parse_rfc3339(entry["time"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ValueError(f"time must be RFC 3339 with a zone (got {shorten(entry.get('time'))})") from None
    age = (now - at).total_seconds()
    if age > stale_data_seconds:
        raise ValueError(f"STALE_PREDICTION: {age:.1f} s old > {stale_data_seconds:g} s (stale_data_seconds)")
    if age < -FUTURE_SECONDS:
        raise ValueError(f"STALE_PREDICTION: dated {-age:.1f} s in the future")
    source = entry.get("source", "document")
    return Prediction(change, confidence, at, source if isinstance(source, str) else "document")


def _number(entry: Mapping[str, Any], name: str) -> float:
    value = entry.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > LARGEST:
        raise ValueError(f"{name} must be a number of at most {LARGEST:g} (got {shorten(value)})")
    return float(value)
