"""A model file is untrusted: LightGBM's own loader aborts, crashes or loops on files that this parser names.

Text of versions v2 to v4 only. Checked are size, counts, index ranges, that every tree is one, finite numbers, one
line per key, and the sizes that the header claims.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from shared.keys import MODEL_TEXT_BYTES as MAX_BYTES
from worker.models.lines import ModelRefused, integer, one_float, pairs
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
        text = raw.decode("ascii", errors="strict")
    except UnicodeDecodeError as error:
        raise ModelRefused("file", "is not plain text", raw[error.start : error.start + 8]) from error
    head, _, rest = text.partition("\n\n")
    header = pairs(head.split("\n")[1:], "header")
    facts = _facts(header)
    _check_trees(header, rest, facts)
    return facts


_KINDS = (
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
            raise ModelRefused(name, "is missing")
    if header["version"] not in {"v2", "v3", "v4"}:
        raise ModelRefused("version", "must be v2, v3 or v4", header["version"])
    features = tuple(header["feature_names"].split(" "))
    highest = integer(header, "max_feature_idx")
    if not all(features):
        raise ModelRefused("feature_names", "holds an empty name", header["feature_names"])
    if len(features) != highest + 1 or len(set(features)) != len(features):
        raise ModelRefused("max_feature_idx", f"does not fit {len(features)} feature names", highest)
    num_class, per_iteration = integer(header, "num_class"), integer(header, "num_tree_per_iteration")
    if not 1 <= num_class <= 10_000 or per_iteration != num_class:
        raise ModelRefused("num_class", f"does not fit {per_iteration} trees per iteration", num_class)
    objective = header["objective"].split(" ")[0]
    if objective not in _OBJECTIVES:
        raise ModelRefused("objective", "is not known", header["objective"])
    _check_objective(header["objective"], num_class)
    infos = header["feature_infos"].split(" ")
    if len(infos) != len(features) or not all(infos):
        raise ModelRefused("feature_infos", f"must describe {len(features)} features", header["feature_infos"])
    trees = len(header["tree_sizes"].split())
    return ModelFacts(header["version"], objective, num_class, trees, features)


_OBJECTIVES = frozenset(
    {
        *("regression", "regression_l1", "huber", "fair", "poisson", "quantile", "mape", "gamma", "tweedie"),
        *("binary", "multiclass", "multiclassova", "cross_entropy", "cross_entropy_lambda"),
        *("lambdarank", "rank_xendcg"),
    }
)


_WANTED = {"binary": {"sigmoid"}, "multiclass": {"num_class"}, "multiclassova": {"num_class", "sigmoid"}}


def _check_objective(text: str, num_class: int) -> None:
    """Parameters behind the objective's name: ``num_class:3``, ``sigmoid:1``."""
    called, *parameters = text.split(" ")
    missing = _WANTED.get(called, set()) - {part.partition(":")[0] for part in parameters}
    if missing:
        raise ModelRefused(f"objective.{min(missing)}", f"is missing for {called}", text)
    for part in parameters:
        name, colon, value = part.partition(":")
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
    sizes = [int(size) for size in header["tree_sizes"].split() if re.fullmatch(r"\d{1,9}", size)]
    starts = [found.start() for found in re.finditer("^Tree=", body, re.MULTILINE)]
    blocks = [body[start:end] for start, end in pairwise([*starts, len(body)])]
    if not blocks or len(blocks) != len(sizes) or len(sizes) != facts.trees:
        raise ModelRefused(
            "tree_sizes", f"names {facts.trees} trees, the file holds {len(blocks)}", header["tree_sizes"]
        )
    if starts[0] != 0:
        raise ModelRefused("Tree", "does not follow the header at once", body[:20])
    if facts.trees % facts.num_class:
        raise ModelRefused("num_class", f"{facts.trees} trees cannot be of {facts.num_class} classes", facts.num_class)
    _check_tail(tail, facts)
    for number, block in enumerate(blocks):
        check_tree(number, block, len(facts.feature_names))
    for number, (block, size) in enumerate(zip(blocks, sizes, strict=True)):
        if len(block) != size:
            raise ModelRefused("tree_sizes", f"tree {number} has {len(block)} bytes", size)


def _check_tail(tail: str, facts: ModelFacts) -> None:
    """What follows the trees. LightGBM cuts parameters at their colons unseen, counts trees here too, and its package
    reads the last line as JSON.
    """
    inside = ended = False
    for line in tail.split("\n"):
        name, equals, value = line.partition("=")
        if ended and line:
            raise ModelRefused("pandas_categorical", "must be the last line", line)
        if line in ("parameters:", "end of parameters"):
            inside = line == "parameters:"
        elif inside and line and not _PARAMETER.fullmatch(line):
            raise ModelRefused("parameters", "must be lines like [name: value]", line)
        elif line.startswith(_CATEGORIES):
            _check_categories(line)
            ended = True
        elif not (inside or line in _BETWEEN or (equals and name in facts.feature_names and _SHARE.fullmatch(value))):
            raise ModelRefused(_END, "is followed by what does not belong there", line)


def _check_categories(line: str) -> None:
    try:
        json.loads(line.removeprefix(_CATEGORIES))
    except (ValueError, RecursionError) as error:
        raise ModelRefused("pandas_categorical", f"is not JSON: {error}", line) from error
