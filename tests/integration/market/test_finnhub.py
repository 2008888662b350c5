"""Finnhub's answers as they are, the odd ones included."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from shared.clock import ManualClock
from shared.documents import parse_json
from shared.errors import VenueUnavailable
from tests.builders import NOW
from tests.servers.market import KEY, FinnhubServer, minutes
from worker.market.finnhub import CALLS_A_MINUTE, FinnhubData

STAMP = int(NOW.timestamp())


@pytest.fixture
def server() -> Iterator[FinnhubServer]:
    with FinnhubServer() as running:
        yield running


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def finnhub(server: FinnhubServer, clock: ManualClock) -> FinnhubData:
    return FinnhubData(KEY, server.url, clock)


def test_last_price_when_quoted_is_exact_with_its_time(server: FinnhubServer, finnhub: FinnhubData) -> None:
    server.quotes["AAPL"] = {"c": 112.28, "h": 112.44, "l": 107.67, "o": 108.43, "pc": 108.22, "t": 1601197570}
    found = finnhub.last_price("AAPL")
    assert (found.price, found.time) == (Decimal("112.28"), datetime(2020, 9, 27, 9, 6, 10, tzinfo=UTC))
    assert server.keys == {KEY}


def test_last_price_when_recorded_quotes_are_read_takes_zero_for_no_price(
    server: FinnhubServer, finnhub: FinnhubData, data: Path
) -> None:
    rows = [parse_json(line) for line in (data / "misc/finnhub_quote.jsonl").read_bytes().splitlines()]
    for row in rows:
        server.quotes["X"] = row["body"]
        if row["body"]["c"]:
            assert finnhub.last_price("X").price > 0
        else:
            with pytest.raises(VenueUnavailable, match="no price"):
                finnhub.last_price("X")


@pytest.mark.parametrize(
    "lie",
    [
        '{"c": NaN, "t": 1601197570}',
        '{"c": "112", "t": 1601197570}',
        '{"c": true, "t": 1601197570}',
        '{"c": -1, "t": 1601197570}',
        '{"c": 112.28, "t": 0}',
        '{"c": 112.28, "t": 999999999999}',
        '{"c": 1%s, "t": 1601197570}' % ("0" * 400),
        '"You don\'t have access to this resource."',
        "API limit reached",
        '{"error": "Invalid API key"}',
        "[]",
        "",
        "<html>",
        (401, '{"error": "Invalid API key"}'),
        (403, '{"error": "You don\'t have access to this resource."}'),
        (429, '{"error": "API limit reached."}'),
        500,
        "reset",
    ],
)
def test_last_price_when_the_answer_is_odd_is_no_price(server: FinnhubServer, finnhub: FinnhubData, lie: Any) -> None:
    server.lie("quote", lie)
    with pytest.raises(VenueUnavailable) as caught:
        finnhub.last_price("AAPL")
    assert KEY not in str(caught.value)


def test_bars_when_asked_are_the_last_complete_minutes(server: FinnhubServer, finnhub: FinnhubData) -> None:
    server.candles["AAPL"] = [*minutes(80, STAMP), (STAMP, 1, 1, 1, 1, 1)]
    server.candles["ODD"] = [(STAMP - 120, 1, 2, 0, 1, 1), (STAMP - 60, 1, 2, 1, 1.5, 0), (STAMP - 60, 9, 9, 9, 9, 9)]
    found = finnhub.bars(["AAPL", "ODD", "NONE"], 60, NOW)
    assert [len(found[t]) for t in ("AAPL", "ODD", "NONE")] == [60, 1, 0]
    assert found["AAPL"][-1].start == NOW - timedelta(minutes=1)
    assert found["AAPL"][0].start == NOW - timedelta(minutes=60)
    assert (found["AAPL"][-1].close, found["AAPL"][-1].volume) == (100.5, 11.0)


@pytest.mark.parametrize(
    "lie", ['{"s": "ok"}', '{"s":"ok","t":[1],"o":[],"h":[1],"l":[1],"c":[1],"v":[1]}', '{"s": 1}']
)
def test_bars_when_columns_do_not_fit_are_none(server: FinnhubServer, finnhub: FinnhubData, lie: str) -> None:
    server.lie("stock/candle", lie)
    with pytest.raises(VenueUnavailable):
        finnhub.bars(["AAPL"], 60, NOW)


@pytest.mark.parametrize(
    "lie", [500, "<html>", "reset", '{"s":"ok","t":[999999999999],"o":[1],"h":[1],"l":[1],"c":[1],"v":[1]}']
)
def test_bars_when_one_ticker_is_refused_are_there_for_the_others(
    server: FinnhubServer, finnhub: FinnhubData, lie: Any
) -> None:
    """One symbol without a licence must not cost the cycle all its predictions."""
    server.candles = {name: minutes(5, STAMP) for name in ("AAPL", "MSFT")}
    server.lie("stock/candle", lie)
    found = finnhub.bars(["AAPL", "MSFT"], 5, NOW)
    assert [len(found[name]) for name in ("AAPL", "MSFT")] == [0, 5]


def test_calls_when_a_minute_is_used_up_are_not_made(
    server: FinnhubServer, finnhub: FinnhubData, clock: ManualClock
) -> None:
    """Beyond 60 a minute Finnhub answers 429, and in the end bans the key."""
    server.candles = {f"T{n}": minutes(5, STAMP) for n in range(CALLS_A_MINUTE + 5)}
    found = finnhub.bars(list(server.candles), 5, NOW)
    assert sum(bool(bars) for bars in found.values()) == CALLS_A_MINUTE
    with pytest.raises(VenueUnavailable, match="used up"):
        finnhub.last_price("T1")
    assert server.requests.total() == CALLS_A_MINUTE
    clock.advance(60)
    server.lie("quote", (429, "API limit reached"))
    for _ in range(2):
        with pytest.raises(VenueUnavailable):
            finnhub.last_price("T1")
    assert server.requests.total() == CALLS_A_MINUTE + 1
