"""A model file is untrusted: LightGBM's own loader aborts, crashes or loops on files that this parser names.

Text of versions v2 to v4 only. Checked are size, counts, index ranges, that every tree is one, finite numbers, one
line per key, and the sizes that the header claims.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from shared.errors import SixbotError, shorten

MAX_BYTES = 64 * 1024 * 1024
_END = "end of trees"
_NUMBER = re.compile(
    r"[+-]?(\d{1,400}(\.\d{0,400})?|\.\d{1,400})([eE][+-]?\d{1,5})?|[+-]?(nan|inf|infinity)", re.IGNORECASE
)
_HEADER = (
    "version",
    "num_class",
    "num_tree_per_iteration",
    "max_feature_idx",
    "objective",
    "feature_names",
    "tree_sizes",
)


class ModelRefused(SixbotError):
    """A model file that must not be loaded; names the field and shows the value."""

    def __init__(self, field: str, problem: str, value: object = "") -> None:
        self.field = field
        super().__init__(f"{field}: {problem}" + (f" (got {shorten(value)})" if value != "" else ""))


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
        raise ModelRefused("file", "is not a LightGBM text model, which begins with 'tree'", raw[:20])
    if b"\0" in raw or b"\r" in raw:
        raise ModelRefused("file", "holds NUL or carriage-return bytes", raw[:20])
    try:
        text = raw.decode("ascii", errors="strict")
    except UnicodeDecodeError as error:
        raise ModelRefused("file", "is not plain text", raw[error.start : error.start + 8]) from error
    head, _, rest = text.partition("\n\n")
    header = _pairs(head.split("\n")[1:], "header")
    facts = _facts(header)
    _check_trees(header, rest, facts)
    return facts


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
    if len(features) != highest + 1 or len(set(features)) != len(features):
        raise ModelRefused("max_feature_idx", f"does not fit {len(features)} feature names", highest)
    num_class, per_iteration = _integer(header, "num_class"), _integer(header, "num_tree_per_iteration")
    if not 1 <= num_class <= 10_000 or per_iteration != num_class:
        raise ModelRefused("num_class", f"does not fit {per_iteration} trees per iteration", num_class)
    objective = header["objective"].split(" ")[0]
    if objective not in _OBJECTIVES:
        raise ModelRefused("objective", "is not known", header["objective"])
    _check_objective(header["objective"], num_class)
    if len(header["feature_infos"].split(" ")) != len(features):
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


def _check_objective(text: str, num_class: int) -> None:
    """Parameters behind the objective's name: ``num_class:3``, ``sigmoid:1``."""
    for part in text.split(" ")[1:]:
        name, colon, value = part.partition(":")
        number = _float(value, f"objective.{name}") if colon else 1.0
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
    body, found, _ = rest.partition(_END)
    if not found:
        raise ModelRefused(_END, "is missing: the file is cut off")
    sizes = [int(size) for size in header["tree_sizes"].split() if re.fullmatch(r"\d{1,9}", size)]
    blocks = re.findall(r"Tree=.*?(?=Tree=|\Z)", body, flags=re.DOTALL)
    if not blocks or len(blocks) != len(sizes) or len(sizes) != facts.trees:
        raise ModelRefused(
            "tree_sizes", f"names {facts.trees} trees, the file holds {len(blocks)}", header["tree_sizes"]
        )
    if facts.trees % facts.num_class:
        raise ModelRefused("num_class", f"{facts.trees} trees cannot be of {facts.num_class} classes", facts.num_class)
    for number, block in enumerate(blocks):
        _check_tree(number, _pairs(block.split("\n"), f"tree {number}"), facts)
    for number, (block, size) in enumerate(zip(blocks, sizes, strict=True)):
        if len(block) != size:
            raise ModelRefused("tree_sizes", f"tree {number} has {len(block)} bytes", size)


def _check_tree(number: int, fields: Mapping[str, str], facts: ModelFacts) -> None:
    where = f"tree {number}."
    if fields.get("Tree") != str(number):
        raise ModelRefused(f"{where}Tree", "is out of order", fields.get("Tree", ""))
    leaves = _integer(fields, "num_leaves", where)
    if not 1 <= leaves <= 1_000_000:
        raise ModelRefused(f"{where}num_leaves", "must be at least 1", leaves)
    _numbers(fields, "leaf_value", leaves, where)
    if fields.get("is_linear", "0") != "0":
        raise ModelRefused(f"{where}is_linear", "linear trees are not supported", fields["is_linear"])
    if not math.isfinite(_float(fields.get("shrinkage", "1"), f"{where}shrinkage")):
        raise ModelRefused(f"{where}shrinkage", "is not finite", fields["shrinkage"])
    if leaves == 1:
        return
    categories = _integer(fields, "num_cat", where)
    splits = leaves - 1
    if not 0 <= categories <= splits:
        raise ModelRefused(f"{where}num_cat", f"must be 0 to {splits}", categories)
    _numbers(fields, "threshold", splits, where)
    features = _integers(fields, "split_feature", splits, where)
    for feature in features:
        if not 0 <= feature < len(facts.feature_names):
            raise ModelRefused(f"{where}split_feature", f"must be below {len(facts.feature_names)}", feature)
    decisions = _integers(fields, "decision_type", splits, where)
    if categories == 0 and any(kind & 1 for kind in decisions):
        raise ModelRefused(f"{where}decision_type", "is categorical without categories", decisions[0])
    if categories:
        _check_categories(fields, categories, where)
        for kind, threshold in zip(decisions, fields["threshold"].split(), strict=True):
            if kind & 1 and not (re.fullmatch(r"\d{1,9}", threshold) and int(threshold) < categories):
                raise ModelRefused(f"{where}threshold", f"must name one of {categories} categories", threshold)
    left, right = (_integers(fields, n, splits, where) for n in ("left_child", "right_child"))
    _check_shape(left, right, leaves, where)


def _check_categories(fields: Mapping[str, str], categories: int, where: str) -> None:
    bounds = _integers(fields, "cat_boundaries", categories + 1, where)
    if bounds[0] != 0 or any(a >= b for a, b in pairwise(bounds)):
        raise ModelRefused(f"{where}cat_boundaries", "must grow from 0", bounds[0])
    words = fields.get("cat_threshold", "").split()
    if len(words) != bounds[-1] or not all(w.isdigit() for w in words):
        raise ModelRefused(f"{where}cat_threshold", f"must hold {bounds[-1]} words", len(words))


def _check_shape(left: list[int], right: list[int], leaves: int, where: str) -> None:
    """Every inner node and every leaf is reached exactly once from the root."""
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


def _float(text: str, where: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise ModelRefused(where, "must be a number", text)
    return float(text)


def _numbers(fields: Mapping[str, str], name: str, count: int, where: str) -> None:
    values = fields.get(name, "").split()
    if len(values) != count:
        raise ModelRefused(f"{where}{name}", f"must hold {count} numbers", len(values))
    for value in values:
        if not math.isfinite(_float(value, where + name)):
            raise ModelRefused(f"{where}{name}", "holds a number that is not finite", value)


def _integers(fields: Mapping[str, str], name: str, count: int, where: str) -> list[int]:
    values = fields.get(name, "").split()
    if len(values) != count or not all(re.fullmatch(r"-?\d{1,9}", v) for v in values):
        raise ModelRefused(f"{where}{name}", f"must hold {count} integers", fields.get(name, ""))
    return [int(v) for v in values]
