"""Alpaca's values to ours: complete tables, exact numbers, and nothing odd past the edge."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from alpaca.trading.enums import OrderSide as AlpacaSide
from alpaca.trading.enums import OrderStatus as AlpacaStatus
from alpaca.trading.enums import OrderType as AlpacaType
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.alpaca.support import lines
from worker.core.orders import FINAL
from worker.core.types import OrderState, OrderType, Side
from worker.venues.alpaca import mapping

ORDER: dict[str, Any] = {
    "id": "61e69015-8549-4bfd-b9c3-01e75843f47d",
    "client_order_id": "sx-e-1",
    "symbol": "AAPL",
    "asset_class": "us_equity",
    "side": "buy",
    "type": "limit",
    "qty": "10",
    "filled_qty": "4",
    "filled_avg_price": "99.5",
    "limit_price": "100",
    "status": "partially_filled",
    "submitted_at": "2026-01-05T10:00:00.123456789-05:00",
    "updated_at": "2026-01-05T15:00:01Z",
}
FILL: dict[str, Any] = {
    "id": "20260105150000000::9a7d",
    "order_id": ORDER["id"],
    "symbol": "AAPL",
    "side": "sell",
    "qty": "2",
    "price": "100.5",
    "transaction_time": "2026-01-05T15:00:00.5Z",
}
UPDATE: dict[str, Any] = {
    "event": "partial_fill",
    "execution_id": "9a7d",
    "qty": "4",
    "price": "99.5",
    "timestamp": "2026-01-05T15:00:01Z",
    "order": ORDER,
}
POSITION: dict[str, Any] = {
    "symbol": "AAPL",
    "asset_class": "us_equity",
    "side": "long",
    "qty": "5",
    "avg_entry_price": "100",
    "market_value": "600",
    "unrealized_pl": "100",
}
ACCOUNT: dict[str, Any] = {"equity": "103820.56", "cash": "-23140.2", "buying_power": "262113.632", "currency": "USD"}
CLOCK: dict[str, Any] = {"timestamp": "2026-01-05T10:00:00-05:00", "is_open": True, "next_open": None}
BAR: dict[str, Any] = {"t": "2026-01-05T15:00:00Z", "o": 1.0, "h": 2.0, "l": 0.5, "c": 1.5, "v": 10}
ASSET: dict[str, Any] = {
    "class": "crypto",
    "symbol": "BTC/USD",
    "status": "active",
    "tradable": True,
    "min_trade_increment": "0.0001",
    "price_increment": "0.01",
}
NO_NUMBERS: list[object] = ["NaN", "Infinity", "-Infinity", float("nan"), float("inf"), "sNaN", "x", True, [], {}]
NO_NUMBERS += ["1e400", 1e300, "1E+999999999", "1E-999999999"]
MALFORMED = (KeyError, TypeError, ValueError, ArithmeticError, AttributeError)


def test_status_table_when_compared_with_the_library_is_complete() -> None:
    assert set(mapping.STATUS) == {status.value for status in AlpacaStatus}


def test_status_table_when_an_order_may_still_change_is_not_final() -> None:
    """Frees no reservation early: only these five are the end at Alpaca."""
    final = {name for name, state in mapping.STATUS.items() if state in FINAL}
    assert final == {"filled", "canceled", "expired", "replaced", "rejected"}


@pytest.mark.parametrize("name", [t.value for t in AlpacaType])
def test_order_when_of_any_type_the_library_knows_is_read(name: str) -> None:
    assert mapping.order({**ORDER, "type": name}).type.value in {name, "stop"}


@pytest.mark.parametrize("name", [s.value for s in AlpacaSide])
def test_order_when_of_any_side_the_library_knows_is_read(name: str) -> None:
    assert mapping.order({**ORDER, "side": name}).side.value == name


def test_order_when_read_keeps_every_figure_exact() -> None:
    told = mapping.order(ORDER)
    assert (told.venue_order_id, told.client_order_id, told.ticker) == (ORDER["id"], "sx-e-1", "AAPL")
    assert (told.side, told.type, told.state) == (Side.BUY, OrderType.LIMIT, OrderState.PARTIALLY_FILLED)
    figures = (told.qty, told.filled_qty, told.avg_fill_price, told.limit_price)
    assert figures == (Decimal(10), Decimal(4), Decimal("99.5"), Decimal(100))
    assert told.created_at == datetime(2026, 1, 5, 15, 0, 0, 123456, tzinfo=UTC)


def test_order_when_its_numbers_are_json_numbers_is_the_same_order() -> None:
    numbers = {"qty": 10, "filled_qty": 4, "filled_avg_price": 99.5, "limit_price": 100}
    assert mapping.order({**ORDER, **numbers}) == mapping.order(ORDER)


def test_order_when_by_notional_has_the_quantity_that_it_may_become() -> None:
    order = {**ORDER, "qty": None, "notional": "500", "filled_qty": "0", "filled_avg_price": None, "status": "new"}
    assert mapping.order({**order, "limit_price": "100"}).qty == Decimal(5)
    assert mapping.order({**order, "type": "market", "limit_price": None}).qty == 0
    filled = {**order, "status": "filled", "filled_qty": "4.97", "filled_avg_price": "100.6"}
    assert mapping.order(filled).qty == Decimal("4.97")


def test_symbol_when_crypto_is_the_pair() -> None:
    pairs = {"BTCUSD": "BTC/USD", "ETHUSDT": "ETH/USDT", "ETHBTC": "ETH/BTC", "BTC/USD": "BTC/USD", "USD": "USD"}
    assert {raw: mapping.symbol(raw, "crypto") for raw in pairs} == pairs
    assert mapping.symbol("BTCUSD", "us_equity") == "BTCUSD"
    assert mapping.order({**ORDER, "symbol": "BTCUSD", "asset_class": "crypto"}).ticker == "BTC/USD"


def test_position_when_short_has_a_positive_quantity_and_says_so() -> None:
    told = mapping.position({**POSITION, "qty": "-5", "side": "short", "market_value": "-600"})
    assert (told.qty, told.side, told.signed_qty, told.market_value) == (5, "short", -5, -600)


@pytest.mark.parametrize("flag", ["trading_blocked", "account_blocked", "trade_suspended_by_user"])
def test_account_when_blocked_has_no_buying_power(flag: str) -> None:
    """A flag of another type than the documented one is no permission."""
    assert mapping.account({**ACCOUNT, flag: False}).buying_power == Decimal("262113.632")
    for value in (True, "true", "false", 1):
        told = mapping.account({**ACCOUNT, flag: value})
        assert (told.trading_blocked, told.buying_power) == (True, 0)


def test_instrument_when_not_active_or_not_tradable_is_not_tradable() -> None:
    assert mapping.instrument(ASSET).tradable
    assert (mapping.instrument(ASSET).lot_size, mapping.instrument(ASSET).tick_size) == (
        Decimal("0.0001"),
        Decimal("0.01"),
    )
    for change in ({"tradable": False}, {"tradable": "true"}, {"status": "inactive"}, {"status": None}):
        assert not mapping.instrument({**ASSET, **change}).tradable
    assert mapping.instrument({**ASSET, "class": "us_equity", "symbol": "AAPL"}).lot_size == 1


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
        (mapping.order, ORDER, {"status": "teleported"}),
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


def test_update_when_it_is_a_fill_carries_the_execution_and_the_cumulative_figures() -> None:
    told = mapping.update(UPDATE)
    assert told.execution is not None
    execution = told.execution
    assert (execution.execution_id, execution.qty, execution.price) == ("9a7d", Decimal(4), Decimal("99.5"))
    assert (execution.client_order_id, execution.venue_order_id) == ("sx-e-1", ORDER["id"])
    assert execution.derived is False
    assert told.order.filled_qty == Decimal(4)


def test_update_when_it_is_no_fill_or_has_no_execution_id_is_the_order_alone() -> None:
    for event in ("new", "canceled", "replaced", "order_cancel_rejected", "an event of tomorrow"):
        assert mapping.update({**UPDATE, "event": event}).execution is None
    assert mapping.update({**UPDATE, "execution_id": None}).execution is None


@pytest.mark.parametrize(
    "body", ["", "<html>", "null", "[]", "{}", '{"code": 1}', '{"code": true, "message": "x"}', "[" * 100_000]
)
def test_error_body_when_not_alpaca_s_own_is_no_structured_answer(body: str) -> None:
    assert mapping.structured(body) is None


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**17), max_value=10**17, places=9))
def test_decimal_when_sent_as_text_comes_back_exactly(number: Decimal) -> None:
    assert mapping.decimal(str(number)) == number


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


def test_recorded_orders_when_read_are_orders(data: Path) -> None:
    """The library's own examples: JSON numbers stand beside strings, notional orders have no quantity."""
    orders = [
        body
        for row in lines(data / "alpaca/alpaca-py_trading_client_mocks.jsonl")
        for body in (row["body"] if isinstance(row["body"], list) else [row["body"]])
        if isinstance(body, dict) and "client_order_id" in body
    ]
    assert len(orders) > 5
    for body in orders:
        told = mapping.order(body)
        assert told.venue_order_id == body["id"]
        assert told.qty == Decimal(str(body["qty"])) if body["qty"] is not None else told.qty == told.filled_qty
        assert told.created_at is not None


def test_recorded_account_positions_and_assets_when_read_make_sense(data: Path) -> None:
    rows = lines(data / "alpaca/alpaca-py_trading_client_mocks.jsonl")
    (account,) = [r["body"] for r in rows if isinstance(r["body"], dict) and "equity" in r["body"]]
    assert mapping.account(account).cash == Decimal("-23140.2")
    (held,) = [r["body"] for r in rows if "test_get_all_positions" in r["src"]]
    assert [(p.ticker, p.qty) for p in map(mapping.position, held)] == [("AAPL", 5)]
    (asset,) = [r["body"] for r in rows if r["src"].endswith("::test_get_asset")]
    assert mapping.instrument(asset).tradable


def test_recorded_bracket_when_flattened_is_three_orders(data: Path) -> None:
    found = json.loads((data / "alpaca/real_bracket_order_filled_TSLA_20230612a.json").read_text())["body"][0]
    assert [o["id"] for o in mapping.with_legs(found)] == [found["id"], *(leg["id"] for leg in found["legs"])]
    assert [mapping.order(o).type for o in mapping.with_legs(found)] == [
        OrderType.LIMIT,
        OrderType.LIMIT,
        OrderType.STOP,
    ]
