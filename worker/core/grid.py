"""Ticks and lots, prepared: rounding to the venue's grid on the way to an order."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation


class Grid:
    """Multiples of a tick or lot size, for values that are not negative; a step of 0 rounds nothing.

    Where the step is a power of ten, as nearly all are, one rounding stands for a division, a rounding and a product:
    the same number with the same digits, in 0.15 in place of 0.3 µs.
    """

    __slots__ = ("_power_of_ten", "step")

    def __init__(self, step: Decimal) -> None:
        self.step = step
        self._power_of_ten = step > 0 and step.as_tuple().digits == (1,)

    def floor(self, value: Decimal) -> Decimal:
        """The largest multiple that is not above ``value``."""
        return self._rounded(value, ROUND_FLOOR)

    def ceiling(self, value: Decimal) -> Decimal:
        """The smallest multiple that is not below ``value``."""
        return self._rounded(value, ROUND_CEILING)

    def _rounded(self, value: Decimal, rounding: str) -> Decimal:
        if self._power_of_ten:
            try:
                found = value.quantize(self.step, rounding)
            except InvalidOperation:
                pass  # more digits than a Decimal carries: the quotient is rounded, as it is for other steps
            else:
                return found if found != value else found.max(value)  # of equals that with fewer zeros: 7.5, not 7.50
        step = self.step
        return (value / step).to_integral_value(rounding) * step if step > 0 else value


def plain(value: Decimal) -> str:
    """The shortest plain digits, without an exponent or zeros at the end: 7.5 for 7.50, 100 for 1E+2."""
    text = str(value)
    if "E" in text or "." not in text:
        return f"{value.normalize():f}"
    return text.rstrip("0").rstrip(".")
