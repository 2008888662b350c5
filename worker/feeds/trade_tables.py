"""Trades from CSV tables: which columns they have, and what is wrong with a line. Raises ConfigError."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from shared.errors import ConfigError, shorten
from worker.core.trades import SECOND, Trade, micros
from worker.feeds.bars import TIMES, epoch_micros

_PRICES = ("price",)
_SIZES, _IDS = ("amount", "quantity", "qty", "size"), ("id", "trade_id", "agg_trade_id", "a")
DISORDER = 60 * SECOND
"""A table's times may fall back by less: venues write a few trades late."""


def _time(text: str) -> int:
    """Since 1970 in any unit, or as ISO 8601, in UTC where it does not say. Raises ValueError."""
    with suppress(ValueError):
        return epoch_micros(float(text))
    moment = datetime.fromisoformat(text)
    return micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _figure(text: str) -> float:
    """A price or a quantity. Raises ValueError where it can be none; zero is left to whoever counts what is dropped."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError("must be a positive number")
    return value


def row(symbol: str, time: float, price: object, size: object, side: object, number: object) -> Trade:
    at = epoch_micros(time)
    maker = None if side is None else side in ("sell", True)
    found = int(str(number)) if number not in (None, "") and str(number).isdigit() else None
    return Trade(symbol, float(str(price)), float(str(size)), maker, at, at, found)


def table_trades(lines: Iterable[bytes], head: Sequence[str], symbol: str, path: Path) -> Iterator[Trade] | None:
    """A CSV file's trades, or None where its columns are those of bars. Raises ConfigError for quotes."""
    if {"bid", "ask"} <= set(head):
        raise ConfigError(f"{path}: holds quotes, not trades")
    if head[0].isdigit() and len(head) in (6, 7, 8) and head[-1 if len(head) == 6 else -2] in ("true", "false"):
        time, maker = (5, 6) if len(head) == 8 else (4, 5)
        return _rows(lines, symbol, path, (time, 1, 2, maker, 0), skip=0)
    places = [next((head.index(n) for n in names if n in head), None) for names in (TIMES, _PRICES, _SIZES)]
    if None in places:
        return None
    side = next((head.index(n) for n in ("side", "is_buyer_maker", "isbuyermaker") if n in head), None)
    number = next((head.index(n) for n in _IDS if n in head), None)
    return _rows(lines, symbol, path, (*places, side, number), skip=1)


def _rows(lines: Iterable[bytes], symbol: str, path: Path, places: Sequence[int | None], skip: int) -> Iterator[Trade]:
    time, price, size, side, number = places
    makers = {"sell": True, "true": True, "buy": False, "false": False}
    wanted, before = max(place for place in places if place is not None) + 1, 0
    for count, row in enumerate(csv.reader(line.decode() for line in lines), 1):
        if count <= skip or not row:
            continue
        if len(row) < wanted:
            raise ConfigError(f"{path}: line {count}: has {len(row)} columns, {wanted} are needed (got {shorten(row)})")
        shown, at = row[time or 0], 0
        try:
            at = _time(shown)
            shown = row[price or 0]
            cost = _figure(shown)
            shown = row[size or 0]
            amount = _figure(shown)
        except (ValueError, OverflowError) as error:
            field = "a price or an amount" if at else "a time"
            raise ConfigError(
                f"{path}: line {count}: {shorten(shown)} is not {field} ({error}): correct the line or take it out"
            ) from error
        if at < before - DISORDER:
            raise ConfigError(
                f"{path}: line {count}: its time {row[time or 0]} is {(before - at) / SECOND:g} s before that of the "
                "line before: sort the file by time, the oldest first"
            )
        before = max(at, before)
        maker = None if side is None else makers.get(row[side].lower())
        found = int(row[number]) if number is not None and row[number].isdigit() else None
        yield Trade(symbol, cost, amount, maker, at, at, found)
