"""Every kind of bar file, and what is wrong with the others, by file, line and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import ConfigError
from worker.feeds.bars import load_bars, load_series

KNOWN = {
    "lean/equity__usa__minute__aapl__20140606_trade.zip": ("AAPL", 783, "2014-06-06T08:00:00+00:00", 648.8),
    "lean/crypto__coinbase__minute__btcusd__20170903_trade.zip": ("BTCUSD", 1440, "2017-09-03T00:00:00+00:00", 4642.39),
    "lean/cryptofuture__binance__minute__adausdt__20221213_trade.zip": (
        "ADAUSDT",
        1440,
        "2022-12-13T00:00:00+00:00",
        0.3067,
    ),
    "lean/equity__usa__daily__spy.zip": ("SPY", 5849, "1998-01-02T05:00:00+00:00", 97.3125),
    "freqtrade/UNITTEST_BTC-1m.json.gz": ("UNITTESTBTC", 13681, "2017-11-04T23:02:00+00:00", 0.00162008),
    "freqtrade/XRP_ETH-1m.feather": ("XRPETH", 2469, "2019-10-11T00:00:00+00:00", None),
    "binance_ADABTC-1m-2021-11-27.csv": ("ADABTC", 10, "2021-11-27T00:00:00+00:00", 0.00002853),
    "ftx_btc-perp_1m_2022-01-01_to_01-19.csv.gz": ("BTCPERP", 27419, "2021-12-31T23:01:00+00:00", 46319.0),
    "backtestingpy_GOOG_daily.csv": ("GOOG", 2148, "2004-08-19T00:00:00+00:00", None),
}


@pytest.mark.parametrize("name", KNOWN)
def test_load_bars_when_the_file_is_real_gives_its_bars(data: Path, name: str) -> None:
    ticker, count, first, opened = KNOWN[name]
    series = load_bars(data / "bars" / name)
    assert (series.ticker, len(series.bars), series.bars[0].start.isoformat()) == (ticker, count, first)
    assert opened is None or series.bars[0].open == pytest.approx(opened, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"time,price\n1,2\n", "line 1 names no column"),
        ("a.csv", b"timestamp,open,high,low,close,volume\n2022-01-01,1,2,0.5,x,1\n", "line 2"),
        ("a.csv", b"1637971200000,1,2\n", "line 1"),
        ("a.csv", b"1637971200000,1,2,0.5,nan,1\n", "no sane prices"),
        ("a.csv", b"1637971200000,1,0.5,2,1,1\n", "no sane prices"),
        ("a.csv", b"1637971200000,1,1,1,1,-1\n", "no sane volume"),
        ("a.csv", b"9" * 400 + b",1,1,1,1,1\n", "a.csv"),
        ("a.json", b"[" * 100_000, "cannot be read"),
        ("a.json.gz", b"not gzip", "cannot be read"),
        ("a.zip", b"not a zip", "cannot be read"),
    ],
)
def test_load_bars_when_the_file_is_broken_says_where(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=told):
        load_bars(path)


def test_load_bars_when_quotes_or_nothing_says_what_to_use(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ends in _trade"):
        load_bars(data / "bars/lean/equity__usa__minute__aapl__20140605_quote.zip")
    with pytest.raises(ConfigError, match="no such file"):
        load_bars(tmp_path / "none.csv")


def test_minutes_when_the_bars_are_longer_is_refused(data: Path) -> None:
    with pytest.raises(ConfigError, match="one-minute"):
        load_bars(data / "bars/freqtrade/XRP_ETH-5m.feather").minutes()


def test_load_series_when_given_several_days_joins_them_by_ticker(data: Path) -> None:
    names = [f"equity__usa__minute__spy__2013100{d}_trade.zip" for d in (7, 4)]
    series = load_series([data / "bars/lean" / n for n in names])
    assert [s.ticker for s in series] == ["SPY"]
    starts = [b.start for b in series[0].bars]
    assert starts == sorted(set(starts))
