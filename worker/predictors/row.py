"""One row at a time, as stream bots need it: LightGBM's single-row C entry, or ``Booster.predict`` where that fails.

The C entry keeps one prepared configuration and predicts from buffers that are allocated once, some 3 µs a row where
``Booster.predict`` takes 18. It is used only where it gives what ``Booster.predict`` gives, to 1e-12, on rows that are
tried at load. One thread always.
"""

from __future__ import annotations

import ctypes
import math
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

from shared.errors import PredictionError
from shared.model_terms import CHANGE_OBJECTIVES, CLASS_OBJECTIVES, PROBABILITY_OBJECTIVES
from worker.core.features import FEATURE_NAMES, FEATURE_VERSION
from worker.models.booster import import_lightgbm
from worker.models.validation import ModelFacts, ModelRefused, check_text

Kind = Literal["probability", "change_pct"]

TOLERANCE = 1e-12
ROWS_TRIED = 16
_INIT, _PREDICT, _FREE = (
    "LGBM_BoosterPredictForMatSingleRowFastInit",
    "LGBM_BoosterPredictForMatSingleRowFast",
    "LGBM_FastConfigFree",
)
_NORMAL, _DOUBLE = 0, 1
_is_finite = math.isfinite

RowCall = Callable[[Sequence[float]], Sequence[float]]
"""Features in, the model's outputs (one, or one a class) out; what it returns is overwritten by the next call."""


class RowPredictor:
    """A loaded stream model. Not for use by two threads at once: its buffers are one."""

    def __init__(self, call: RowCall, facts: ModelFacts, source: str, buy_class: int, *, fast: bool) -> None:
        self.source, self.fast, self.num_features = source, fast, len(facts.feature_names)
        self.kind: Kind = "change_pct" if facts.objective in CHANGE_OBJECTIVES else "probability"
        self._call, self._is_change = call, self.kind == "change_pct"
        self._output = buy_class if facts.objective in CLASS_OBJECTIVES else 0

    def predict(self, row: Sequence[float]) -> float:
        """The probability of the buy class, or the predicted change as a fraction (``kind`` says which).

        Raises PredictionError where the row has another length or the answer is not finite.
        """
        if len(row) != self.num_features:
            raise PredictionError(f"{self.source} wants {self.num_features} features, not {len(row)}")
        value = self._call(row)[self._output]
        if not _is_finite(value):
            raise PredictionError(f"{self.source} predicts {value}")
        return value

    def confidence(self, value: float, profit_target_pct: float) -> float:
        """What is held against ``confidence_threshold``, 0 to 1: a change counts against twice the profit target."""
        if self._is_change:
            value = value / (2 * profit_target_pct)
        return 0.0 if value <= 0.0 else 1.0 if value > 1.0 else value


def load_row_predictor(
    text: str,
    source: str,
    names: Sequence[str] = FEATURE_NAMES,
    version: object = FEATURE_VERSION,
    buy_class: int = 1,
    facts: ModelFacts | None = None,
) -> RowPredictor:
    """Check a model against the features that it will be given and load it.

    Probe an untrusted text in a child first: ``facts`` are what it found, so that a large text is not checked once more
    in a process that has better to do. Raises ModelRefused, naming the version where the features are others.
    """
    facts = facts or check_text(text.encode())
    check_stream(facts, names, version, buy_class)
    lightgbm = import_lightgbm()
    try:
        booster = lightgbm.Booster(model_str=text)
    except lightgbm.basic.LightGBMError as error:
        raise ModelRefused("file", f"LightGBM does not load it: {error}") from error
    slow = plain_call(booster)
    fast = fast_call(booster, lightgbm.basic, facts)
    if fast is not None and agree(fast, slow, trial_rows(len(facts.feature_names))):
        return RowPredictor(fast, facts, source, buy_class, fast=True)
    return RowPredictor(slow, facts, source, buy_class, fast=False)


def check_stream(facts: ModelFacts, names: Sequence[str], version: object, buy_class: int = 1) -> None:
    """Whether a checked model can serve a stream bot. Raises ModelRefused."""
    if facts.feature_names != tuple(names):
        raise ModelRefused(
            "feature_version",
            f"its features are not the {len(names)} of version {version}",
            " ".join(facts.feature_names),
        )
    if facts.objective not in CHANGE_OBJECTIVES | PROBABILITY_OBJECTIVES:
        raise ModelRefused("objective", "gives neither a probability nor a change", facts.objective)
    if facts.objective in CLASS_OBJECTIVES:
        if not 0 <= buy_class < facts.num_class:
            raise ModelRefused("buy_class", f"must be one of {facts.num_class} classes, from 0", buy_class)
    elif facts.num_class != 1:
        raise ModelRefused("num_class", f"must be 1 for {facts.objective}", facts.num_class)


def plain_call(booster: Any) -> RowCall:
    """``Booster.predict`` for one row."""
    import numpy as np

    def call(row: Sequence[float]) -> Sequence[float]:
        answer = booster.predict(np.asarray([row], dtype=np.float64), num_threads=1)
        found: list[float] = np.atleast_1d(answer[0]).tolist()
        return found

    return call


def fast_call(booster: Any, basic: Any, facts: ModelFacts) -> RowCall | None:
    """The C entry over buffers of its own, or None where this LightGBM lacks it (``basic`` is ``lightgbm.basic``).

    The GIL is held during the call: releasing it for microseconds would let a busy thread keep it for milliseconds.
    """
    library: Any = getattr(basic, "_LIB", None)
    handle = getattr(booster, "_handle", None)
    try:
        prepare, free = getattr(library, _INIT), getattr(library, _FREE)
        predict = ctypes.PYFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 4)((_PREDICT, library))
    except (AttributeError, TypeError, ValueError):
        return None
    if not isinstance(handle, ctypes.c_void_p):
        return None
    width = len(facts.feature_names)
    prepared, count = ctypes.c_void_p(), ctypes.c_int64()
    failed = prepare(handle, _NORMAL, 0, -1, _DOUBLE, ctypes.c_int32(width), b"num_threads=1", ctypes.byref(prepared))
    if failed:
        return None
    return _FastCall(booster, predict, free, prepared, count, width, facts.num_class)


class _FastCall:
    """Owns what the C entry reads and writes; the booster must outlive it, so it is held too."""

    __slots__ = ("_booster", "_buffer", "_count", "_free", "_out", "_pack", "_pointers", "_predict", "_prepared")

    def __init__(
        self,
        booster: Any,
        predict: Callable[..., int],
        free: Callable[..., int],
        prepared: ctypes.c_void_p,
        count: ctypes.c_int64,
        width: int,
        classes: int,
    ) -> None:
        self._booster, self._predict, self._free, self._prepared, self._count = booster, predict, free, prepared, count
        self._buffer, out = ctypes.create_string_buffer(8 * width), (ctypes.c_double * classes)()
        self._out = cast("Sequence[float]", out)
        self._pack = struct.Struct(f"={width}d").pack_into
        self._pointers = (
            prepared,
            ctypes.c_void_p(ctypes.addressof(self._buffer)),
            ctypes.c_void_p(ctypes.addressof(count)),
            ctypes.c_void_p(ctypes.addressof(out)),
        )

    def __call__(self, row: Sequence[float]) -> Sequence[float]:
        self._pack(self._buffer, 0, *row)
        if self._predict(*self._pointers):
            raise PredictionError("LightGBM fails on a row")
        return self._out

    def __del__(self) -> None:
        self._free(self._prepared)


def trial_rows(width: int) -> list[list[float]]:
    """Rows of many magnitudes, the same at every load."""
    dice = random.Random(6)  # noqa: S311  # spread, not secrecy
    spread = [[dice.gauss(0, 10.0 ** (n - 8)) for _ in range(width)] for n in range(ROWS_TRIED - 2)]
    return [[0.0] * width, [1.0] * width, *spread]


def agree(one: RowCall, other: RowCall, rows: Sequence[Sequence[float]]) -> bool:
    """Whether both give the same on every row, to 1e-12 (relative above 1)."""
    for row in rows:
        try:
            mine, wanted = list(one(row)), list(other(row))
        except PredictionError:
            return False
        if len(mine) != len(wanted) or not all(map(_close, mine, wanted)):
            return False
    return True


def _close(mine: float, wanted: float) -> bool:
    return math.isclose(mine, wanted, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
