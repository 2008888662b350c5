"""Recorded trades made up for tests of training: a market whose drift turns now and then."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path

FIRST_MS = 1_700_000_000_000


def drifting_prices(seconds: int, seed: int = 6) -> Iterator[float]:
    """One price a second; what the last half minute says of the next is real."""
    dice, price, drift = random.Random(seed), 100.0, 0.0002
    for _ in range(seconds):
        if dice.random() < 1 / 60:
            drift = -drift
        price *= math.exp(drift + dice.gauss(0, 0.0002))
        yield price


def write_bars(path: Path, minutes: int, seed: int = 6) -> Path:
    """A CSV of minute bars of the same market."""
    prices, rows = list(drifting_prices(minutes * 60, seed)), []
    for minute in range(minutes):
        inside = prices[minute * 60 : minute * 60 + 60]
        figures = (inside[0], max(inside), min(inside), inside[-1])
        rows.append(f"{FIRST_MS // 60_000 * 60_000 + minute * 60_000},{','.join(map(repr, figures))},10.0")
    path.write_text("timestamp,open,high,low,close,volume\n" + "\n".join(rows) + "\n")
    return path


def write_trades(path: Path, seconds: int, seed: int = 6) -> Path:
    """A CSV of one trade a second, as ccxt's users keep them."""
    rows = [
        f"{FIRST_MS + second * 1000},{second + 1},{'buy' if second % 2 else 'sell'},{price!r},1.0"
        for second, price in enumerate(drifting_prices(seconds, seed))
    ]
    path.write_text("timestamp,id,side,price,amount\n" + "\n".join(rows) + "\n")
    return path
