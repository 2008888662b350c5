"""One-second candles: every rule, the recorded bars as oracle, and that asking for the time changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.market import CAPTURES, ETHUSDT, FUTURES, SPOT, XRPETH, built, recorded
from worker.core.candles import LONGEST_CARRY, STRAYS, WINDOW, Candle, CandleBuilder
from worker.core.trades import SECOND, Trade, micros
from worker.core.venue_clock import VenueClock
from worker.feeds.bars import load_bars

MS = 1000
T0 = 1_700_000_000 * SECOND


def trade(
    at: int,
    price: float = 10.0,
    quantity: float = 1.0,
    *,
    maker: bool | None = False,
    lag: int = 0,
    number: int | None = None,
) -> Trade:
    """``at`` and ``lag`` in milliseconds after ``T0``."""
    return Trade("X", price, quantity, maker, T0 + at * MS, T0 + (at + lag) * MS, number)


def seconds(candles: Sequence[Candle]) -> list[int]:
    return [(c.start - T0) // SECOND for c in candles]


def test_candle_when_its_second_ends_has_all_of_its_figures() -> None:
    builder = CandleBuilder("X")
    for at, price, quantity, maker in ((0, 10, 1, False), (1, 12, 2, True), (500, 9, 3, None), (999, 11, 4, False)):
        assert not builder.on_trade(trade(at, price, quantity, maker=maker))
    (candle,) = builder.on_trade(trade(1000, 20.0))
    assert candle == Candle("X", T0, 10, 12, 9, 11, 10, 5, 2, 4)
    assert (candle.end, builder.last_close) == (T0 + SECOND, 20.0)


def test_candle_when_seconds_have_no_trade_carries_the_close() -> None:
    builder = CandleBuilder("X")
    builder.on_trade(trade(0, 10.0))
    candles = builder.on_trade(trade(3100, 11.0))
    assert seconds(candles) == [0, 1, 2]
    assert candles[2] == Candle("X", T0 + 2 * SECOND, 10, 10, 10, 10, 0, 0, 0, 0)


def test_candle_when_the_clock_passes_its_end_by_the_grace_is_complete() -> None:
    """Latency is what is smallest over the last minute, so that a receive clock ahead or behind does not matter."""
    for lag in (-1270, 0, 30):
        builder = CandleBuilder("X")
        builder.on_trade(trade(100, lag=lag))
        builder.on_trade(trade(150, lag=lag + 40))
        received = T0 + (1249 + lag) * MS
        assert not builder.on_time(received)
        assert seconds(builder.on_time(received + MS)) == [0]
        assert not builder.on_time(received + MS)
        assert seconds(builder.on_time(received + 1001 * MS)) == [1]


def test_trade_when_it_comes_after_the_grace_is_late_whoever_asked_before() -> None:
    for asked in (True, False):
        builder = CandleBuilder("X")
        builder.on_trade(trade(100))
        if asked:
            builder.on_time(T0 + 1300 * MS)
        builder.on_trade(trade(900, lag=400))
        assert builder.counts.late == 1
    builder = CandleBuilder("X")
    builder.on_trade(trade(100))
    builder.on_trade(trade(900, lag=349))
    (candle,) = builder.on_trade(trade(1400))
    assert (candle.trades, builder.counts.late) == (2, 0)


def test_lag_when_the_smallest_is_older_than_a_minute_counts_no_more() -> None:
    clock = VenueClock()
    builder = CandleBuilder("X", clock)
    builder.on_trade(trade(0, lag=-500))
    for second in range(1, 59):
        builder.on_trade(trade(second * 1000, lag=100))
    assert clock.least == -500 * MS
    for second in range(59, 64):
        builder.on_trade(trade(second * 1000, lag=100))
    assert clock.least == 100 * MS


def test_trades_when_their_id_is_not_above_the_last_are_dropped() -> None:
    builder = CandleBuilder("X")
    for number in (5, 6, 6, 4, 7):
        builder.on_trade(trade(number, float(number), number=number))
    (candle,) = builder.on_trade(trade(1000, number=8))
    assert (candle.trades, candle.close, builder.counts.duplicates) == (3, 7.0, 2)
    assert (candle.low, builder.counts.dropped) == (5.0, 2)


def test_trades_when_the_source_has_no_ids_keep_their_order() -> None:
    builder = CandleBuilder("X")
    for at, price in ((500, 1.0), (400, 3.0), (400, 2.0)):
        builder.on_trade(trade(at, price))
    (candle,) = builder.on_trade(trade(1000))
    assert (candle.open, candle.close, candle.trades) == (1.0, 2.0, 3)


def test_trade_when_its_candle_is_complete_is_dropped_and_counted() -> None:
    builder = CandleBuilder("X")
    builder.on_trade(trade(900))
    builder.on_trade(trade(1000))
    assert not builder.on_trade(trade(999, 99.0, lag=10))
    (candle,) = builder.on_trade(trade(2000))
    assert (candle.high, builder.counts.late) == (10.0, 1)


def test_gap_when_the_source_was_away_marks_every_second_it_touched() -> None:
    builder = CandleBuilder("X")
    builder.on_trade(trade(100))
    builder.on_trade(trade(1100))
    assert not builder.on_gap(T0 + 1600 * MS)
    away = [*builder.on_time(T0 + 3500 * MS), *builder.on_live(T0 + 4200 * MS)]
    back = builder.on_trade(trade(6000, 12.0))
    candles = [*away, *back]
    assert [(s, c.gap) for s, c in zip(seconds(candles), candles, strict=True)] == [
        *((1, True), (2, True), (3, True), (4, True), (5, False)),
    ]
    assert all(c.close == 10.0 for c in candles)
    assert builder.counts.gaps == 1


def test_gap_when_it_began_after_a_candles_end_leaves_that_candle_whole() -> None:
    builder = CandleBuilder("X")
    builder.on_trade(trade(100))
    builder.on_gap(T0 + 1100 * MS)
    builder.on_live(T0 + 1200 * MS)
    assert [c.gap for c in builder.on_trade(trade(3000))] == [False, True, False]


def test_ready_when_sixty_whole_candles_are_complete_and_not_before() -> None:
    builder = CandleBuilder("X")
    for second in range(WINDOW):
        assert not builder.ready
        builder.on_trade(trade(second * 1000))
    builder.on_time(T0 + WINDOW * SECOND + 249 * MS)
    assert not builder.ready
    builder.on_time(T0 + WINDOW * SECOND + 250 * MS)
    assert builder.ready
    builder.on_gap(T0 + 70_400 * MS)
    builder.on_live(T0 + 70_600 * MS)
    builder.on_time(T0 + 71_300 * MS)
    assert not builder.ready
    builder.on_time(T0 + 130_300 * MS)
    assert not builder.ready
    builder.on_time(T0 + 131_300 * MS)
    assert builder.ready


@pytest.mark.parametrize("asked", [False, True])
def test_silence_when_longer_than_an_hour_is_a_gap_whoever_asked_before(asked: bool) -> None:
    """A clock gone wild, or a night, must not cost a candle for every second of it."""
    builder = CandleBuilder("X")
    builder.on_trade(trade(0))
    candles = []
    end = LONGEST_CARRY + 1000
    for second in range(2, end) if asked else ():
        candles += builder.on_time(T0 + second * SECOND)
    candles += builder.on_trade(trade(end * 1000))
    carried = list(range(LONGEST_CARRY + 1))
    gaps = range(LONGEST_CARRY + 1, end) if asked else range(end - WINDOW, end)
    assert seconds(candles) == [*carried, *gaps]
    assert [c.gap for c in candles] == [False] * len(carried) + [True] * len(gaps)
    assert not builder.ready


def test_trades_when_from_the_future_are_dropped_until_they_are_the_rule() -> None:
    """One forged time must not end every candle up to it; a venue whose clock was set must not be deaf for ever."""
    builder = CandleBuilder("X")
    builder.on_trade(trade(0))
    assert not builder.on_trade(trade(3_600_000, lag=-3_599_990))
    assert seconds(builder.on_trade(trade(1000))) == [0]
    assert builder.counts.ahead == 1
    for n in range(STRAYS):
        assert not builder.on_trade(trade(3_600_000 + n, 77.0, lag=-3_598_000))
    assert builder.counts.restarts == 1
    (candle,) = builder.on_trade(trade(3_601_000, lag=-3_598_000))
    assert (candle.close, candle.gap, builder.ready) == (77.0, True, False)


def test_trades_when_ids_begin_anew_are_taken_after_a_quiet_while() -> None:
    builder = CandleBuilder("X")
    builder.on_trade(trade(0, number=1_000_000))
    for n in range(STRAYS + 1):
        builder.on_trade(trade(120_000 + n, 5.0, number=n + 1))
    builder.on_time(T0 + 122_000 * MS)
    assert (builder.counts.restarts, builder.last_close) == (1, 5.0)


def test_trades_when_the_first_was_of_the_future_are_taken_after_a_quiet_while() -> None:
    """A frozen price that looks fresh is the worst that a feed can give; it must end by itself."""
    builder = CandleBuilder("X")
    builder.on_trade(trade(3_600_000, lag=-3_600_000, number=1))
    for n in range(90 * 4):
        builder.on_trade(trade(n * 250, 5.0, number=n + 2))
    assert (builder.counts.restarts, builder.last_close) == (1, 5.0)


def test_duplicates_when_a_quiet_symbol_is_replayed_never_start_it_anew() -> None:
    builder = CandleBuilder("X")
    for n in range(20):
        builder.on_trade(trade(n, number=n))
    builder.on_time(T0 + 300 * SECOND)
    for n in range(20):
        builder.on_trade(trade(n, lag=300_000, number=n))
    assert (builder.counts.duplicates, builder.counts.restarts) == (20, 0)


@pytest.mark.parametrize("name", CAPTURES)
def test_candles_when_from_a_real_capture_are_contiguous_and_lose_nothing(data: Path, name: str) -> None:
    trades = recorded(data, name)
    builder = CandleBuilder("X")
    candles = [*built(trades, builder), *builder.on_time(trades[-1].received_at + 5 * SECOND)]
    assert all(b.start - a.start == SECOND for a, b in pairwise(candles))
    assert sum(c.trades for c in candles) + builder.counts.dropped == len(trades)
    assert builder.counts.dropped == builder.counts.late <= len(trades) // 50
    if name in (SPOT, FUTURES):
        assert builder.ready


@pytest.mark.parametrize(("name", "minutes"), [("XRP_ETH-1m.feather", 1), ("XRP_ETH-5m.feather", 5)])
def test_candles_when_joined_equal_the_recorded_bars(data: Path, name: str, minutes: int) -> None:
    """The exchange's own bars of the same market are the oracle."""
    builder = CandleBuilder("X")
    candles = built(recorded(data, XRPETH), builder)
    found: dict[int, list[Candle]] = {}
    for candle in candles:
        found.setdefault(candle.start // (60 * minutes * SECOND), []).append(candle)
    whole = {k: v for k, v in found.items() if len(v) == 60 * minutes}
    compared = 0
    for bar in load_bars(data / "bars/freqtrade" / name).bars:
        part = whole.get(micros(bar.start) // (60 * minutes * SECOND))
        if part is None or not bar.volume:
            continue
        traded = [c for c in part if c.trades]
        assert (traded[0].open, max(c.high for c in traded)) == (bar.open, bar.high)
        assert (min(c.low for c in traded), traded[-1].close) == (bar.low, bar.close)
        assert sum(c.volume for c in part) == pytest.approx(bar.volume, rel=1e-9)
        compared += 1
    assert compared > 400


moves = st.lists(
    st.tuples(
        st.integers(0, 1500), st.integers(-300, 900), st.sampled_from(["trade", "trade", "trade", "gap", "live"])
    ),
    max_size=60,
)


@given(moves, st.lists(st.integers(0, 60_000), max_size=40))
def test_candles_when_time_is_asked_at_any_moment_are_the_same(
    steps: list[tuple[int, int, str]], asked: list[int]
) -> None:
    """Live, where a loop asks all the time, and replay, where nobody does, take the same decisions."""
    results = []
    for polls in ([], sorted(asked)):
        builder, found, received, number = CandleBuilder("X"), [], T0, 0
        waiting = list(polls)
        for step, lag, kind in steps:
            received += step * MS
            while waiting and T0 + waiting[0] * MS <= received:
                found += builder.on_time(T0 + waiting.pop(0) * MS)
            if kind == "trade":
                number += 1
                found += builder.on_trade(Trade("X", 10.0 + lag, 1.0, True, received - lag * MS, received, number))
            elif kind == "gap":
                found += builder.on_gap(received)
            else:
                found += builder.on_live(received)
        found += builder.on_time(received + 5 * SECOND)
        results.append((found, builder.counts))
    assert results[0] == results[1]


@pytest.mark.parametrize("name", [SPOT, FUTURES, ETHUSDT])
def test_candles_when_from_a_real_capture_equal_plain_sums_by_second(data: Path, name: str) -> None:
    """Of every second from which no trade came too late, which is nearly every one."""
    trades = recorded(data, name)
    by_second: dict[int, list[Trade]] = {}
    for one in trades:
        by_second.setdefault(one.venue_time // SECOND * SECOND, []).append(one)
    traded = [c for c in built(trades, CandleBuilder("X")) if c.trades]
    whole = [c for c in traded if c.trades == len(by_second[c.start])]
    assert len(whole) >= 0.9 * len(traded) > 0
    for candle in whole:
        part = by_second[candle.start]
        prices = [t.price for t in part]
        assert (candle.open, candle.high, candle.low, candle.close) == (
            prices[0],
            max(prices),
            min(prices),
            prices[-1],
        )
        bought = sum(t.quantity for t in part if not t.is_buyer_maker)
        assert candle.volume == pytest.approx(sum(t.quantity for t in part), rel=1e-12)
        assert candle.buy_volume == pytest.approx(bought, rel=1e-12)
        assert candle.buy_volume + candle.sell_volume == pytest.approx(candle.volume, rel=1e-9)
