"""Every kind of recorded trades, and replay of them: the same at every speed."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.errors import ConfigError
from tests.contract.cases_feeds import Notes
from tests.market import CAPTURES, ETHUSDT, FUTURES, XRPETH, recorded
from tests.support import eventually
from worker.core.candles import Candle, CandleBuilder
from worker.core.features import feature_rows
from worker.core.trades import SECOND, Trade, micros
from worker.core.types import Bar
from worker.feeds.base import FeedState, FeedStats, TradeQueue
from worker.feeds.contracts import read_contracts
from worker.feeds.replay import ReplayFeed
from worker.feeds.trade_files import bar_trades, read_files, read_trades, symbol_of
from worker.venues.simulated.market import EPOCH, SeededMarket
from worker.venues.simulated.ticks import seeded_trades

FILES = {
    "trades/binance_spot_btcusdt_20240808_trades.raw.txt.gz": (9757, "BTCUSDT"),
    "trades/binance_usdm_btcusdt_20240808_trades.raw.txt.gz": (21313, "BTCUSDT"),
    "trades/binance_xrpeth_20191011_trades.json.gz": (12477, "XRPETH"),
    "trades/binance_futures_ethusdt_20230202_1000trades.csv": (1000, "ETHUSDT"),
    "ws_market/binance_usdm_btcusdt_20240808_mixed5000.raw.txt.gz": (732, "BTCUSDT"),
    "ws_market/cryptofeed/BINANCE.ws.txt.gz": (2, "NKNUSDT"),
    "ws_market/cryptofeed/BINANCE_FUTURES.ws.txt.gz": (91, "CTKUSDT"),
    "ws_market/cryptofeed/BITGET.ws2.txt.gz": (25, "UNIUSDT"),
    "ws_market/cryptofeed/BYBIT.ws26.txt.gz": (150, "BTCUSD"),
    "ws_market/cryptofeed/COINBASE.ws.first3000.txt.gz": (21, "SKL-BTC"),
    "ws_market/cryptofeed/HTX_HUOBI.ws.first120.txt.gz": (16, "TRIOETH"),
    "ws_market/cryptofeed/KRAKEN.ws49.txt.gz": (0, ""),
    "ws_market/cryptofeed/OKX.ws.txt.gz": (74, "BTC-USD-220527"),
    "misc/finnhub_ws_trades_20221229.jsonl": (9, "TSLA"),
    "bars/freqtrade/XRP_ETH-1m.feather": (9876, "XRPETH"),
    "bars/lean/equity__usa__minute__ibm__20131007_trade.zip": (1812, "IBM"),
}


@pytest.mark.parametrize("name", FILES)
def test_read_trades_when_the_file_is_real_gives_its_trades(data: Path, name: str) -> None:
    stats = FeedStats()
    trades = list(read_trades(data / name, stats=stats))
    assert (len(trades), next((t.symbol for t in trades), "")) == FILES[name]
    assert not stats.dropped or set(stats.dropped) == {"shape"}
    assert sum(stats.dropped.values()) <= 1


@pytest.mark.parametrize("name", CAPTURES)
def test_read_trades_when_compared_with_plain_json_and_csv_says_the_same(data: Path, name: str) -> None:
    assert list(read_trades(data / name)) == recorded(data, name)


def test_read_trades_when_from_binances_archive_needs_no_header(tmp_path: Path) -> None:
    """Spot files give microseconds since 2025, milliseconds before."""
    path = tmp_path / "BTCUSDC-trades-2025-01-02.csv"
    path.write_text("7,94000.5,0.25,23500.125,1735776000123456,True,True\n8,94001,1,94001,1735776000123,False,True\n")
    aggregates = tmp_path / "ETHUSDT-aggTrades-2024-01-02.csv"
    aggregates.write_text("9,2300,1.5,1,2,1704153600000,true,true\n")
    assert list(read_trades(path)) == [
        Trade("BTCUSDC", 94000.5, 0.25, True, 1735776000123456, 1735776000123456, 7),
        Trade("BTCUSDC", 94001.0, 1.0, False, 1735776000123000, 1735776000123000, 8),
    ]
    assert list(read_trades(aggregates, "X")) == [Trade("X", 2300.0, 1.5, True, 1704153600000000, 1704153600000000, 9)]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"timestamp,price,amount\n1700000000000,x,1\n", "line 2"),
        ("a.csv", b"timestamp,price,amount\n1700000000000\n", "line 2"),
        ("a.csv", b"timestamp,bid,ask\n1,2,3\n", "quotes, not trades"),
        ("a.csv", b"\xff\xfe\x00", "cannot be read"),
        ("a.json", b"[[1,2,3", "cannot be read"),
        ("a.json.gz", b"not gzip", "cannot be read"),
        ("a.feather", b"not feather", "cannot be read"),
        ("a.txt.gz", gzip.compress(b"1700000000000000000 {}\n", mtime=0)[:-6], "cannot be read"),
    ],
)
def test_read_trades_when_the_file_is_broken_says_where(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=told):
        list(read_trades(path))


def test_read_trades_when_it_holds_quotes_days_or_nothing_is_a_config_error(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="quotes, not trades"):
        list(read_trades(data / "trades/nautilus_truefx_usdjpy-ticks.csv"))
    with pytest.raises(ConfigError, match="too coarse"):
        list(read_trades(data / "bars/backtestingpy_GOOG_daily.csv"))
    with pytest.raises(ConfigError, match="no such file"):
        list(read_trades(tmp_path / "none.csv"))


def test_read_trades_when_a_captures_lines_make_no_sense_counts_them(tmp_path: Path) -> None:
    good = b'{"e":"trade","s":"B","t":1,"p":"1","q":"1","T":1723161255088,"m":true}'
    lines = [b"1723161255000000000 " + frame for frame in (good, b"{}", b'{"e":"trade"}', b"[1", b"{nonsense")]
    path = tmp_path / "capture.txt"
    path.write_bytes(b"\n".join([*lines, b"", b"what is this", b"1723161255.000001: <html>"]))
    stats = FeedStats()
    assert [t.received_at for t in read_trades(path, stats=stats)] == [1723161255000000]
    assert sum(stats.dropped.values()) >= 3


def test_read_files_when_there_are_several_joins_them_by_time(data: Path) -> None:
    trades = list(read_files([data / ETHUSDT, data / XRPETH]))
    assert len(trades) == 13_477
    assert [t.received_at for t in trades] == sorted(t.received_at for t in trades)


def test_symbol_of_when_the_name_tells_a_pair_finds_it() -> None:
    names = ("binance_xrpeth_20191011.json.gz", "BTCUSDC-trades-2025-01-02.csv", "XRP_ETH-trades.feather", "odd.csv")
    assert [symbol_of(Path(n)) for n in names] == ["XRPETH", "BTCUSDC", "XRPETH", "ODD"]


def test_bar_trades_when_joined_again_give_the_bar() -> None:
    bar = Bar(datetime(2024, 1, 2, tzinfo=UTC), 10.0, 12.0, 9.0, 11.0, 8.0)
    trades = list(bar_trades([bar, Bar(bar.start + timedelta(minutes=1), 1, 1, 1, 1, 0.0)], "X"))
    assert [t.price for t in trades] == [10.0, 9.0, 12.0, 11.0]
    assert sum(t.quantity for t in trades) == 8.0
    assert {t.venue_time // (60 * SECOND) for t in trades} == {micros(bar.start) // (60 * SECOND)}
    assert all(t.is_buyer_maker is None for t in trades)


def test_bar_trades_when_the_close_is_another_come_in_the_same_order() -> None:
    """An order that followed the close would tell it before the bar is over, and a model would learn that."""
    start = datetime(2024, 1, 2, tzinfo=UTC)
    up, down = (list(bar_trades([Bar(start, 10.0, 12.0, 9.0, close, 8.0)], "X")) for close in (11.9, 9.1))
    assert up[:3] == down[:3]
    near = list(bar_trades([Bar(start, 10.0, 10.5, 9.0, 10.2, 8.0)], "X"))
    assert [t.price for t in near] == [10.0, 10.5, 9.0, 10.2]


HEAD = "timestamp,price,amount,side\n1700000000000,100,1,buy\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"{HEAD}1700000001000,nan,1,buy\n", "line 3: 'nan' is not a price or an amount"),
        (f"{HEAD}1700000001000,100,inf,buy\n", "line 3: 'inf' is not a price or an amount"),
        (f"{HEAD}1700000001000,-5,1,buy\n", "line 3: '-5' is not a price or an amount"),
        (f"{HEAD}soon,100,1,buy\n", "line 3: 'soon' is not a time"),
        (f"{HEAD}1700000001000\n", "line 3: has 1 columns, 4 are needed"),
        (f"{HEAD}1600000000000,100,1,buy\n", "line 3: its time 1600000000000 is .* sort the file by time"),
        ("<!doctype html>\n<html></html>\n", "line 1 is a web page"),
        ("timestamp;price;amount\n1;2;3\n", "line 1 has its columns separated by ';'"),
        ("foo,bar\n1,2\n", "line 1 names no column close, .*got 'foo,bar'"),
        ("timestamp,open,high,low,close,volume\n1700000000000,1,2,1,nan,5\n", "bar 1 at .* has no sane prices"),
    ],
)
def test_table_when_it_is_wrong_is_refused_by_line_and_value(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "trades.csv"
    file.write_text(text)
    with pytest.raises(ConfigError, match=f"trades.csv: {told}"):
        list(read_trades(file, "BTCUSDT"))


def test_table_when_written_elsewhere_is_read(tmp_path: Path) -> None:
    """A byte order mark, CRLF, dates as text; bars with times in milliseconds, under the symbol that was asked for."""
    file = tmp_path / "trades.csv"
    file.write_bytes(b"\xef\xbb\xbfdate,price,amount\r\n2023-11-14 22:13:20,100,1\r\n2023-11-14T22:13:21Z,101,1\r\n")
    assert [t.venue_time for t in read_trades(file, "X")] == [1_700_000_000 * SECOND, 1_700_000_001 * SECOND]
    bars, stats = tmp_path / "bars.csv", FeedStats()
    bars.write_text("timestamp,open,high,low,close,volume\n" + "1700000000000,1,2,1,2,5\n")
    assert {t.symbol for t in read_trades(bars, "BTCUSDT", stats)} == {"BTCUSDT"}
    assert stats.made_up == 4


class Candles(Notes):
    """A bot's beginning: candles of what comes."""

    def __init__(self) -> None:
        super().__init__()
        self.builder, self.candles = CandleBuilder("X"), list[Candle]()

    def on_trade(self, trade: Trade) -> None:
        self.candles += self.builder.on_trade(trade)


def test_replay_when_at_any_speed_gives_the_same_candles(data: Path) -> None:
    found = []
    for speed in (None, 3000.0):
        feed, sink = ReplayFeed.from_files([data / FUTURES], speed=speed), Candles()
        feed.start(sink)
        assert feed.wait(60)
        assert (feed.state, feed.symbols, sink.events) == (FeedState.CLOSED, ("BTCUSDT",), ["live", "gap"])
        assert feed.stats.trades == 21_313
        found.append(sink.candles)
        feed.close()
    assert found[0] == found[1]
    assert len(list(feature_rows(found[0]))) == len(found[0]) - 59


def test_replay_when_closed_on_the_way_ends(data: Path) -> None:
    feed, notes = ReplayFeed.from_files([data / FUTURES], speed=1.0), Notes()
    feed.start(notes)
    eventually(lambda: notes.trades, what="it has begun")
    first = notes.trades[0].received_at
    eventually(lambda: feed.now() > first, what="its clock runs")
    feed.close()
    assert len(notes.trades) < 21_313


def test_replay_when_the_file_is_broken_says_so(tmp_path: Path) -> None:
    feed = ReplayFeed.from_files([tmp_path / "none.csv"])
    with pytest.raises(ConfigError, match="no such file"):
        feed.run(Notes())
    feed = ReplayFeed.from_files([tmp_path / "none.csv"])
    feed.start(Notes())
    assert feed.wait(30)
    eventually(lambda: "no such file" in str(feed.stats.last_error), what="the error stands in the stats")


def test_replay_when_symbols_are_named_gives_only_those() -> None:
    market, start = SeededMarket(6, ["A", "B"]), EPOCH + timedelta(days=40)
    feed = ReplayFeed(seeded_trades(market, ["A", "B"], start, start + timedelta(seconds=2)), ["B"])
    assert {t.symbol for t in feed.trades()} == {"B"}
    assert feed.stats.ignored == 8


def test_seeded_trades_when_asked_twice_are_the_same_and_stay_in_their_minutes_bar() -> None:
    start = EPOCH + timedelta(days=300, milliseconds=10)
    end = start + timedelta(minutes=2)
    first, second = (list(seeded_trades(SeededMarket(6, ["A", "B"]), ["A", "B"], start, end)) for _ in range(2))
    assert first == second
    assert len(first) == 2 * 120 * 4
    market = SeededMarket(6, ["A"])
    for trade in first:
        if trade.symbol == "A":
            bar = market.bar("A", (trade.venue_time - micros(EPOCH)) // (60 * SECOND))
            assert bar.low <= trade.price <= bar.high
    sides = {t.is_buyer_maker for t in first}
    assert sides == {True, False}


def trade(number: int) -> Trade:
    return Trade("X", 1.0, 1.0, None, number, number, number)


def test_queue_when_full_drops_counts_and_tells_a_gap() -> None:
    """A candle without the dropped trades would be wrong without anybody knowing."""
    queue, notes = TradeQueue(limit=10), Notes()
    for n in range(15):
        queue.on_trade(trade(n))
    assert (len(queue), queue.dropped, queue.wait(0)) == (11, 5, True)
    assert queue.drain(notes, limit=6) == 6
    queue.on_trade(trade(15))
    queue.drain(notes)
    queue.on_trade(trade(16))
    queue.drain(notes)
    assert notes.events == [*["trade"] * 10, "gap", "live", "trade", "trade"]
    assert [t.received_at for t in notes.trades][-2:] == [15, 16]
    assert not queue.wait(0)


def test_queue_when_a_feed_tells_gaps_keeps_their_place() -> None:
    queue, notes = TradeQueue(), Notes()
    queue.on_live(1)
    queue.on_trade(trade(2))
    queue.on_gap(3, "away")
    queue.on_live(4)
    assert queue.drain(notes) == 4
    assert (notes.events, notes.reasons) == (["live", "trade", "gap", "live"], ["away"])


@pytest.mark.parametrize(
    ("text", "told"),
    [("X", "'X'"), ("=1", "'=1'"), ("X=0", "'X=0'"), ("X=-1", "'X=-1'"), ("X=nan", "'X=nan'"), ("X=1/size", "1/size")],
)
def test_contracts_when_they_make_no_sense_are_refused(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=f"CONTRACT_SIZES: .*{told}"):
        read_contracts([text])


def test_read_trades_when_a_derivative_counts_contracts_gives_base_units(data: Path) -> None:
    """OKX's swaps on coins are of 10 or 100 USD, so that a contract is less of the coin the higher the price."""
    path = data / "ws_market/cryptofeed/OKX.ws.txt.gz"
    plain = list(read_trades(path))
    contracts = read_contracts(["UNI-USD-SWAP=10/price", " BTC-USDT-SWAP=0.01"])
    for told, trade in zip(plain, read_trades(path, contracts=contracts), strict=True):
        wanted = told.quantity * 10 / told.price if told.symbol == "UNI-USD-SWAP" else told.quantity
        assert trade.quantity == pytest.approx(wanted)
        assert (trade.price, trade.trade_id, trade.venue_time) == (told.price, told.trade_id, told.venue_time)
    (linear,) = read_contracts(["BTC-USDT-SWAP=0.01"]).values()
    assert linear.base_units(5, 60_000.0) == 0.05


def test_read_trades_when_a_capture_holds_both_of_binances_streams_counts_one(tmp_path: Path) -> None:
    """An aggregate trade tells single trades once more, under ids of its own."""
    lines = []
    for n in range(3):
        common = {"s": "X", "p": "5", "q": "2", "T": 1723161255000 + n, "m": True}
        for kind, number in (("aggTrade", {"a": 10 + n}), ("trade", {"t": 900 + n})):
            frame = {"stream": f"x@{kind}", "data": {"e": kind, **common, **number}}
            lines.append(f"1723161255000000{n:03d} {json.dumps(frame)}\n")
    path = tmp_path / "both.txt"
    path.write_text("".join(lines))
    stats = FeedStats()
    assert [t.trade_id for t in read_trades(path, stats=stats)] == [10, 11, 12]
    assert (stats.ignored, stats.duplicates) == (3, 0)
