"""Rounding to ticks and lots, prepared: the digits must be those of the plain formula, since they go over the wire."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from hypothesis import example, given
from hypothesis import strategies as st

from worker.core.grid import Grid

VALUES = st.decimals(min_value=0, max_value=Decimal(10) ** 15, allow_nan=False, allow_infinity=False)
POWERS = st.integers(-8, 2).map(lambda n: Decimal(1).scaleb(n))
STEPS = POWERS | st.sampled_from([Decimal(text) for text in ("0.05", "0.25", "2.5", "0.010", "10", "3")])


def plain(value: Decimal, step: Decimal, rounding: str) -> Decimal:
    return (value / step).to_integral_value(rounding) * step


@given(VALUES, STEPS)
@example(Decimal("61800.0"), Decimal("0.01"))
@example(Decimal("61800.0"), Decimal(1))
@example(Decimal("61800.000"), Decimal("0.01"))
@example(Decimal(200) / 50_000, Decimal("0.00001"))
@example(Decimal(200) / 3, Decimal("0.00001"))
@example(Decimal(0), Decimal("0.01"))
@example(Decimal(10) ** 9 / Decimal("1E-15"), Decimal("1E-8"))
def test_grid_when_it_rounds_gives_the_digits_of_the_plain_formula(value: Decimal, step: Decimal) -> None:
    grid = Grid(step)
    for rounded, rounding in ((grid.floor(value), ROUND_FLOOR), (grid.ceiling(value), ROUND_CEILING)):
        assert rounded.as_tuple() == plain(value, step, rounding).as_tuple()


def test_grid_when_the_step_is_zero_leaves_a_value_as_it_is() -> None:
    grid = Grid(Decimal(0))
    assert (grid.floor(Decimal("1.5")), grid.ceiling(Decimal("1.5"))) == (Decimal("1.5"), Decimal("1.5"))
