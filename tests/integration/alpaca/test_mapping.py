"""Alpaca's values to ours: complete tables, exact numbers, and nothing odd past the edge."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from alpaca.trading.enums import OrderSide as AlpacaSide
from alpaca.trading.enums import OrderStatus as AlpacaStatus
from alpaca.trading.enums import OrderType as AlpacaType

from tests.integration.alpaca.samples import ACCOUNT, ASSET, ORDER, POSITION, UPDATE
from tests.integration.alpaca.support import lines
from worker.core.order_states import FINAL
from worker.core.types import OrderState, OrderType, Side
from worker.venues.alpaca import mapping


def test_status_table_when_compared_with_the_library_is_complete() -> None:
    assert set(mapping.STATUS) == {status.value for status in AlpacaStatus}


def test_status_table_when_an_order_may_still_change_is_not_final() -> None:
    """Frees no reservation early: only these five are the end at Alpaca."""
    final = {name for name, state in mapping.STATUS.items() if state in FINAL}
    assert final == {"filled", "canceled", "expired", "replaced", "rejected"}


def test_order_when_its_status_is_new_to_us_works_and_says_so() -> None:
    """One such order must neither hide all others nor be taken for one that is over."""
    told = mapping.order({**ORDER, "status": "on_hold_by_broker"})
    assert (told.state, told.filled_qty) == (OrderState.ACCEPTED, Decimal(4))
    assert "on_hold_by_broker" in told.reason


@pytest.mark.parametrize("status", [None, 5, True, "", "x" * 41, {"a": 1}, "<html>", "new\n"])
def test_order_when_its_status_is_no_word_is_none(status: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        mapping.order({**ORDER, "status": status})


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


@pytest.mark.parametrize(("side", "value"), [("long", 600), ("short", -600)])
def test_position_when_alpaca_has_no_price_for_it_is_worth_what_it_cost(side: str, value: int) -> None:
    """One row without a price must not hide the others, which a stop may have to close."""
    priceless = {"market_value": None, "unrealized_pl": None}
    told = mapping.position({**POSITION, "qty": "5", "avg_entry_price": "120", "side": side, **priceless})
    assert (told.market_value, told.unrealized_pl) == (value, 0)


@pytest.mark.parametrize("status", ["INACTIVE", "ACCOUNT_CLOSED", "SUBMITTED", 5])
def test_account_when_not_active_has_no_buying_power(status: object) -> None:
    assert mapping.account({**ACCOUNT, "status": "ACTIVE"}).buying_power == Decimal("262113.632")
    assert mapping.account({**ACCOUNT, "status": status}).buying_power == 0


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
