"""The rules: each denies with its code and numbers, and what is missing or not a number denies."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from shared.documents import RiskSettings, TradingSettings, dump_json
from tests.builders import NOW
from worker.core.decide import entry_size, exit_size, passive_limit, signal, thresholds
from worker.core.risk import RULES, BookView, DayCounters, Intent, MarketView, judge_intent
from worker.core.types import Effect, Instrument, LastPrice, OrderType, Side

NAN = Decimal("NaN")

BOOK = BookView(
    held={"AAPL": Decimal(5)},
    working=frozenset(),
    frozen={},
    selling={},
    open_tickers=frozenset({"AAPL"}),
    day=DayCounters(Decimal(49900), {"AAPL": 1}),
    last_trade={},
    run_orders=0,
    day_pnl=Decimal(0),
    buying_power=Decimal(100000),
    enabled=True,
)
MARKET = MarketView(NOW, True, LastPrice(Decimal("23.41"), NOW), Instrument("AAPL"))
BUY = Intent("AAPL", Side.BUY, Effect.ENTRY, Decimal(1), Decimal("23.41"))
SELL = Intent("AAPL", Side.SELL, Effect.EXIT, Decimal(5), Decimal("23.41"))


def limits(**fields: Any) -> RiskSettings:
    return RiskSettings.parse(dump_json(fields), RiskSettings())


DENIED: dict[str, tuple[Intent, BookView, RiskSettings, MarketView]] = {
    "SWITCHED_OFF": (BUY, replace(BOOK, enabled=False), limits(), MARKET),
    "EMERGENCY_STOP": (SELL, BOOK, limits(emergency_stop_active=True), MARKET),
    "BAD_NUMBER": (replace(BUY, qty=NAN), BOOK, limits(), MARKET),
    "REDUCE_ONLY": (BUY, BOOK, limits(reduce_only=True), MARKET),
    "REDUCING": (BUY, replace(BOOK, reducing="drift"), limits(), MARKET),
    "EXCEEDS_HOLDING": (replace(SELL, qty=Decimal(6)), BOOK, limits(), MARKET),
    "MARKET_UNKNOWN": (BUY, BOOK, limits(), replace(MARKET, is_open=None)),
    "MARKET_CLOSED": (SELL, BOOK, limits(), replace(MARKET, is_open=False)),
    "NO_PRICE": (BUY, BOOK, limits(), replace(MARKET, last=None)),
    "STALE_PRICE": (BUY, BOOK, limits(), replace(MARKET, now=NOW + timedelta(seconds=15.1))),
    "PRICE_COLLAR": (replace(BUY, ref_price=Decimal(25)), BOOK, limits(), MARKET),
    "NOT_TRADABLE": (BUY, BOOK, limits(), replace(MARKET, instrument=None)),
    "LOT_SIZE": (replace(BUY, qty=Decimal("1.5")), BOOK, limits(), MARKET),
    "TICK_SIZE": (replace(BUY, type=OrderType.LIMIT, limit_price=Decimal("23.405")), BOOK, limits(), MARKET),
    "MIN_NOTIONAL": (
        BUY,
        BOOK,
        limits(),
        replace(MARKET, instrument=Instrument("AAPL", min_notional=Decimal(100))),
    ),
    "SYMBOL_FROZEN": (SELL, replace(BOOK, frozen={"AAPL": "UNKNOWN"}), limits(), MARKET),
    "WORKING_ORDER": (BUY, replace(BOOK, working=frozenset({"AAPL"})), limits(), MARKET),
    "ORDER_NOTIONAL": (BUY, BOOK, limits(max_order_notional=20), MARKET),
    "DAILY_NOTIONAL_CAP": (replace(BUY, qty=Decimal(5)), BOOK, limits(), MARKET),
    "ORDERS_PER_TICKER": (BUY, BOOK, limits(max_position_per_ticker=1), MARKET),
    "COOLDOWN": (BUY, replace(BOOK, last_trade={"AAPL": NOW - timedelta(minutes=29)}), limits(), MARKET),
    "TRADES_PER_RUN": (SELL, replace(BOOK, run_orders=3), limits(), MARKET),
    "OPEN_POSITIONS": (replace(BUY, ticker="MSFT"), BOOK, limits(max_open_positions=1), MARKET),
    "DAILY_LOSS": (BUY, replace(BOOK, day_pnl=Decimal(-1000)), limits(), MARKET),
    "BUYING_POWER": (BUY, replace(BOOK, buying_power=Decimal(23)), limits(), MARKET),
}


@pytest.mark.parametrize("code", DENIED)
def test_judge_when_a_limit_is_passed_denies_with_its_code(code: str) -> None:
    denial = judge_intent(*DENIED[code])
    assert denial is not None
    assert denial.code == code
    assert denial.detail


def test_judge_when_all_is_well_lets_entries_and_exits_pass() -> None:
    assert judge_intent(BUY, BOOK, limits(), MARKET) is None
    assert judge_intent(SELL, BOOK, limits(), MARKET) is None


def test_denial_when_shown_has_the_numbers() -> None:
    denial = judge_intent(*DENIED["DAILY_NOTIONAL_CAP"])
    assert str(denial) == "DAILY_NOTIONAL_CAP: 49,900.00 + 117.05 > 50,000.00"


@pytest.mark.parametrize(
    "code", ["REDUCE_ONLY", "DAILY_NOTIONAL_CAP", "ORDERS_PER_TICKER", "COOLDOWN", "DAILY_LOSS", "BUYING_POWER"]
)
def test_exit_when_only_new_exposure_is_limited_passes(code: str) -> None:
    _, book, limit, market = DENIED[code]
    assert judge_intent(SELL, book, limit, market) is None


@pytest.mark.parametrize("field", ["day_pnl", "buying_power"])
@pytest.mark.parametrize("value", [None, NAN, Decimal("Infinity")])
def test_entry_when_a_figure_is_missing_or_no_number_is_denied(field: str, value: Decimal | None) -> None:
    assert judge_intent(BUY, replace(BOOK, **{field: value}), limits(), MARKET) is not None


def test_exit_when_the_same_shares_are_being_sold_already_is_denied() -> None:
    selling = replace(BOOK, selling={"AAPL": Decimal(1)}, working=frozenset({"AAPL"}))
    assert judge_intent(SELL, selling, limits(), MARKET) is not None


def test_rules_when_counted_are_all_shown_to_deny() -> None:
    assert len(DENIED) >= len(RULES)


@given(st.decimals(allow_nan=True, allow_infinity=True), st.decimals(allow_nan=True, allow_infinity=True))
@example(Decimal("1e28"), Decimal(1))
@example(Decimal("1e28"), Decimal("1e-28"))
@example(Decimal("9e999999"), Decimal("9e999999"))
def test_judge_when_given_any_number_answers(qty: Decimal, price: Decimal) -> None:
    denial = judge_intent(replace(BUY, qty=qty, ref_price=price), BOOK, limits(), MARKET)
    if not (qty.is_finite() and price.is_finite() and qty > 0 and price > 0):
        assert denial is not None


@pytest.mark.parametrize(("strategy", "factor"), [("CONSERVATIVE", "1.5"), ("BALANCED", "1.0"), ("AGGRESSIVE", "0.7")])
def test_signal_when_exactly_at_the_threshold_does_nothing(strategy: str, factor: str) -> None:
    settings = TradingSettings.parse(dump_json({"strategy": strategy}), TradingSettings())
    above, below = thresholds(settings)
    edge = Decimal("0.05") * Decimal(factor)
    tiny = Decimal("0.000001")
    held = Decimal(1)
    assert signal(edge, above, below, held) is None
    assert signal(edge + tiny, above, below, held) is Side.BUY
    assert signal(-edge, above, below, held) is None
    assert signal(-edge - tiny, above, below, held) is Side.SELL
    assert signal(-edge - tiny, above, below, Decimal(0)) is None
    assert signal(NAN, above, below, held) is None


@pytest.mark.parametrize(
    ("strategy", "maximum", "held", "size"),
    [
        ("CONSERVATIVE", 1, "0", "1"),
        ("CONSERVATIVE", 10, "0", "5"),
        ("CONSERVATIVE", 10, "5", "0"),
        ("CONSERVATIVE", 10, "3", "2"),
        ("BALANCED", 10, "0", "7"),
        ("AGGRESSIVE", 10, "0", "10"),
        ("AGGRESSIVE", 10, "0.5", "9"),
    ],
)
def test_entry_size_when_scaled_by_strategy_never_exceeds_it(strategy: str, maximum: int, held: str, size: str) -> None:
    raw = dump_json({"strategy": strategy, "max_position_per_trade": maximum})
    settings = TradingSettings.parse(raw, TradingSettings())
    assert entry_size(settings, Decimal(held), Instrument("AAPL")) == Decimal(size)


def test_exit_size_when_more_is_held_than_one_order_may_have_sells_one_order() -> None:
    settings = TradingSettings.parse(b'{"max_position_per_trade": 3}', TradingSettings())
    assert exit_size(settings, Decimal(7), Instrument("AAPL")) == 3
    assert exit_size(settings, Decimal("0.4"), Instrument("AAPL", lot_size=Decimal("0.1"))) == Decimal("0.4")


def test_passive_limit_when_rounded_rests_on_the_right_side() -> None:
    tick = Decimal("0.01")
    assert passive_limit(Side.BUY, Decimal("100.005"), Decimal("0.001"), tick) == Decimal("99.90")
    assert passive_limit(Side.SELL, Decimal("100.005"), Decimal("0.001"), tick) == Decimal("100.11")
