"""A model file is untrusted: LightGBM's own loader aborts, crashes or loops on files that this parser names.

Text of versions v2 to v4 only. Checked are size, counts, index ranges, that every tree is one, finite numbers, one
line per key, and the sizes that the header claims. Only names of features, and what follows the trees, may be other
than ASCII: LightGBM writes both as they were given to it.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from shared.keys import MODEL_TEXT_BYTES as MAX_BYTES
from worker.models.lines import ModelRefused, integer, integers_line, one_float, pairs
from worker.models.trees import check_tree

__all__ = ["MAX_BYTES", "ModelFacts", "ModelRefused", "check_text"]

_END = "end of trees"
_HEADER = (
    "version",
    "num_class",
    "num_tree_per_iteration",
    "max_feature_idx",
    "objective",
    "feature_names",
    "tree_sizes",
    "feature_infos",
    "label_index",
)
_MAY_BE_THERE = ("average_output", "monotone_constraints")
_FEATURES = 1_000_000
_SIZES = re.compile(r" *+[0-9]{1,9}+(?: ++[0-9]{1,9}+)*+ *+")
_CATEGORIES = "pandas_categorical:"
_BETWEEN = frozenset({"", "feature_importances:", "feature importances:"})
_SHARE = re.compile(r"[-+.eE0-9]{1,40}")
_PARAMETER = re.compile(r"\[(?!linear_tree:)[A-Za-z_0-9]+: .*\]|\[linear_tree: [01]\]")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a checked file says of itself."""

    version: str
    objective: str
    num_class: int
    trees: int
    feature_names: tuple[str, ...]


def check_text(raw: bytes) -> ModelFacts:
    """Judge the whole file. Raises ModelRefused."""
    if len(raw) > MAX_BYTES:
        raise ModelRefused("file", f"is larger than {MAX_BYTES} bytes", len(raw))
    if not raw.startswith(b"tree\n") and not raw.startswith(b"tree\r\n"):
        raise ModelRefused("file", f"{_kind(raw)}; a LightGBM text model begins with 'tree'", raw[:20])
    for byte, called in ((b"\0", "a NUL byte"), (b"\r", "a carriage return: its lines must end with a line feed")):
        if byte in raw:
            raise ModelRefused("file", f"holds {called}", raw[: raw.index(byte) + 1][-20:])
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise ModelRefused("file", "is not plain text", raw[error.start : error.start + 8]) from error
    head, _, rest = text.partition("\n\n")
    header = pairs(head.split("\n")[1:], "header", frozenset((*_HEADER, *_MAY_BE_THERE)))
    facts = _facts(header)
    _check_trees(header, rest, facts)
    return facts


_KINDS = (
    (b"\xef\xbb\xbf", "begins with a byte order mark"),
    (b"\xff\xfe", "is UTF-16 or begins with a byte order mark"),
    (b"\xfe\xff", "is UTF-16 or begins with a byte order mark"),
    (b"\x80", "is a pickle, which could run code when loaded"),
    (b"PK\x03\x04", "is a zip archive"),
    (b"\x1f\x8b", "is a gzip file"),
    (b"\x78\x9c", "is zlib data, as joblib writes it"),
    (b"BZh", "is a bzip2 file"),
    (b"\xfd7zXZ", "is an xz file"),
    (b"\x93NUMPY", "is a NumPy array"),
    (b"\x89HDF", "is an HDF5 file"),
    (b"\x7fELF", "is a program"),
    (b"{", "is JSON"),
    (b"<", "is XML or HTML"),
    (b"version https://git-lfs", "is a Git LFS pointer"),
)


def _kind(raw: bytes) -> str:
    if not raw:
        return "is empty"
    return next((kind for start, kind in _KINDS if raw.startswith(start)), "is something else")


def _facts(header: Mapping[str, str]) -> ModelFacts:
    for name in _HEADER:
        if name not in header:
            why = (
                ": what the model predicts is unknown, as with an objective of one's own" if name == "objective" else ""
            )
            raise ModelRefused(name, f"is missing{why}")
    for name, value in header.items():
        if name != "feature_names" and not value.isascii():
            raise ModelRefused(name, "is not plain text", value)
    if header["version"] not in {"v2", "v3", "v4"}:
        raise ModelRefused("version", "must be v2, v3 or v4", header["version"])
    features = _features(header)
    num_class, per_iteration = integer(header, "num_class"), integer(header, "num_tree_per_iteration")
    if not 1 <= num_class <= 10_000 or per_iteration != num_class:
        raise ModelRefused("num_class", f"does not fit {per_iteration} trees per iteration", num_class)
    integer(header, "label_index")
    objective = header["objective"].split(" ")[0]
    if objective not in _OBJECTIVES:
        raise ModelRefused("objective", "is not known", header["objective"])
    _check_objective(header["objective"], num_class)
    if header["feature_infos"].count(" ") + 1 != len(features) or "" in header["feature_infos"].split(" "):
        raise ModelRefused("feature_infos", f"must describe {len(features)} features", header["feature_infos"])
    if "monotone_constraints" in header:
        integers_line(header, "monotone_constraints", len(features), "")
    if header.get("average_output", "") != "":
        raise ModelRefused("average_output", "must have no value", header["average_output"])
    if not _SIZES.fullmatch(header["tree_sizes"]):
        raise ModelRefused("tree_sizes", "must be the sizes of the trees in bytes", header["tree_sizes"])
    trees = header["tree_sizes"].strip(" ").count(" ") + 1
    return ModelFacts(header["version"], objective, num_class, trees, features)


def _features(header: Mapping[str, str]) -> tuple[str, ...]:
    """Their names, counted before they are taken apart: a line may hold tens of millions."""
    line, highest = header["feature_names"], integer(header, "max_feature_idx")
    if not line or "  " in line or line.startswith(" ") or line.endswith(" "):
        raise ModelRefused("feature_names", "holds an empty name", line)
    if not 0 <= highest < _FEATURES or line.count(" ") != highest:
        raise ModelRefused("max_feature_idx", f"does not fit {line.count(' ') + 1} feature names", highest)
    features = tuple(line.split(" "))
    if len(set(features)) != len(features):
        twice = next(name for name, count in Counter(features).items() if count > 1)
        raise ModelRefused("feature_names", "names a feature twice", twice)
    return features


_OBJECTIVES = frozenset(
    {
        *("regression", "regression_l1", "huber", "fair", "poisson", "quantile", "mape", "gamma", "tweedie"),
        *("binary", "multiclass", "multiclassova", "cross_entropy", "cross_entropy_lambda"),
        *("lambdarank", "rank_xendcg"),
    }
)


_WANTED = {"binary": {"sigmoid"}, "multiclass": {"num_class"}, "multiclassova": {"num_class", "sigmoid"}}


def _check_objective(text: str, num_class: int) -> None:
    """Parameters behind the objective's name: ``num_class:3``, ``sigmoid:1``, ``sqrt``."""
    called, *parameters = text.split(" ")
    several = "num_class" in _WANTED.get(called, set())
    if several != (num_class > 1):
        raise ModelRefused("num_class", f"must be {'more than 1' if several else '1'} for {called}", num_class)
    names = [part.partition(":")[0] for part in parameters]
    missing = _WANTED.get(called, set()) - set(names)
    if missing:
        raise ModelRefused(f"objective.{min(missing)}", f"is missing for {called}", text)
    for name, part in zip(names, parameters, strict=True):
        if names.count(name) > 1:
            raise ModelRefused(f"objective.{name}", "stands twice", text)
        _, colon, value = part.partition(":")
        if not colon and part != "sqrt":
            raise ModelRefused("objective", f"has a parameter that is not known for {called}", part)
        number = one_float(value, f"objective.{name}") if colon else 1.0
        if not math.isfinite(number) or number <= 0:
            raise ModelRefused(f"objective.{name}", "must be finite and positive", value)
        if name == "num_class" and number != num_class:
            raise ModelRefused("objective.num_class", f"is not the header's {num_class}", value)


def _check_trees(header: Mapping[str, str], rest: str, facts: ModelFacts) -> None:
    body, found, tail = rest.partition(f"\n{_END}\n")
    body += "\n"
    if not found:
        raise ModelRefused(_END, "is missing: the file is cut off")
    if not body.isascii():
        raise ModelRefused("Tree", "holds what is not plain text", re.findall(r"[^\x00-\x7f]+", body)[0])
    held = body.count("\nTree=") + body.startswith("Tree=")
    if not held or held != facts.trees:
        raise ModelRefused("tree_sizes", f"names {facts.trees} trees, the file holds {held}", header["tree_sizes"])
    sizes = list(map(int, header["tree_sizes"].split()))
    starts = [found.start() for found in re.finditer("^Tree=", body, re.MULTILINE)]
    blocks = [body[start:end] for start, end in pairwise([*starts, len(body)])]
    if starts[0] != 0:
        raise ModelRefused("Tree", "does not follow the header at once", body[:20])
    if facts.trees % facts.num_class:
        raise ModelRefused("num_class", f"{facts.trees} trees cannot be of {facts.num_class} classes", facts.num_class)
    _check_tail(tail, facts)
    most = sum(check_tree(number, block, len(facts.feature_names)) for number, block in enumerate(blocks))
    if not math.isfinite(most):
        raise ModelRefused("leaf_value", "adds up to what is not finite", most)
    for number, (block, size) in enumerate(zip(blocks, sizes, strict=True)):
        if len(block) != size:
            raise ModelRefused("tree_sizes", f"tree {number} has {len(block)} bytes", size)


def _check_tail(tail: str, facts: ModelFacts) -> None:
    """What follows the trees. LightGBM cuts parameters at their colons unseen, counts trees here too, and its package
    reads the last line as JSON.
    """
    inside = ended = False
    names = frozenset(facts.feature_names)
    for line in tail.split("\n"):
        name, equals, value = line.rpartition("=")
        if ended and line:
            raise ModelRefused("pandas_categorical", "must be the last line", line)
        if line in ("parameters:", "end of parameters"):
            inside = line == "parameters:"
        elif inside and line and not _PARAMETER.fullmatch(line):
            raise ModelRefused("parameters", "must be lines like [name: value]", line)
        elif line.startswith(_CATEGORIES):
            _check_categories(line)
            ended = True
        elif not (inside or line in _BETWEEN or (equals and name in names and _SHARE.fullmatch(value))):
            raise ModelRefused(_END, "is followed by what does not belong there", line)
    if inside:
        raise ModelRefused("end of parameters", "is missing: the file is cut off")


def _check_categories(line: str) -> None:
    try:
        found = json.loads(line.removeprefix(_CATEGORIES))
    except (ValueError, RecursionError) as error:
        raise ModelRefused("pandas_categorical", f"is not JSON: {error}", line) from error
    if found is not None and not (isinstance(found, list) and all(isinstance(part, list) for part in found)):
        raise ModelRefused("pandas_categorical", "must be null or lists of categories", line)
