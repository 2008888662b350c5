"""One row through LightGBM's C entry is what ``Booster.predict`` says, and where it is not, nobody notices."""

from __future__ import annotations

import gzip
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.errors import PredictionError
from worker.models.booster import import_lightgbm
from worker.models.validation import ModelRefused, check_text
from worker.predictors import row as row_module
from worker.predictors.row import RowPredictor, agree, fast_call, load_row_predictor, plain_call, trial_rows

NAMES = tuple(f"f{n}" for n in range(30))


def trained(objective: str, **parameters: object) -> str:
    """A small model over thirty features."""
    lightgbm = import_lightgbm()
    dice = np.random.default_rng(6)
    x = dice.normal(size=(400, len(NAMES)))
    y = x[:, 0] + x[:, 1] * x[:, 2]
    if objective != "regression":
        y = np.digitize(y, [-0.5, 0.5]) if objective == "multiclass" else (y > 0).astype(float)
    wanted = {"objective": objective, "num_threads": 1, "verbosity": -1, "min_data_in_leaf": 5, **parameters}
    data = lightgbm.Dataset(x, y, feature_name=list(NAMES), params={"verbosity": -1})
    text: str = lightgbm.train(wanted, data, 20).model_to_string()
    return text


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    return {
        "binary": trained("binary"),
        "multiclass": trained("multiclass", num_class=3),
        "regression": trained("regression"),
    }


def load(text: str, buy_class: int = 1) -> RowPredictor:
    return load_row_predictor(text, "lightgbm:1", NAMES, "9", buy_class)


@pytest.mark.parametrize("objective", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("buy_class", [0, 1, 2])
def test_row_when_predicted_fast_equals_booster_predict(texts: dict[str, str], objective: str, buy_class: int) -> None:
    model = load(texts[objective], buy_class)
    booster = import_lightgbm().Booster(model_str=texts[objective])
    rows = np.random.default_rng(7).normal(size=(200, len(NAMES)))
    wanted = booster.predict(rows, num_threads=1)
    wanted = wanted[:, buy_class] if objective == "multiclass" else wanted
    assert model.fast
    assert [model.predict(r) for r in rows.tolist()] == pytest.approx(wanted.tolist(), rel=1e-12, abs=1e-12)
    assert model.kind == ("change_pct" if objective == "regression" else "probability")


def test_row_when_the_model_is_a_real_one_equals_booster_predict(data: Path) -> None:
    """Categorical splits, dart, random forests, several classes: every file that the checks accept."""
    lightgbm = import_lightgbm()
    for file in [*(data / "lightgbm").glob("l*__*"), data / "lightgbm/malformed/valid_control.txt"]:
        raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        facts, booster = check_text(raw), lightgbm.Booster(model_str=raw.decode())
        fast = fast_call(booster, lightgbm.basic, facts)
        assert fast is not None
        assert agree(fast, plain_call(booster), trial_rows(len(facts.feature_names))), file.name


@pytest.mark.parametrize("entry", ["_INIT", "_PREDICT", "_FREE"])
def test_row_when_the_c_entry_is_missing_comes_from_booster_predict(
    texts: dict[str, str], monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    fast = load(texts["binary"])
    monkeypatch.setattr(row_module, entry, "LGBM_EntryOfAnotherVersion")
    slow = load(texts["binary"])
    assert (fast.fast, slow.fast) == (True, False)
    assert slow.predict([0.5] * 30) == pytest.approx(fast.predict([0.5] * 30), rel=1e-12)


def test_row_when_the_c_entry_says_something_else_comes_from_booster_predict(
    texts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry that differs in the eleventh digit is not trusted."""
    honest = row_module.fast_call

    def lying(booster: Any, basic: Any, facts: Any) -> Any:
        call = honest(booster, basic, facts)
        assert call is not None
        return lambda row: [value * (1 + 1e-10) for value in call(row)]

    monkeypatch.setattr(row_module, "fast_call", lying)
    assert not load(texts["binary"]).fast


@pytest.mark.parametrize("row", [[], [0.0] * 29, [0.0] * 31])
def test_row_when_of_another_length_is_refused(texts: dict[str, str], row: list[float]) -> None:
    with pytest.raises(PredictionError, match="wants 30 features"):
        load(texts["binary"]).predict(row)


@pytest.mark.parametrize("answer", [math.nan, math.inf, -math.inf])
def test_row_when_the_answer_is_not_finite_is_no_prediction(texts: dict[str, str], answer: float) -> None:
    def call(_row: Sequence[float]) -> Sequence[float]:
        return [answer]

    model = RowPredictor(call, check_text(texts["binary"].encode()), "lightgbm:1", 1, fast=False)
    with pytest.raises(PredictionError, match="predicts"):
        model.predict([0.0] * 30)


def test_confidence_when_the_model_is_a_regression_is_the_change_against_twice_the_target(
    texts: dict[str, str],
) -> None:
    change, probability = load(texts["regression"]), load(texts["binary"])
    assert change.confidence(0.00015, 0.00015) == pytest.approx(0.5)
    assert (change.confidence(1.0, 0.00015), change.confidence(-1.0, 0.00015)) == (1.0, 0.0)
    assert probability.confidence(0.4, 0.00015) == 0.4


def test_model_when_of_other_features_is_refused_by_the_version(texts: dict[str, str]) -> None:
    with pytest.raises(ModelRefused, match="feature_version: its features are not the 30 of version 9"):
        load_row_predictor(texts["binary"], "m", NAMES[::-1], "9")


@pytest.mark.parametrize("buy_class", [-1, 3])
def test_model_when_it_lacks_the_buy_class_is_refused(texts: dict[str, str], buy_class: int) -> None:
    with pytest.raises(ModelRefused, match="buy_class"):
        load(texts["multiclass"], buy_class)


def test_model_when_it_ranks_is_refused_by_its_objective(texts: dict[str, str]) -> None:
    with pytest.raises(ModelRefused, match="objective"):
        load(texts["regression"].replace("objective=regression", "objective=lambdarank", 1))
