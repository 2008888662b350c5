"""What is not finite, not positive, not known or not there stops at the edge."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.alpaca.samples import ACCOUNT, ASSET, BAR, CLOCK, FILL, ORDER, POSITION, UPDATE
from worker.venues.alpaca import figures, mapping
from worker.venues.alpaca.wire import MALFORMED

NO_NUMBERS: list[object] = ["NaN", "Infinity", "-Infinity", float("nan"), float("inf"), "sNaN", "x", True, [], {}]
NO_NUMBERS += ["1e400", 1e300, "1E+999999999", "1E-999999999"]

LOADERS: dict[str, tuple[Callable[[Any], object], dict[str, Any], list[str], list[str]]] = {
    "order": (mapping.order, ORDER, ["filled_qty"], ["qty", "filled_avg_price", "limit_price"]),
    "activity": (mapping.activity, FILL, [], ["qty", "price"]),
    "update": (mapping.update, UPDATE, [], ["qty", "price"]),
    "position": (mapping.position, POSITION, ["qty", "avg_entry_price", "market_value", "unrealized_pl"], []),
    "account": (mapping.account, ACCOUNT, ["equity", "cash", "buying_power"], []),
    "bar": (mapping.bar, BAR, ["v"], ["o", "h", "l", "c"]),
    "last_price": (mapping.last_price, {"t": FILL["transaction_time"], "p": 1.5}, [], ["p"]),
    "instrument": (mapping.instrument, ASSET, [], ["min_trade_increment", "price_increment"]),
}


@pytest.mark.parametrize("name", LOADERS)
def test_value_when_a_figure_is_no_finite_number_in_range_is_refused(name: str) -> None:
    load, good, figures, positive = LOADERS[name]
    load(good)
    for field in figures + positive:
        for bad in NO_NUMBERS:
            with pytest.raises(MALFORMED):
                pytest.fail(f"{field}={bad!r} was read as {load({**good, field: bad})!r}")


@pytest.mark.parametrize("name", LOADERS)
def test_value_when_a_price_or_size_is_not_positive_is_refused(name: str) -> None:
    load, good, _, positive = LOADERS[name]
    for field in positive:
        for bad in ("0", "-1", 0, -0.5):
            with pytest.raises(ValueError, match="not positive"):
                pytest.fail(f"{field}={bad!r} was read as {load({**good, field: bad})!r}")


@pytest.mark.parametrize(
    ("load", "good", "change"),
    [
        (mapping.order, ORDER, {"status": "teleported!"}),
        (mapping.order, ORDER, {"status": None}),
        (mapping.order, ORDER, {"status": "FILLED"}),
        (mapping.order, ORDER, {"side": "hold"}),
        (mapping.order, ORDER, {"side": None}),
        (mapping.order, ORDER, {"type": "iceberg"}),
        (mapping.order, ORDER, {"type": None}),
        (mapping.order, ORDER, {"id": ""}),
        (mapping.order, ORDER, {"id": None}),
        (mapping.order, ORDER, {"filled_qty": "-1"}),
        (mapping.order, ORDER, {"submitted_at": "yesterday"}),
        (mapping.order, ORDER, {"submitted_at": "2026-01-05T15:00:00"}),
        (mapping.activity, FILL, {"side": "hold"}),
        (mapping.activity, FILL, {"transaction_time": None}),
        (mapping.update, UPDATE, {"timestamp": "later"}),
        (mapping.update, UPDATE, {"order": None}),
        (mapping.position, POSITION, {"side": "sideways"}),
        (mapping.clock, CLOCK, {"is_open": "true"}),
        (mapping.clock, CLOCK, {"timestamp": ""}),
        (mapping.bar, BAR, {"v": -1}),
        (mapping.bar, BAR, {"t": None}),
    ],
)
def test_value_when_an_enum_or_time_is_unknown_is_refused(
    load: Callable[[Any], object], good: dict[str, Any], change: dict[str, Any]
) -> None:
    load(good)
    with pytest.raises(MALFORMED):
        load({**good, **change})


@pytest.mark.parametrize("load", [entry[0] for entry in LOADERS.values()])
def test_value_when_it_is_no_object_is_refused(load: Callable[[Any], object]) -> None:
    for bad in (None, [], "", "text", 0, {}):
        with pytest.raises(MALFORMED):
            load(bad)


@settings(deadline=None)
@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**17), max_value=10**17, places=9))
def test_decimal_when_sent_as_text_comes_back_exactly(number: Decimal) -> None:
    assert figures.decimal(str(number)) == number


@settings(deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda c: st.lists(c), max_leaves=5))
def test_order_when_any_field_is_anything_is_read_or_refused_by_known_errors(value: object) -> None:
    """Nothing that a venue can say may escape as an error that the adapter does not catch."""
    for field in ORDER:
        try:
            told = mapping.order({**ORDER, field: value})
        except MALFORMED:
            continue
        assert told.qty.is_finite()
        assert told.qty >= 0
        assert told.filled_qty.is_finite()
