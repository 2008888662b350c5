"""Figures and times as Alpaca sends them: exact, finite, in range, or a ValueError."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal, InvalidOperation

from shared.clock import parse_rfc3339

MAX_DIGITS, MAX_PLACES = 18, 60
"""No quantity or price has more digits before and after its point; an exponent of millions fills the memory."""


def decimal(value: object) -> Decimal:
    """A finite Decimal from a string or a JSON number, never through binary rounding. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"not a number: {value!r}")
    try:
        number = Decimal(value if isinstance(value, str) else repr(value))
    except InvalidOperation as error:
        raise ValueError(f"not a number: {value!r}") from error
    if not number.is_finite():
        raise ValueError(f"not finite: {value!r}")
    if number.adjusted() >= MAX_DIGITS or int(number.as_tuple().exponent) < -MAX_PLACES:
        raise ValueError(f"out of range: {str(value)[:40]!r}")
    return number


def positive(value: object) -> Decimal:
    """A Decimal above zero: a price, or the size of an execution. Raises ValueError."""
    number = decimal(value)
    if number <= 0:
        raise ValueError(f"not positive: {value!r}")
    return number


def optional_positive(value: object) -> Decimal | None:
    return None if value in (None, "") else positive(value)


def optional(value: object) -> Decimal | None:
    return None if value in (None, "") else decimal(value)


def time(value: object) -> datetime | None:
    return None if not value else parse_rfc3339(str(value))
