"""Recorded files as the candles that the live bot would have made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from shared.errors import ConfigError
from worker.core.candles import Candle, CandleBuilder
from worker.feeds.base import FeedStats
from worker.feeds.contracts import Contracts
from worker.feeds.trade_files import made_up_warning, read_trades


def recorded_candles(
    paths: Sequence[Path],
    symbol: str,
    each: Callable[[int], None] = lambda files: None,
    contracts: Contracts | None = None,
    warn: Callable[[str], None] = lambda words: None,
) -> Iterator[list[Candle]]:
    """One sequence of candles per file, since nobody knows what was between two. ``each`` hears how many are read,
    ``warn`` of files whose seconds are made up.

    Files that say what symbols they hold give those of ``symbol`` only. Raises ConfigError where a file cannot be read
    or holds none of it.
    """
    for number, path in enumerate(paths):
        others: set[str] = set()
        stats = FeedStats()
        candles = list(_candles(path, symbol, others, stats, contracts))
        if stats.made_up:
            warn(made_up_warning(path))
        if not candles:
            held = f", but of {', '.join(sorted(others)[:5])}" if others else ""
            raise ConfigError(f"{path}: holds no two trades of {symbol} a second apart{held}")
        yield candles
        each(number + 1)


def _candles(
    path: Path, symbol: str, others: set[str], stats: FeedStats, contracts: Contracts | None
) -> Iterator[Candle]:
    builder = CandleBuilder(symbol)
    for trade in read_trades(path, symbol, stats, contracts):
        if trade.symbol == symbol:
            yield from builder.on_trade(trade)
        else:
            others.add(trade.symbol)
