"""A slow source must not hold up whoever asks: it is read in a thread of its own, and each minute's bars once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime

from shared.errors import VenueUnavailable
from worker.core.types import Bar, LastPrice
from worker.market.base import MarketData

Key = tuple[tuple[str, ...], int, int]


class _Reading:
    """One reading of the source, under way or done."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.done = threading.Event()
        self.bars: dict[str, list[Bar]] = {}
        self.problem = ""


class BoundedData:
    """``inner``, waited for at most ``wait_seconds``; a reading that comes later serves the next question."""

    def __init__(self, inner: MarketData, wait_seconds: float) -> None:
        self._inner, self._wait = inner, wait_seconds
        self._reading: _Reading | None = None

    @property
    def name(self) -> str:
        return self._inner.name

    def last_price(self, ticker: str) -> LastPrice:
        return self._inner.last_price(ticker)

    def bars(self, tickers: Sequence[str], count: int, until: datetime) -> dict[str, list[Bar]]:
        key = (tuple(tickers), count, int(until.timestamp()) // 60)
        reading = self._reading
        if reading is None or (reading.done.is_set() and (reading.key != key or reading.problem)):
            reading = self._reading = _Reading(key)
            threading.Thread(target=self._read, args=(reading, until), name=self.name, daemon=True).start()
        if not reading.done.wait(self._wait) or (reading.key != key and not reading.problem):
            raise VenueUnavailable(f"{self.name}: no answer within {self._wait:g} s")
        if reading.problem:
            raise VenueUnavailable(reading.problem)
        return {ticker: list(reading.bars.get(ticker, [])) for ticker in tickers}

    def _read(self, reading: _Reading, until: datetime) -> None:
        tickers, count, _ = reading.key
        try:
            reading.bars = self._inner.bars(tickers, count, until)
        except VenueUnavailable as error:
            reading.problem = str(error)
        except Exception as error:  # a library's own error in a thread of ours: told to whoever asked
            reading.problem = f"{self.name}: {type(error).__name__}: {error}"[:200]
        finally:
            reading.done.set()
