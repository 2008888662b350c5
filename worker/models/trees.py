"""One tree of a model file: its lines, numbers, categories, and that it is a tree."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import pairwise

from worker.models.lines import ModelRefused, integer, integers_line, numbers_line, one_float, optional_line, pairs

_TREE_LINES = frozenset(
    {
        *("Tree", "num_leaves", "num_cat", "split_feature", "split_gain", "threshold", "decision_type"),
        *("left_child", "right_child", "leaf_value", "leaf_weight", "leaf_count"),
        *("internal_value", "internal_weight", "internal_count", "cat_boundaries", "cat_threshold"),
        *("is_linear", "leaf_const", "num_features", "leaf_features", "leaf_coeff", "shrinkage"),
    }
)
_LINEAR = ("leaf_const", "num_features", "leaf_features", "leaf_coeff")
_WORDS = re.compile(r"[0-9]{1,10}+(?: [0-9]{1,10}+)*+ ?")
_WORD = 2**32
_KINDS = 12
"""Of decisions: categorical or not, default left or not, and one of three ways with what is missing."""


def _tree_lines(block: str, where: str) -> dict[str, str]:
    """A tree's lines; LightGBM stops at a blank one and aborts on one without an equals sign."""
    lines = block.rstrip("\n").split("\n")
    for line in lines:
        if "=" not in line:
            raise ModelRefused(f"{where}.{line[:40]}", "is no line of a tree", line)
    return pairs(lines, where, _TREE_LINES)


def check_tree(number: int, block: str, width: int) -> float:
    """Judge one tree over ``width`` features; returns the largest of its leaves, by size. Raises ModelRefused."""
    fields, where = _tree_lines(block, f"tree {number}"), f"tree {number}."
    if fields.get("Tree") != str(number):
        raise ModelRefused(f"{where}Tree", "is out of order", fields.get("Tree", ""))
    leaves = integer(fields, "num_leaves", where)
    if not 1 <= leaves <= 1_000_000:
        raise ModelRefused(f"{where}num_leaves", "must be 1 to 1000000", leaves)
    values = numbers_line(fields, "leaf_value", leaves, where)
    _check_linear(fields, leaves, width, where)
    if not math.isfinite(one_float(fields.get("shrinkage", "1"), f"{where}shrinkage")):
        raise ModelRefused(f"{where}shrinkage", "is not finite", fields["shrinkage"])
    optional_line(fields, "leaf_weight", leaves, where)
    optional_line(fields, "leaf_count", leaves, where, whole=True)
    if leaves > 1:
        _check_splits(fields, leaves, width, where)
    return max(map(abs, values))


def _check_linear(fields: Mapping[str, str], leaves: int, width: int, where: str) -> None:
    """Leaves that hold a linear model each: a constant, and a coefficient for each of some features."""
    linear = fields.get("is_linear", "0")
    if linear not in ("0", "1"):
        raise ModelRefused(f"{where}is_linear", "must be 0 or 1", linear)
    for name in _LINEAR:
        if (name in fields) != (linear == "1"):
            raise ModelRefused(f"{where}{name}", f"does not fit is_linear={linear}", fields.get(name, ""))
    if linear == "0":
        return
    numbers_line(fields, "leaf_const", leaves, where)
    counts = integers_line(fields, "num_features", leaves, where)
    for count in counts:
        if not 0 <= count <= width:
            raise ModelRefused(f"{where}num_features", f"must be 0 to {width}", count)
    numbers_line(fields, "leaf_coeff", sum(counts), where)
    line = fields["leaf_features"].strip(" ")  # a leaf without features writes nothing but its space
    if not any(counts) and not line:
        return
    for feature in integers_line({"leaf_features": line}, "leaf_features", sum(counts), where):
        if not 0 <= feature < width:
            raise ModelRefused(f"{where}leaf_features", f"must be below {width}", feature)


def _check_splits(fields: Mapping[str, str], leaves: int, width: int, where: str) -> None:
    categories = integer(fields, "num_cat", where)
    splits = leaves - 1
    if not 0 <= categories <= splits:
        raise ModelRefused(f"{where}num_cat", f"must be 0 to {splits}", categories)
    numbers_line(fields, "threshold", splits, where)
    features = integers_line(fields, "split_feature", splits, where)
    for feature in features:
        if not 0 <= feature < width:
            raise ModelRefused(f"{where}split_feature", f"must be below {width}", feature)
    for name in ("split_gain", "internal_value", "internal_weight"):
        optional_line(fields, name, splits, where)
    optional_line(fields, "internal_count", splits, where, whole=True)
    decisions = integers_line(fields, "decision_type", splits, where)
    for kind in decisions:
        if not 0 <= kind < _KINDS:
            raise ModelRefused(f"{where}decision_type", f"must be below {_KINDS}", kind)
    if categories == 0 and any(kind & 1 for kind in decisions):
        raise ModelRefused(f"{where}decision_type", "is categorical without categories", decisions[0])
    if categories:
        _check_categories(fields, categories, where)
        for kind, threshold in zip(decisions, fields["threshold"].split(), strict=True):
            if kind & 1 and not (re.fullmatch(r"[0-9]{1,9}", threshold) and int(threshold) < categories):
                raise ModelRefused(f"{where}threshold", f"must name one of {categories} categories", threshold)
    left, right = (integers_line(fields, n, splits, where) for n in ("left_child", "right_child"))
    _check_shape(left, right, leaves, where)


def _check_categories(fields: Mapping[str, str], categories: int, where: str) -> None:
    bounds = integers_line(fields, "cat_boundaries", categories + 1, where)
    if bounds[0] != 0 or any(a >= b for a, b in pairwise(bounds)):
        raise ModelRefused(f"{where}cat_boundaries", "must grow from 0", bounds[0])
    line = fields.get("cat_threshold", "")
    words = line.split(" ")
    if not _WORDS.fullmatch(line) or len(line.split()) != bounds[-1]:
        raise ModelRefused(f"{where}cat_threshold", f"must hold {bounds[-1]} words", line)
    for word in words:
        if int(word or 0) >= _WORD:
            raise ModelRefused(f"{where}cat_threshold", f"must be below {_WORD}", word)


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
