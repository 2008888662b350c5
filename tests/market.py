"""Recorded trades for tests, read by plain json and csv: independent of the readers under test."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from worker.core.candles import Candle, CandleBuilder
from worker.core.trades import Trade

SPOT = "trades/binance_spot_btcusdt_20240808_trades.raw.txt.gz"
FUTURES = "trades/binance_usdm_btcusdt_20240808_trades.raw.txt.gz"
XRPETH = "trades/binance_xrpeth_20191011_trades.json.gz"
ETHUSDT = "trades/binance_futures_ethusdt_20230202_1000trades.csv"
CAPTURES = (SPOT, FUTURES, XRPETH, ETHUSDT)


def frames(path: Path) -> Iterator[tuple[int, bytes]]:
    """Receive time in microseconds and the frame, of a capture with nanoseconds before each."""
    with gzip.open(path) as file:
        for line in file:
            stamp, _, frame = line.rstrip().partition(b" ")
            yield int(stamp) // 1000, frame


def recorded(data: Path, name: str) -> list[Trade]:
    """All trades of one of ``CAPTURES``."""
    path = data / name
    if name in (SPOT, FUTURES):
        found = []
        for received, frame in frames(path):
            row = json.loads(frame)["data"]
            if row.get("X", "MARKET") == "MARKET":
                price, quantity = float(row["p"]), float(row["q"])
                found.append(Trade(row["s"], price, quantity, row["m"], row["T"] * 1000, received, row["t"]))
        return found
    if name == XRPETH:
        rows = json.loads(gzip.decompress(path.read_bytes()))
        return [Trade("XRPETH", p, q, side == "sell", t * 1000, t * 1000, int(n)) for t, n, _, side, p, q, _ in rows]
    with path.open() as file:
        return [
            Trade(
                "ETHUSDT",
                float(row["price"]),
                float(row["amount"]),
                row["side"] == "sell",
                int(row["timestamp"]) * 1000,
                int(row["timestamp"]) * 1000,
                int(row["id"]),
            )
            for row in csv.DictReader(file)
        ]


def built(trades: Iterable[Trade], builder: CandleBuilder) -> list[Candle]:
    """Every candle that these trades complete."""
    return [candle for trade in trades for candle in builder.on_trade(trade)]
