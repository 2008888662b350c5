"""Yahoo through the real yfinance: columns by ticker, NaN for what failed, and a swallowed rate limit."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.errors import VenueUnavailable
from tests.servers.market import YahooServer, minutes
from worker.market.yahoo import YahooData

pytest.importorskip("yfinance", reason="the extra yfinance is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # yfinance and pandas 3 between themselves
END = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
STAMP = int(END.timestamp())


@pytest.fixture
def server() -> Iterator[YahooServer]:
    with YahooServer() as running:
        yield running


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all: yfinance keeps the file open that it found first, whatever it is told later."""
    return tmp_path_factory.mktemp("yahoo")


@pytest.fixture
def yahoo(server: YahooServer, cache: Path) -> YahooData:
    return YahooData(server.url, cache)


def test_bars_when_one_ticker_fails_are_those_of_the_others(server: YahooServer, yahoo: YahooData) -> None:
    odd = minutes(3, STAMP)
    odd[1] = (odd[1][0], None, None, None, None, None)
    server.candles = {"AAPL": minutes(40, STAMP, 150.0), "ODD": odd}
    found = yahoo.bars(["AAPL", "ODD", "GONE"], 30, END)
    assert [len(found[t]) for t in ("AAPL", "ODD", "GONE")] == [30, 2, 0]
    assert found["AAPL"][-1].start == END - timedelta(minutes=1)
    assert (found["AAPL"][-1].open, found["AAPL"][-1].close) == (150.0, 150.5)


def test_last_price_when_asked_is_the_last_close(server: YahooServer, yahoo: YahooData) -> None:
    server.candles = {"MSFT": minutes(3, STAMP, 410.0)}
    assert str(yahoo.last_price("MSFT").price) == "410.5"


@pytest.mark.parametrize(
    ("lie", "told"), [((429, "Too Many Requests"), "limits the rate"), (500, "yfinance"), ("<html>", "yfinance")]
)
def test_bars_when_yahoo_refuses_are_unavailable(server: YahooServer, yahoo: YahooData, lie: Any, told: str) -> None:
    server.candles = {"AAPL": minutes(3, STAMP)}
    server.always = lie
    with pytest.raises(VenueUnavailable, match=told):
        yahoo.bars(["AAPL"], 30, END)
