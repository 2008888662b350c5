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
from worker.models.lines import ModelRefused, integers_line, numbers_line, one_float, optional_line

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
_PARAMETER = re.compile(r"\[(?!linear_tree:)[A-Za-z_0-9]+: .*\]|\[linear_tree: [01]\]")
_TREE_LINES = frozenset(
    {
        *("Tree", "num_leaves", "num_cat", "split_feature", "split_gain", "threshold", "decision_type"),
        *("left_child", "right_child", "leaf_value", "leaf_weight", "leaf_count"),
        *("internal_value", "internal_weight", "internal_count", "cat_boundaries", "cat_threshold"),
        *("is_linear", "shrinkage"),
    }
)


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
    header = _pairs(head.split("\n")[1:], "header")
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


def _pairs(lines: list[str], where: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        if not line:
            continue
        name, equals, value = line.partition("=")
        if not equals:
            value = "true"
        if name in found:
            raise ModelRefused(f"{where}.{name}", "stands twice", value)
        found[name] = value
    return found


def _facts(header: Mapping[str, str]) -> ModelFacts:
    for name in _HEADER:
        if name not in header:
            raise ModelRefused(name, "is missing")
    if header["version"] not in {"v2", "v3", "v4"}:
        raise ModelRefused("version", "must be v2, v3 or v4", header["version"])
    features = tuple(header["feature_names"].split(" "))
    highest = _integer(header, "max_feature_idx")
    if not all(features):
        raise ModelRefused("feature_names", "holds an empty name", header["feature_names"])
    if len(features) != highest + 1 or len(set(features)) != len(features):
        raise ModelRefused("max_feature_idx", f"does not fit {len(features)} feature names", highest)
    num_class, per_iteration = _integer(header, "num_class"), _integer(header, "num_tree_per_iteration")
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


def _integer(fields: Mapping[str, str], name: str, where: str = "") -> int:
    text = fields.get(name, "")
    if not re.fullmatch(r"-?\d{1,10}", text):
        raise ModelRefused(f"{where}{name}", "must be an integer", text)
    return int(text)


def _check_trees(header: Mapping[str, str], rest: str, facts: ModelFacts) -> None:
    body, found, tail = rest.partition(_END)
    if not found:
        raise ModelRefused(_END, "is missing: the file is cut off")
    sizes = [int(size) for size in header["tree_sizes"].split() if re.fullmatch(r"\d{1,9}", size)]
    starts = [found.start() for found in re.finditer("Tree=", body)]
    blocks = [body[start:end] for start, end in pairwise([*starts, len(body)])]
    if not blocks or len(blocks) != len(sizes) or len(sizes) != facts.trees:
        raise ModelRefused(
            "tree_sizes", f"names {facts.trees} trees, the file holds {len(blocks)}", header["tree_sizes"]
        )
    if starts[0] != 0:
        raise ModelRefused("Tree", "does not follow the header at once", body[:20])
    if facts.trees % facts.num_class:
        raise ModelRefused("num_class", f"{facts.trees} trees cannot be of {facts.num_class} classes", facts.num_class)
    _check_tail(tail)
    for number, block in enumerate(blocks):
        _check_tree(number, _tree_lines(block, f"tree {number}"), facts)
    for number, (block, size) in enumerate(zip(blocks, sizes, strict=True)):
        if len(block) != size:
            raise ModelRefused("tree_sizes", f"tree {number} has {len(block)} bytes", size)


def _check_tail(tail: str) -> None:
    """What follows the trees: LightGBM cuts parameters at their colons unseen, and its package reads a line of JSON."""
    inside = ended = False
    for line in tail.split("\n"):
        bare = line.strip()
        if ended and bare:
            raise ModelRefused("pandas_categorical", "must be the last line", line)
        if bare in ("parameters:", "end of parameters"):
            inside = bare == "parameters:"
        elif inside and bare and not _PARAMETER.fullmatch(line):
            raise ModelRefused("parameters", "must be lines like [name: value]", line)
        elif line.startswith(_CATEGORIES):
            ended = True
            try:
                json.loads(line.removeprefix(_CATEGORIES))
            except (ValueError, RecursionError) as error:
                raise ModelRefused("pandas_categorical", f"is not JSON: {error}", line) from error


def _tree_lines(block: str, where: str) -> dict[str, str]:
    """A tree's lines; LightGBM stops at a blank one and aborts on one without an equals sign."""
    lines = block.rstrip("\n").split("\n")
    for line in lines:
        name, equals, _ = line.partition("=")
        if not equals or name not in _TREE_LINES:
            raise ModelRefused(f"{where}.{name[:40]}", "is no line of a tree", line)
    return _pairs(lines, where)


def _check_tree(number: int, fields: Mapping[str, str], facts: ModelFacts) -> None:
    where = f"tree {number}."
    if fields.get("Tree") != str(number):
        raise ModelRefused(f"{where}Tree", "is out of order", fields.get("Tree", ""))
    leaves = _integer(fields, "num_leaves", where)
    if not 1 <= leaves <= 1_000_000:
        raise ModelRefused(f"{where}num_leaves", "must be 1 to 1000000", leaves)
    numbers_line(fields, "leaf_value", leaves, where)
    if fields.get("is_linear", "0") != "0":
        raise ModelRefused(f"{where}is_linear", "linear trees are not supported", fields["is_linear"])
    if not math.isfinite(one_float(fields.get("shrinkage", "1"), f"{where}shrinkage")):
        raise ModelRefused(f"{where}shrinkage", "is not finite", fields["shrinkage"])
    optional_line(fields, "leaf_weight", leaves if leaves > 1 else 0, where)
    optional_line(fields, "leaf_count", leaves if leaves > 1 else 0, where, whole=True)
    if leaves == 1:
        return
    categories = _integer(fields, "num_cat", where)
    splits = leaves - 1
    if not 0 <= categories <= splits:
        raise ModelRefused(f"{where}num_cat", f"must be 0 to {splits}", categories)
    numbers_line(fields, "threshold", splits, where)
    features = integers_line(fields, "split_feature", splits, where)
    for feature in features:
        if not 0 <= feature < len(facts.feature_names):
            raise ModelRefused(f"{where}split_feature", f"must be below {len(facts.feature_names)}", feature)
    for name in ("split_gain", "internal_value", "internal_weight"):
        optional_line(fields, name, splits, where)
    optional_line(fields, "internal_count", splits, where, whole=True)
    decisions = integers_line(fields, "decision_type", splits, where)
    if categories == 0 and any(kind & 1 for kind in decisions):
        raise ModelRefused(f"{where}decision_type", "is categorical without categories", decisions[0])
    if categories:
        _check_categories(fields, categories, where)
        for kind, threshold in zip(decisions, fields["threshold"].split(), strict=True):
            if kind & 1 and not (re.fullmatch(r"\d{1,9}", threshold) and int(threshold) < categories):
                raise ModelRefused(f"{where}threshold", f"must name one of {categories} categories", threshold)
    left, right = (integers_line(fields, n, splits, where) for n in ("left_child", "right_child"))
    _check_shape(left, right, leaves, where)


def _check_categories(fields: Mapping[str, str], categories: int, where: str) -> None:
    bounds = integers_line(fields, "cat_boundaries", categories + 1, where)
    if bounds[0] != 0 or any(a >= b for a, b in pairwise(bounds)):
        raise ModelRefused(f"{where}cat_boundaries", "must grow from 0", bounds[0])
    words = fields.get("cat_threshold", "").split()
    if len(words) != bounds[-1] or not all(w.isdigit() for w in words):
        raise ModelRefused(f"{where}cat_threshold", f"must hold {bounds[-1]} words", len(words))


def _check_shape(left: list[int], right: list[int], leaves: int, where: str) -> None:
    """Every inner node and every leaf is reached exactly once from the root.

    LightGBM numbers children after their parent. Where that holds and each stands once, the tree is one; the walk is
    for what does not look so.
    """
    forward = all(child < 0 or child > node for side in (left, right) for node, child in enumerate(side))
    if forward and sorted(left + right) == [*range(-leaves, 0), *range(1, len(left))]:
        return
    seen_nodes, seen_leaves, todo = set(), set(), [0]
    while todo:
        node = todo.pop()
        if node in seen_nodes:
            raise ModelRefused(f"{where}left_child", "leads back to a node: not a tree", node)
        seen_nodes.add(node)
        for side, child in (("left_child", left[node]), ("right_child", right[node])):
            if child >= 0:
                if child >= len(left):
                    raise ModelRefused(f"{where}{side}", f"must be below {len(left)}", child)
                todo.append(child)
                continue
            leaf = ~child
            if leaf >= leaves or leaf in seen_leaves:
                raise ModelRefused(f"{where}{side}", f"must name each of {leaves} leaves once", child)
            seen_leaves.add(leaf)
    if len(seen_nodes) != len(left) or len(seen_leaves) != leaves:
        raise ModelRefused(f"{where}num_leaves", f"{len(seen_leaves)} leaves are reached", leaves)
