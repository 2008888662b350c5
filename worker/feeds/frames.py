"""Trades in other venues' recorded websocket frames: Bybit, OKX, Bitget, Coinbase, Kraken, HTX.

They are for replay only, so plain JSON does. Quantities are as the venue writes them: base units on spot, contracts on
derivatives (``feeds.contracts`` makes base units of them). What is a snapshot of the past is left out; a frame without
trades gives none.
"""

from __future__ import annotations

import ast
import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from shared.clock import parse_rfc3339
from worker.core.trades import Trade, micros

Frame = Mapping[str, Any]


def frame_trades(frame: bytes, received_at: int) -> list[Trade]:
    """The trades of one frame, oldest first. Raises ValueError, KeyError, TypeError or OSError where it is none."""
    found = json.loads(_unpacked(frame))
    if isinstance(found, list):
        return list(_kraken(found, received_at))
    if not isinstance(found, dict):
        raise TypeError(f"a frame of {type(found).__name__}")
    trades = [trade for decode in _DECODERS for trade in decode(found, received_at)]
    return sorted(trades, key=lambda t: t.venue_time)


def _unpacked(frame: bytes) -> bytes:
    """HTX packs its frames; recordings hold them as Python writes bytes."""
    if frame.startswith((b"b'", b'b"')):
        frame = ast.literal_eval(frame.decode())
    return gzip.decompress(frame) if frame[:2] == b"\x1f\x8b" else frame


def _bybit(frame: Frame, at: int) -> Iterator[Trade]:
    if str(frame.get("topic", "")).startswith("trade."):
        for t in frame["data"]:
            yield Trade(
                t["symbol"],
                float(t["price"]),
                float(t["size"]),
                t["side"] == "Sell",
                int(t["trade_time_ms"]) * 1000,
                at,
            )


def _okx_and_bitget(frame: Frame, at: int) -> Iterator[Trade]:
    argument = frame.get("arg")
    if not isinstance(argument, dict) or "data" not in frame:
        return
    if argument.get("channel") == "trades":
        for t in frame["data"]:
            price, quantity = float(t["px"]), float(t["sz"])
            yield Trade(t["instId"], price, quantity, t["side"] == "sell", int(t["ts"]) * 1000, at, int(t["tradeId"]))
    elif argument.get("channel") == "trade" and frame.get("action") == "update":
        for time, price, size, side in frame["data"]:
            yield Trade(argument["instId"], float(price), float(size), side == "sell", int(time) * 1000, at)


def _coinbase(frame: Frame, at: int) -> Iterator[Trade]:
    """Its side is the maker's."""
    if frame.get("type") == "match":
        price, quantity, maker = float(frame["price"]), float(frame["size"]), frame["side"] == "buy"
        time = micros(parse_rfc3339(frame["time"]))
        yield Trade(frame["product_id"], price, quantity, maker, time, at, int(frame["trade_id"]))


def _htx(frame: Frame, at: int) -> Iterator[Trade]:
    words = str(frame.get("ch", "")).split(".")
    if len(words) == 4 and words[2:] == ["trade", "detail"]:
        for t in frame["tick"]["data"]:
            price, quantity = float(t["price"]), float(t["amount"])
            yield Trade(
                words[1].upper(), price, quantity, t["direction"] == "sell", int(t["ts"]) * 1000, at, int(t["tradeId"])
            )


def _finnhub(frame: Frame, at: int) -> Iterator[Trade]:
    if frame.get("type") == "trade" or ("data" in frame and "type" not in frame and "arg" not in frame):
        rows = frame["data"]
        for t in rows if isinstance(rows, list) else ():
            if isinstance(t, dict) and t.keys() >= {"s", "p", "v", "t"}:
                yield Trade(t["s"], float(t["p"]), float(t["v"]), None, int(t["t"]) * 1000, at)


def _kraken(frame: list[Any], at: int) -> Iterator[Trade]:
    if len(frame) == 4 and frame[2] == "trade":
        for price, volume, time, side, *_ in frame[1]:
            yield Trade(frame[3], float(price), float(volume), side == "s", round(float(time) * 1e6), at)


_DECODERS: tuple[Callable[[Frame, int], Iterator[Trade]], ...] = (_bybit, _okx_and_bitget, _coinbase, _htx, _finnhub)
