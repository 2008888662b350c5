"""Model files are untrusted, features know no future, and an honest model beats a shuffled one where there is drift."""

from __future__ import annotations

import gzip
import math
import pickle
import random
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from worker.core.bar_features import NAMES, WINDOW, feature_matrix, split_sessions, targets
from worker.core.types import Bar
from worker.feeds.bars import BarSeries, load_bars
from worker.models.booster import import_lightgbm
from worker.models.child import train_in_child
from worker.models.probe import judge_in_child, probe_in_child
from worker.models.training import train
from worker.models.validation import ModelRefused, check_text
from worker.predictors.lightgbm import LoadedModel
from worker.venues.simulated.market import SeededMarket

REFUSED_FIELDS = {
    "binary_garbage": "file",
    "child_cycle": "tree 0.left_child",
    "crlf": "file",
    "dup_leaf_value_line": "tree 0.leaf_value",
    "empty": "file",
    "git_lfs_pointer": "file",
    "leaf_nan": "tree 0.leaf_value",
    "left_child_oob": "tree 0.left_child",
    "max_feature_idx_huge": "max_feature_idx",
    "missing_version": "version",
    "not_a_model": "file",
    "num_leaves_huge": "tree 0.num_leaves",
    "num_leaves_plus1": "tree 0.leaf_value",
    "num_leaves_zero": "tree 0.num_leaves",
    "pickle_bytes": "file",
    "split_feature_oob": "tree 0.split_feature",
    "tree_sizes_wrong": "tree_sizes",
    "truncated_header": "tree_sizes",
    "truncated_mid_tree": "end of trees",
    "unknown_objective": "objective",
}


def seeded(minutes: int = 1500, seed: int = 6) -> BarSeries:
    market = SeededMarket(seed, ["AAPL"])
    until = datetime(2026, 10, 5, 12, 0, tzinfo=UTC)
    return BarSeries("AAPL", tuple(market.bars("AAPL", minutes, until)), False)


@pytest.fixture(scope="module")
def model_text() -> str:
    return train([seeded()], 60).text


@pytest.mark.parametrize("name", REFUSED_FIELDS)
def test_model_file_when_malformed_is_refused_by_the_field_at_fault(data: Path, name: str) -> None:
    with pytest.raises(ModelRefused) as refused:
        check_text((data / "lightgbm" / "malformed" / f"{name}.txt").read_bytes())
    assert refused.value.field == REFUSED_FIELDS[name]


def test_model_files_when_real_are_accepted(data: Path) -> None:
    files = [*(data / "lightgbm").glob("l*__*"), data / "lightgbm" / "malformed" / "valid_control.txt"]
    assert len(files) == 9
    for file in files:
        raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        assert check_text(raw).trees >= 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("objective=regression", "objective=multiclass num_class:100000"),
        ("objective=regression", "objective=binary sigmoid:-1"),
        ("is_linear=0", "is_linear=1"),
        ("num_cat=0", "num_cat=-1"),
        ("num_cat=0", "num_cat=1"),
        ("shrinkage=", "shrinkage=1_0"),
        ("tree_sizes=", "tree_sizes=" + "9" * 5000 + " "),
        ("feature_infos=", "feature_infos=none "),
        ("version=v4", "version=v9"),
    ],
)
def test_model_text_when_changed_by_hand_is_refused(model_text: str, old: str, new: str) -> None:
    assert old in model_text
    with pytest.raises(ModelRefused):
        check_text(model_text.replace(old, new, 1).encode())


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("version=v4", "version=v1", "version"),
        ("version=v4", "version=v5", "version"),
        ("version=v4\n", "", "version"),
        ("version=v4\n", "version=v4\nversion=v4\n", "header.version"),
        ("tree_sizes=", "tree_sizes=1 ", "tree_sizes"),
        ("tree_sizes=", "tree_sizes=1", "tree_sizes"),
        ("end of trees", "end of tree", "end of trees"),
        ("leaf_value=", "leaf_value=inf ", "tree 0.leaf_value"),
        ("end of trees", "x=end of trees", "end of trees"),
        ("num_class=1\n", "num_class=3\n", "num_class"),
        ("num_class=1\nnum_tree_per_iteration=1", "num_class=3\nnum_tree_per_iteration=3", "num_class"),
        ("num_class=1\nnum_tree_per_iteration=1", "num_class=9999\nnum_tree_per_iteration=9999", "num_class"),
        ("num_leaves=", "num_leaves=2\nnum_leaves=", "tree 0.num_leaves"),
        ("internal_value=", "internal_value=0 ", "tree 0.internal_value"),
        ("leaf_count=", "leaf_count=0 ", "tree 0.leaf_count"),
        ("\n\nTree=0", "\n\nx\nTree=0", "Tree"),
        ("label_index=0\n", "", "label_index"),
        ("feature_infos=", "feature_info=", "header.feature_info"),
        ("feature_names=", "feature_names= ", "feature_names"),
        ("internal_value=", "internal_value=x", "tree 0.internal_value"),
        ("internal_weight=", "internal_weight=\t", "tree 0.internal_weight"),
        ("internal_count=", "internal_count=1.5", "tree 0.internal_count"),
        ("split_gain=", "split_gain=0x", "tree 0.split_gain"),
        ("threshold=", "threshold=\t ", "tree 0.threshold"),
        ("num_cat=0\n", "num_cat=0\n\n", "tree 0."),
        ("num_cat=0\n", "num_cat=0\n[valid: ]\n", "tree 0.[valid: ]"),
        ("num_cat=0\n", "num_cat=0\nleaf_const=1\n", "tree 0.leaf_const"),
        ("objective=regression", "objective=binary", "objective.sigmoid"),
        ("objective=regression", "objective=multiclassova sigmoid:1", "num_class"),
        ("[boosting: gbdt]", "[boosting gbdt]", "parameters"),
        ("[linear_tree: 0]", "[linear_tree: x]", "parameters"),
        ("end of trees\n", "end of trees\n\nTree=80\n", "end of trees"),
        ("\nend of parameters", " \nend of parameters", "parameters"),
        ("pandas_categorical:null", "pandas_categorical:nil", "pandas_categorical"),
        ("pandas_categorical:null", "pandas_categorical:null\nx", "pandas_categorical"),
        ("pandas_categorical:null", 'pandas_categorical:{"a": 1}', "pandas_categorical"),
        ("\nend of parameters\n\npandas_categorical:null", "", "end of parameters"),
        ("num_class=1\nnum_tree_per_iteration=1", "num_class=4\nnum_tree_per_iteration=4", "num_class"),
        ("objective=regression", "objective=multiclass num_class:1", "num_class"),
        ("objective=regression", "objective=regression evil", "objective"),
        ("objective=regression", "objective=regression sqrt sqrt", "objective.sqrt"),
        ("label_index=0", "label_index=0=1", "label_index"),
        ("label_index=0", "label_index=abc", "label_index"),
        ("label_index=0", "label_index=0\nevil=1", "header.evil"),
        ("label_index=0", "label_index=0\nmonotone_constraints=1 0", "monotone_constraints"),
        ("label_index=0", "label_index=0\naverage_output=0", "average_output"),
        ("feature_infos=", "feature_infos=\u0665", "feature_infos"),
        ("leaf_value=", "leaf_value=\u0665", "Tree"),
        ("decision_type=2", "decision_type=14", "tree 0.decision_type"),
        ("decision_type=2", "decision_type=256", "tree 0.decision_type"),
        ("decision_type=2", "decision_type=-2", "tree 0.decision_type"),
    ],
)
def test_model_text_when_lightgbm_might_load_it_is_refused_by_the_field_all_the_same(
    model_text: str, old: str, new: str, field: str
) -> None:
    """LightGBM takes most of these and predicts something."""
    assert old in model_text
    with pytest.raises(ModelRefused) as refused:
        check_text(model_text.replace(old, new, 1).encode())
    assert refused.value.field == field


@pytest.mark.parametrize(
    "value",
    [
        "1e-320",
        "5e-324",
        "-1e-400",
        "0.00e0001e",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "-1e999",
        "Infinity",
        "0x10",
        "1_0",
        "",
        "1e5e5",
    ],
)
def test_leaf_when_not_a_finite_number_is_refused(model_text: str, value: str) -> None:
    start = model_text.index("leaf_value=") + len("leaf_value=")
    end = model_text.index(" ", start)
    with pytest.raises(ModelRefused) as refused:
        check_text((model_text[:start] + value + model_text[end:]).encode())
    assert refused.value.field == "tree 0.leaf_value"


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (pickle.dumps({"model": 1}), "pickle"),
        (pickle.dumps([1], protocol=0), "something else"),
        (b"PK\x03\x04rest", "zip"),
        (b"\x1f\x8brest", "gzip"),
        (b"\x78\x9crest", "joblib"),
        (b"\x93NUMPY", "NumPy"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"\x7fELF", "a program"),
        (b'{"learner": 1}', "JSON"),
        (b"<xml/>", "XML"),
        (b"", "empty"),
        (b"\xef\xbb\xbftree\n", "byte order mark"),
        ("tree\n".encode("utf-16"), "UTF-16"),
        (b"tree", "something else"),
    ],
)
def test_model_file_when_of_another_format_is_named_by_its_content(raw: bytes, kind: str) -> None:
    with pytest.raises(ModelRefused, match=kind) as refused:
        check_text(raw)
    assert refused.value.field == "file"


def trained(**parameters: object) -> str:
    """A model as LightGBM writes it, of four features, the last one a category."""
    lightgbm = import_lightgbm()
    dice = np.random.default_rng(6)
    x = dice.normal(size=(400, 4))
    x[:, 3] = dice.integers(0, 40, 400)
    names = parameters.pop("names", ["a", "b", "c", "d"])
    wanted = {"objective": "regression", "min_data_in_leaf": 5, "verbosity": -1, "num_threads": 1, **parameters}
    wanted |= {"min_data_per_group": 5, "cat_smooth": 1}
    y = (x[:, 0] + x[:, 3] % 3 > 1).astype(float)
    whole = lightgbm.Dataset(x, y, feature_name=names, categorical_feature=[3], params={"verbosity": -1})
    text: str = lightgbm.train(wanted, whole, 4).model_to_string()
    return text


def resized(text: str) -> str:
    """With the sizes of the trees as they are now."""
    body = text.partition("\n\n")[2].partition("\nend of trees")[0] + "\n"
    sizes = [len(block) for block in re.split("(?m)^(?=Tree=)", body) if block]
    return re.sub("tree_sizes=.*", f"tree_sizes={' '.join(map(str, sizes))}", text, count=1)


@pytest.mark.parametrize(
    "parameters",
    [
        {"linear_tree": True},
        {"linear_tree": True, "objective": "binary", "min_data_in_leaf": 150},
        {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
        {"boosting": "dart"},
        {"monotone_constraints": [1, 0, -1, 0]},
        {"reg_sqrt": True},
        {"names": ["größe", "价格", "i=j", "k(l)"]},
    ],
)
def test_model_text_when_made_by_lightgbm_with_other_parameters_is_accepted(parameters: dict[str, object]) -> None:
    judge_in_child(trained(**parameters).encode(), 200)


@pytest.mark.parametrize(
    ("field", "old", "new"),
    [
        ("leaf_const", r"leaf_const=\S+", "leaf_const=nan"),
        ("leaf_coeff", r"leaf_coeff= *\S+", "leaf_coeff=1e999"),
        ("leaf_coeff", r"leaf_coeff= *\S+", "leaf_coeff="),
        ("leaf_coeff", r"leaf_coeff=.*\n", ""),
        ("leaf_features", r"leaf_features= *\d", "leaf_features=9"),
        ("leaf_features", r"leaf_features= *\d", "leaf_features=-1"),
        ("num_features", r"num_features=\d", "num_features=5"),
        ("num_features", r"num_features=\d", "num_features=999999999"),
        ("num_features", r"num_features=\d", "num_features=-1"),
        ("is_linear", "is_linear=1", "is_linear=2"),
        ("leaf_const", "is_linear=1", "is_linear=0"),
    ],
)
def test_linear_tree_when_changed_by_hand_is_refused_by_the_field(field: str, old: str, new: str) -> None:
    """LightGBM reads beyond what it has allocated on several of these."""
    text = trained(linear_tree=True)
    start = text.index("Tree=1")
    changed, count = re.subn(old, new, text[start:], count=1)
    assert count
    with pytest.raises(ModelRefused) as refused:
        check_text(resized(text[:start] + changed).encode())
    assert refused.value.field == f"tree 1.{field}"


@pytest.mark.parametrize("word", ["99999999999", "4294967296", "-1", "1\t1"])
def test_category_when_no_word_of_32_bits_is_refused(word: str) -> None:
    """LightGBM takes them, and sorts rows otherwise than they say."""
    changed, count = re.subn(r"cat_threshold=\d+", f"cat_threshold={word}", trained(), count=1)
    assert count
    with pytest.raises(ModelRefused) as refused:
        check_text(resized(changed).encode())
    assert refused.value.field == "tree 0.cat_threshold"


@pytest.mark.parametrize("value", ["1e400", "-1e-320"])
def test_figure_that_predictions_do_not_need_when_it_makes_lightgbm_abort_is_refused(
    model_text: str, value: str
) -> None:
    """C++ throws where a number over- or underflows, and nobody catches it."""
    with pytest.raises(ModelRefused, match=r"split_gain: is too (large|small)"):
        check_text(resized(re.sub(r"split_gain=\S+", f"split_gain={value}", model_text)).encode())


def test_leaves_when_they_add_up_to_infinity_are_refused(model_text: str) -> None:
    with pytest.raises(ModelRefused, match="leaf_value: adds up to what is not finite"):
        check_text(resized(re.sub(r"leaf_value=\S+", "leaf_value=1e308", model_text)).encode())


def test_header_when_it_counts_millions_is_refused_before_it_is_taken_apart(model_text: str) -> None:
    for field, name in (("tree_sizes", "tree_sizes"), ("feature_names", "max_feature_idx")):
        with pytest.raises(ModelRefused) as refused:
            check_text(model_text.replace(f"{field}=", f"{field}=" + "1 " * 4_000_000, 1).encode())
        assert refused.value.field == name


@pytest.mark.parametrize("objective", ["binary", "multiclass", "regression_l1", "quantile", "gamma", "cross_entropy"])
@pytest.mark.parametrize("least", [3, 1000])
def test_model_text_when_just_trained_is_accepted_also_where_a_tree_is_one_leaf(objective: str, least: int) -> None:
    """What the checks refuse must not be what LightGBM writes."""
    lightgbm = import_lightgbm()
    x = np.random.default_rng(6).normal(size=(90, 3))
    y = (x[:, 0] > 0) + (0.1 if objective == "gamma" else 0.0)
    wanted = {"objective": objective, "min_data_in_leaf": least, "verbosity": -1, "num_threads": 1}
    wanted |= {"num_class": 3} if objective == "multiclass" else {}
    booster = lightgbm.train(wanted, lightgbm.Dataset(x, y, params={"verbosity": -1}), 2)
    assert check_text(booster.model_to_string().encode()).objective == objective


def test_model_text_when_mutated_at_random_is_accepted_or_refused_and_nothing_else(model_text: str) -> None:
    """No other error gets out of the parser, whatever stands where."""
    dice = random.Random(6)
    odd = ["0", "-1", "1e308", "nan", "", " ", "=", "\t", "Tree=0", "end of trees", "999999999", "1.5", "\n"]
    head = model_text[: model_text.index("Tree=1")] + model_text[model_text.index("end of trees") :]
    base = re.sub(r"tree_sizes=(\d+).*", r"tree_sizes=\1", head)
    assert check_text(base.encode()).trees == 1
    verdicts = {True: 0, False: 0}
    for _ in range(1500):
        words = re.split(r"([ =\n])", base)
        for _ in range(dice.choice((1, 1, 2))):
            words[dice.randrange(len(words))] = dice.choice(odd)
        try:
            check_text("".join(words).encode())
            verdicts[True] += 1
        except ModelRefused:
            verdicts[False] += 1
    assert min(verdicts.values()) > 50


def test_model_when_probed_in_a_child_passes_or_is_refused_and_harms_nobody(model_text: str, data: Path) -> None:
    probe_in_child(model_text, len(NAMES))
    for name in ("left_child_oob", "truncated_mid_tree", "leaf_nan"):
        with pytest.raises(ModelRefused):
            probe_in_child((data / "lightgbm" / "malformed" / f"{name}.txt").read_text(), 10)


def test_features_when_computed_equal_the_plain_pandas_formula(data: Path) -> None:
    series = load_bars(data / "bars/lean/crypto__coinbase__minute__btcusd__20170903_trade.zip")
    found = feature_matrix(series.bars, sessions=False)
    close = pd.Series([b.close for b in series.bars])
    volume = pd.Series([b.volume for b in series.bars])
    step = np.log(close).diff()
    change = close.diff()
    gain = change.clip(lower=0).rolling(14).mean()
    loss = (-change.clip(upper=0)).rolling(14).mean()
    columns = [np.log(close / close.shift(k)) for k in (1, 5, 10, 30, 60)]
    columns += [step.rolling(k).apply(np.std, raw=True) for k in (10, 30, 60)]
    columns += [close / close.rolling(k).mean() - 1 for k in (10, 30, 60)]
    flat = pd.Series(np.where(gain > 1e-9, 100.0, 50.0))
    columns.append((100 - 100 / (1 + gain / loss)).where(loss > 1e-9, flat))
    columns.append(volume / volume.rolling(60).mean())
    columns.append(pd.Series([b.start.hour * 60 + b.start.minute for b in series.bars], dtype=float))
    wanted = pd.concat(columns, axis=1).to_numpy()[WINDOW - 1 :]
    scale = np.maximum(np.abs(wanted), np.abs(wanted).max(axis=0) / 1000)
    assert np.nanmax(np.abs(found - wanted) / scale) < 1e-9


def test_features_when_the_future_changes_stay_the_same() -> None:
    bars = list(seeded(300).bars)
    before = feature_matrix(bars, sessions=False)
    crash = [Bar(b.start, b.open / 2, b.high / 2, b.low / 2, b.close / 2, 0.0) for b in bars[200:]]
    after = feature_matrix([*bars[:200], *crash], sessions=False)
    assert np.array_equal(before[: 200 - WINDOW + 1], after[: 200 - WINDOW + 1])
    assert np.array_equal(feature_matrix(bars[100 : 100 + WINDOW], sessions=False)[0], before[100])


def test_sessions_when_there_are_several_are_never_joined(data: Path) -> None:
    days = [load_bars(data / f"bars/lean/equity__usa__minute__aapl__2014060{d}_trade.zip").regular() for d in (5, 6)]
    joined = [b for day in days for b in day.bars]
    runs = split_sessions(joined, sessions=True)
    assert [len(r) for r in runs] == [390, 390]
    rows = feature_matrix(runs[1], sessions=True)
    assert len(rows) == 390 - WINDOW + 1
    assert rows[0][-1] == WINDOW - 1
    known = targets(runs[1], 60)
    assert np.isnan(known[-60:]).all()
    assert known[0] == pytest.approx(runs[1][120].close / runs[1][60].close - 1)


def test_training_when_honest_beats_shuffled_labels_and_is_repeatable() -> None:
    history = seeded(6000)
    early, late = BarSeries("AAPL", history.bars[:4500], False), BarSeries("AAPL", history.bars[4560:], False)
    x, y = feature_matrix(late.bars, sessions=False), targets(late.bars, 60)
    known = ~np.isnan(y)
    honest, again, shuffled = train([early], 60), train([early], 60), train([early], 60, shuffle_labels=True)
    assert honest.text == again.text

    def correlation(text: str) -> float:
        return float(np.corrcoef(LoadedModel(text, "t").predict(x[known]), y[known])[0, 1])

    assert correlation(honest.text) > 0.3
    assert correlation(honest.text) > abs(correlation(shuffled.text)) + 0.2
    assert honest.metrics["held_out_rows"] > 0


def test_training_when_in_a_child_tells_its_progress_and_gives_the_same_model() -> None:
    told: list[tuple[int, int]] = []
    model = train_in_child([seeded()], 60, lambda done, total: told.append((done, total)))
    assert model.text == train([seeded()], 60).text
    assert told[-1][0] == told[-1][1]
    assert [d for d, _ in told] == sorted(d for d, _ in told)


def test_loaded_model_when_of_other_features_is_refused(data: Path) -> None:
    with pytest.raises(ModelRefused, match="bars-1"):
        LoadedModel((data / "lightgbm" / "malformed" / "valid_control.txt").read_text(), "t")


def test_bars_when_a_session_is_a_half_day_end_at_one(tmp_path: Path) -> None:
    start = datetime(2013, 7, 3, 13, 0, tzinfo=UTC)
    bars = tuple(Bar(start + timedelta(minutes=n), 1.0, 1.0, 1.0, 1.0, 1.0) for n in range(480))
    kept = BarSeries("X", bars, True).regular().bars
    assert (kept[0].start.hour, kept[0].start.minute) == (13, 30)
    assert kept[-1].start == datetime(2013, 7, 3, 16, 59, tzinfo=UTC)


def test_prediction_when_finite_is_never_rescaled(model_text: str) -> None:
    rows = feature_matrix(seeded(400).bars, sessions=False)
    answer = LoadedModel(model_text, "t").predict(rows)
    assert all(map(math.isfinite, answer))
    assert float(np.abs(answer).max()) < 0.05
