"""The values on a model file's lines: numbers and integers, counted, bounded, finite. Raises ModelRefused."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

from shared.errors import SixbotError, shorten

_NUMBER = re.compile(
    r"[+-]?([0-9]{1,400}(\.[0-9]{0,400})?|\.[0-9]{1,400})([eE][+-]?[0-9]{1,5})?|[+-]?(nan|inf|infinity)",
    re.IGNORECASE | re.ASCII,
)
_ZERO = re.compile(r"[+-]?[0.]++(?![1-9])")
_FLOATS = re.compile(r"[-+.eE0-9 ]*+")
_INTEGERS = re.compile(r"-?[0-9]{1,9}+(?: +-?[0-9]{1,9}+)*+ *+")


class ModelRefused(SixbotError):
    """A model file that must not be loaded; names the field and shows the value."""

    def __init__(self, field: str, problem: str, value: object = "") -> None:
        self.field, self.problem = field, problem + (f" (got {shorten(value)})" if value != "" else "")
        super().__init__(f"{field}: {self.problem}")


def one_float(text: str, where: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise ModelRefused(where, "must be a number", text)
    number = float(text)
    if _too_small(text, number):
        raise ModelRefused(where, "is too small, LightGBM aborts on it", text)
    return number


def _too_small(text: str, number: float) -> bool:
    """Whether it is no normal number though its digits are not all zero: C++'s ``stod`` throws on that."""
    return abs(number) < sys.float_info.min and not _ZERO.match(text)


def _all_plain(values: Sequence[str], numbers: Sequence[float]) -> bool:
    """Whether all are finite and none is too small; seldom more than two looks at each."""
    if not all(map(math.isfinite, numbers)):
        return False
    return min(map(abs, numbers)) >= sys.float_info.min or not any(map(_too_small, values, numbers))


def numbers_line(fields: Mapping[str, str], name: str, count: int, where: str) -> list[float]:
    """``count`` finite numbers. The whole line at once, since a model may hold millions; one by one to name a fault."""
    line = fields.get(name, "")
    values = line.split(" ")
    if len(values) == count and _FLOATS.fullmatch(line):
        with suppress(ValueError):
            numbers = list(map(float, values))
            if _all_plain(values, numbers):
                return numbers
    values = [value for value in line.split(" ") if value]
    if len(values) != count:
        raise ModelRefused(f"{where}{name}", f"must hold {count} numbers", len(values))
    numbers = [one_float(value, where + name) for value in values]
    for value, number in zip(values, numbers, strict=True):
        if not math.isfinite(number):
            raise ModelRefused(f"{where}{name}", "holds a number that is not finite", value)
    return numbers


def integers_line(fields: Mapping[str, str], name: str, count: int, where: str) -> list[int]:
    line = fields.get(name, "")
    values = line.split()
    if len(values) == count and _INTEGERS.fullmatch(line):
        return list(map(int, values))
    raise ModelRefused(f"{where}{name}", f"must hold {count} integers", line)


def optional_line(fields: Mapping[str, str], name: str, count: int, where: str, *, whole: bool = False) -> None:
    """A line that predictions do not need, but that aborts LightGBM where it is there and malformed.

    ``whole`` numbers are integers; others may be nan or inf.
    """
    line = fields.get(name, "").strip(" ")
    if not line:
        return
    if whole:
        integers_line(fields, name, count, where)
        return
    values = line.split(" ")
    if len(values) != count:
        raise ModelRefused(f"{where}{name}", f"must hold {count} numbers", len(values))
    if _FLOATS.fullmatch(line):
        with suppress(ValueError):
            numbers = list(map(float, values))
            if _all_plain(values, numbers):
                return
    for value in values:
        if math.isinf(one_float(value, where + name)) and value[-1].isdigit():
            raise ModelRefused(f"{where}{name}", "is too large, LightGBM aborts on it", value)


def pairs(lines: list[str], where: str, known: frozenset[str]) -> dict[str, str]:
    """Lines ``name=value`` of known names, each once; a name alone has the value of nothing."""
    found: dict[str, str] = {}
    for line in lines:
        if not line:
            continue
        name, _, value = line.partition("=")
        if name not in known:
            raise ModelRefused(f"{where}.{name[:40]}", f"is no line of a {where.partition(' ')[0]}", line)
        if name in found:
            raise ModelRefused(f"{where}.{name}", "stands twice", value)
        found[name] = value
    return found


def integer(fields: Mapping[str, str], name: str, where: str = "") -> int:
    text = fields.get(name, "")
    if not re.fullmatch(r"-?[0-9]{1,10}", text):
        raise ModelRefused(f"{where}{name}", "must be an integer", text)
    return int(text)
