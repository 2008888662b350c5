"""Trades whose price is not the market's: volume they have, but no candle, stop-loss or last price comes from them."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from worker.core.candles import CandleBuilder
from worker.core.trades import SECOND, Trade, micros
from worker.feeds.alpaca_conditions import NO_PRICE, NO_PRICE_ON_TAPE, NO_TRADE, is_trade, makes_price

NEW_YORK = ZoneInfo("America/New_York")
NOON = micros(datetime(2026, 3, 2, 12, 0, tzinfo=NEW_YORK))
T0 = 1_700_000_000 * SECOND


def at(hour: int, minute: int = 0) -> int:
    return micros(datetime(2026, 7, 6, hour, minute, tzinfo=NEW_YORK))


@pytest.mark.parametrize(
    "regular", [[], ["@"], [" "], ["@", "F"], ["E", "F"], ["O"], ["5"], ["6"], ["X"], ["K"], ["L"]]
)
def test_price_when_the_conditions_are_regular_is_made_on_every_tape(regular: list[str]) -> None:
    for tape in ("A", "B"):
        assert makes_price(regular, tape, NOON)
    assert makes_price([c for c in regular if c != "E"], "C", NOON)
    assert is_trade(regular)


@pytest.mark.parametrize("condition", [*NO_PRICE, *NO_TRADE])
def test_price_when_one_condition_forbids_it_is_not_made_whatever_else_stands_there(condition: str) -> None:
    for tape in ("A", "B", "C", None):
        assert not makes_price(["@", condition], tape, NOON)
        assert not makes_price([condition, "F"], tape, NOON)
    assert is_trade(["@", condition]) == (condition not in NO_TRADE)


def test_price_when_a_letter_means_two_things_follows_its_tape() -> None:
    assert [makes_price(["B"], tape, NOON) for tape in ("A", "B", "C")] == [False, False, True]
    assert [makes_price(["E"], tape, NOON) for tape in ("A", "B", "C")] == [True, True, False]
    assert NO_PRICE_ON_TAPE.keys() == {"A", "B", "C"}


def test_price_when_of_extended_hours_is_made_outside_the_session_only() -> None:
    """Within it such a trade is a late report; daylight saving must not move the session."""
    hours = [at(4), at(9, 29), at(9, 30), at(15, 59), at(16), at(19, 59)]
    assert [makes_price(["@", "T"], "C", h) for h in hours] == [True, True, False, False, True, True]
    winter = micros(datetime(2026, 1, 5, 9, 29, tzinfo=NEW_YORK))
    assert [makes_price(["T"], "A", winter + n * 60 * SECOND) for n in (0, 1)] == [True, False]
    assert not any(makes_price(["T", "I"], "C", h) for h in hours)


def trade(ms: int, price: float, quantity: float = 1.0, *, priced: bool = True, maker: bool | None = None) -> Trade:
    moment = T0 + ms * 1000
    return Trade("X", price, quantity, maker, moment, moment, None, priced)


def test_candle_when_a_trade_makes_no_price_has_its_volume_only() -> None:
    builder = CandleBuilder("X")
    builder.on_trade(trade(0, 10.0))
    builder.on_trade(trade(10, 999.0, 5.0, priced=False, maker=False))
    builder.on_trade(trade(20, 11.0))
    builder.on_trade(trade(30, 0.01, 7.0, priced=False, maker=True))
    (candle,) = builder.on_trade(trade(1000, 12.0))
    assert (candle.open, candle.high, candle.low, candle.close) == (10.0, 11.0, 10.0, 11.0)
    assert (candle.volume, candle.buy_volume, candle.sell_volume, candle.trades) == (14.0, 5.0, 7.0, 4)
    assert builder.last_close == 12.0


def test_candle_when_no_trade_of_its_second_makes_a_price_carries_the_close_with_volume() -> None:
    builder = CandleBuilder("X")
    builder.on_trade(trade(0, 10.0))
    (first,) = builder.on_trade(trade(1100, 999.0, 5.0, priced=False))
    (second,) = builder.on_trade(trade(2100, 11.0))
    assert (first.close, second.open, second.high, second.low, second.close) == (10.0,) * 5
    assert (second.volume, second.trades, second.gap) == (5.0, 1, False)


def test_first_price_of_a_second_when_unpriced_trades_came_before_opens_it() -> None:
    builder = CandleBuilder("X")
    builder.on_trade(trade(0, 10.0))
    builder.on_trade(trade(1000, 1.0, priced=False))
    builder.on_trade(trade(1001, 20.0))
    (candle,) = builder.on_trade(trade(2000, 20.0))
    assert (candle.open, candle.low, candle.trades) == (20.0, 20.0, 2)


def test_candles_when_nothing_has_made_a_price_yet_do_not_begin() -> None:
    """A candle at zero would be the worst of all prices."""
    builder = CandleBuilder("X")
    for n in range(3):
        assert not builder.on_trade(trade(n * 1000, 999.0, priced=False))
    assert builder.last_close is None
    builder.on_trade(trade(3000, 10.0))
    (candle,) = builder.on_trade(trade(4000, 10.0))
    assert (candle.start, candle.low) == (T0 + 3 * SECOND, 10.0)
