"""Recorded trades from files, as one stream of ``Trade``.

Captures of websocket frames (a receive time, then the frame, a line each; plain or gzip), trades of freqtrade (JSON,
Feather, Parquet), of ccxt (CSV with a header), of Binance's public archive (CSV without one), and bar files of every
kind in ``feeds.bars``, each bar as four trades. A file that cannot be read is a ConfigError that names it; a line of a
capture that makes no sense is counted and left out.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from io import BufferedReader
from itertools import chain, pairwise
from pathlib import Path

from shared.errors import ConfigError
from worker.core.trades import SECOND, Trade, micros
from worker.core.types import Bar
from worker.feeds.bars import epoch_micros, load_bars, refuse_foreign
from worker.feeds.base import FeedStats, fault_of
from worker.feeds.binance_wire import BinanceDecoder
from worker.feeds.contracts import Contracts, in_base_units
from worker.feeds.frames import frame_trades
from worker.feeds.trade_tables import row, table_trades

_STAMPED = re.compile(rb"(\d{9,20})(?:\.(\d+))?(?::? )(?=[\[{<b])")
_CONVERSATION = re.compile(rb"wss?://\S+ ?(<|$)|wss?://")
_QUOTES = "USDT|USDC|FDUSD|BUSD|USD|EUR|BTC|ETH|BNB"
_PAIR = re.compile(rf"[A-Z0-9]{{2,12}}(?:{_QUOTES})$")
_UNREADABLE = (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, OverflowError, RecursionError)
COARSEST_BAR = 300
TRADES_A_BAR = 4
_MAX_BYTES = 512 * 1024 * 1024


def read_trades(
    path: Path, symbol: str | None = None, stats: FeedStats | None = None, contracts: Contracts | None = None
) -> Iterator[Trade]:
    """The trades of one file, in its order, quantities of ``contracts`` turned into base units.

    ``symbol`` names what files without symbols hold. Raises ConfigError.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file")
    counts = stats or FeedStats()
    try:
        for told in _read(path, symbol, counts):
            trade = in_base_units(told, contracts) if contracts and told.price > 0 else told
            fault = fault_of(trade)
            if fault is None:
                yield trade
            else:
                counts.dropped[fault] += 1
    except ConfigError:
        raise
    except (*_UNREADABLE, zlib.error, csv.Error) as error:
        raise ConfigError(f"{path}: cannot be read as trades: {error}") from error


def read_files(
    paths: Sequence[Path],
    symbol: str | None = None,
    stats: FeedStats | None = None,
    contracts: Contracts | None = None,
) -> Iterator[Trade]:
    """Several files as one stream, by the time of receiving. Raises ConfigError."""
    return merge(*(read_trades(p, symbol, stats, contracts) for p in paths), key=lambda t: t.received_at)


def made_up_warning(path: Path) -> str:
    """What to tell whoever takes bars for trades."""
    return (
        f"{path.name} holds bars, no trades: where in its bar a price was, and who took, is made up. A model, or a bot "
        "that decides within bars, learns and earns there what no market gave; recorded trades tell what one is worth"
    )


def symbol_of(path: Path) -> str:
    """The pair that a file's name tells of: ``binance_xrpeth_20191011_trades.json.gz`` is ``XRPETH``."""
    words = re.split(r"[-_.\s]+", path.name.upper())
    joined = [a + b for a, b in pairwise(words)]
    return next((w for w in (*words, *joined) if _PAIR.fullmatch(w)), words[0])


def bar_trades(bars: Iterable[Bar], symbol: str, seconds: float = 60.0) -> Iterator[Trade]:
    """Bars as trades: open, the nearer of low and high to it, the other, close, each a quarter of the volume.

    Nobody knows who took, nor when in the bar; the order does not depend on the close, which would tell it ahead of
    time. That the second or third trade is the lowest or highest of its bar is told by no trade, but a model can learn
    it: what is learned or earned within bars is made up. A bar without volume gives none.
    """
    step = int(seconds * SECOND)
    for bar in bars:
        if bar.volume <= 0:
            continue
        start = micros(bar.start)
        middle = (bar.low, bar.high) if bar.open - bar.low <= bar.high - bar.open else (bar.high, bar.low)
        times = (start, start + step // 3, start + 2 * step // 3, start + step - 1)
        for time, price in zip(times, (bar.open, *middle, bar.close), strict=True):
            yield Trade(symbol, price, bar.volume / 4, None, time, time)


def _read(path: Path, given: str | None, stats: FeedStats) -> Iterator[Trade]:
    name, symbol = path.name.lower().removesuffix(".gz"), given or symbol_of(path)
    if name.endswith((".feather", ".parquet")):
        yield from _columns(path, given, stats)
        return
    if name.endswith(".zip"):
        yield from _bars(path, None, stats)
        return
    with _opened(path) as file:
        first = file.readline(1 << 20)
        if _STAMPED.match(first) or _CONVERSATION.match(first):
            yield from _capture(chain([first], file), stats)
            return
        if name.endswith((".json", ".jsonl")) and first.lstrip().startswith(b"{"):
            yield from _frames_alone(chain([first], file), stats)
            return
        if first.lstrip().startswith(b"["):
            rows = json.loads(first + file.read(_MAX_BYTES))
            if rows and len(rows[0]) >= 7 and rows[0][3] in ("buy", "sell"):
                for time, number, _, side, price, amount, *_ in rows:
                    yield row(symbol, time, price, amount, side, number)
                return
        else:
            line = first.decode("utf-8-sig").strip()
            refuse_foreign(line, path)
            head = line.lower().split(",")
            found = table_trades(chain([first], file), head, symbol, path)
            if found is not None:
                yield from found
                return
    yield from _bars(path, given, stats)


def _opened(path: Path) -> gzip.GzipFile | BufferedReader:
    return gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb")


def _bars(path: Path, symbol: str | None, stats: FeedStats) -> Iterator[Trade]:
    series = load_bars(path)
    if series.step_seconds > COARSEST_BAR:
        raise ConfigError(
            f"{path}: bars of {series.step_seconds:g} s are too coarse for seconds; use those of a minute"
        )
    for trade in bar_trades(series.bars, symbol or series.ticker, series.step_seconds):
        stats.made_up += 1
        yield trade


# -- captured frames --------------------------------------------------------------------------------------------------


def _capture(lines: Iterable[bytes], stats: FeedStats) -> Iterator[Trade]:
    """Lines of a receive time (nanoseconds, or seconds with a fraction) and a frame."""
    decoder = BinanceDecoder(stats)
    for line in lines:
        stamp = _STAMPED.match(line)
        if stamp is None:
            stats.ignored += 1  # what the recorder wrote for itself, or asked for
            continue
        whole, fraction = stamp.groups()
        received = epoch_micros(int(whole)) + (int(fraction[:6].ljust(6, b"0")) if fraction else 0)
        yield from _frame(line[stamp.end() :].rstrip(), received, decoder, stats)


def _frame(frame: bytes, received: int, decoder: BinanceDecoder, stats: FeedStats) -> Iterable[Trade]:
    if frame.startswith(b"{") and (b'"e":"' in frame or b"@" in frame[:80]):
        trade = decoder.decode(frame, received)
        return () if trade is None else (trade,)
    try:
        found = frame_trades(frame, received)
    except (ValueError, KeyError, TypeError, OSError, EOFError, AttributeError, SyntaxError, zlib.error):
        stats.dropped["shape"] += 1
        return ()
    stats.ignored += not found
    return found


def _frames_alone(lines: Iterable[bytes], stats: FeedStats) -> Iterator[Trade]:
    """Frames without a receive time: the venue's stands in for it."""
    decoder = BinanceDecoder(stats)
    for line in lines:
        for t in _frame(line.strip(), 0, decoder, stats):
            yield Trade(t.symbol, t.price, t.quantity, t.is_buyer_maker, t.venue_time, t.venue_time, t.trade_id)


# -- columns ----------------------------------------------------------------------------------------------------------


def _columns(path: Path, given: str | None, stats: FeedStats) -> Iterator[Trade]:
    """Feather and Parquet: trades where there are prices and amounts, else bars."""
    try:
        from pyarrow import feather, parquet
    except ImportError:
        raise ConfigError(f"{path}: needs pyarrow: pip install pyarrow") from None
    name = path.name.lower()
    table = feather.read_table(path) if name.endswith(".feather") else parquet.read_table(path)
    if not {"timestamp", "price", "amount"} <= set(table.column_names):
        yield from _bars(path, given, stats)
        return
    columns, symbol = table.to_pydict(), given or symbol_of(path)
    nothing = [None] * table.num_rows
    sides, ids = columns.get("side", nothing), columns.get("id", nothing)
    for found in zip(columns["timestamp"], columns["price"], columns["amount"], sides, ids, strict=True):
        yield row(symbol, *found)
