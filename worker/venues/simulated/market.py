"""The seeded market: the same seed, ticker and minute always have the same bar, however and whenever it is asked.

Log price runs through nodes every four hours, at another minute for each ticker; from node to node it moves by a drift
of +2.4 % or −2.4 % (0.6 % an hour, so that an honest model of the last hour's returns sees it) plus a Brownian bridge
of 0.04 % a minute. Drifts lean back towards the start price as it is left.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from worker.core.types import Bar, Instrument, LastPrice

EPOCH = datetime(2025, 1, 1, tzinfo=UTC)
REGIME_MINUTES = 240
REGIME_DRIFT = 0.024
MINUTE_VOLATILITY = 0.0004
TICK_MS = 250
_CACHED_REGIMES = 64
CENT = Decimal("0.01")
PAIR_LOT = Decimal("0.0001")
"""The lot of a pair such as ``BTC/USD``; everything else trades by the share."""


class SeededMarket:
    """Prices of a fixed set of tickers, open day and night."""

    def __init__(self, seed: int, tickers: Sequence[str]) -> None:
        self._seed, self.tickers = seed, frozenset(tickers)
        self._nodes: dict[str, list[float]] = {}
        self._paths: dict[tuple[str, int], list[float]] = {}
        self._offsets: dict[str, int] = {}

    def instrument(self, ticker: str) -> Instrument | None:
        if ticker not in self.tickers:
            return None
        lot = PAIR_LOT if "/" in ticker else Decimal(1)
        return Instrument(ticker, lot, protective_pair=True)

    def bars(self, ticker: str, count: int, until: datetime) -> list[Bar]:
        """The last ``count`` bars that are complete at ``until``, oldest first; none before the market's first day."""
        end = int((until - EPOCH).total_seconds() // 60)
        return [self.bar(ticker, minute) for minute in range(max(end - count, 1), end)]

    def bar(self, ticker: str, minute: int) -> Bar:
        """The bar of one minute since ``EPOCH``. Raises KeyError for a ticker that is not traded."""
        opened, closed = self._close(ticker, minute - 1), self._close(ticker, minute)
        dice = random.Random(f"{self._seed}:{ticker}:{minute}")  # noqa: S311 - a market, not a secret
        reach = opened * MINUTE_VOLATILITY * 0.5
        high = max(opened, closed) + dice.random() * reach
        low = min(opened, closed) - dice.random() * reach
        return Bar(
            EPOCH + timedelta(minutes=minute),
            round(opened, 2),
            round(high, 2),
            round(low, 2),
            round(closed, 2),
            float(round(dice.lognormvariate(7.0, 0.5))),
        )

    def last(self, ticker: str, now: datetime) -> LastPrice:
        """The last trade: a new one every 250 ms, inside its minute's bar."""
        since = now - EPOCH
        slot = int(since / timedelta(milliseconds=TICK_MS))
        minute, within = divmod(slot, 60_000 // TICK_MS)
        bar = self.bar(ticker, minute)
        dice = random.Random(f"{self._seed}:{ticker}:tick:{slot}")  # noqa: S311 - a market, not a secret
        share = (within + 1) / (60_000 // TICK_MS)
        price = (
            bar.open + (bar.close - bar.open) * share + (dice.random() - 0.5) * (bar.high - bar.low) * 0.2 * (1 - share)
        )
        price = min(max(price, bar.low), bar.high)
        at = EPOCH + slot * timedelta(milliseconds=TICK_MS)
        return LastPrice(Decimal(repr(round(price, 2))).quantize(CENT), at)

    def _close(self, ticker: str, minute: int) -> float:
        if ticker not in self.tickers:
            raise KeyError(ticker)
        regime, within = divmod(minute + self._offset(ticker), REGIME_MINUTES)
        return self._path(ticker, regime)[within]

    def _path(self, ticker: str, regime: int) -> list[float]:
        found = self._paths.get((ticker, regime))
        if found is not None:
            return found
        start, end = self._node(ticker, regime), self._node(ticker, regime + 1)
        dice = random.Random(f"{self._seed}:{ticker}:path:{regime}")  # noqa: S311 - a market, not a secret
        walk, total = [], 0.0
        for _ in range(REGIME_MINUTES):
            total += dice.gauss(0.0, MINUTE_VOLATILITY)
            walk.append(total)
        base = self._base(ticker)
        path = [
            base * math.exp(start + (end - start) * share + step - total * share)
            for step, share in ((walk[n], (n + 1) / REGIME_MINUTES) for n in range(REGIME_MINUTES))
        ]
        if len(self._paths) >= _CACHED_REGIMES * len(self.tickers):
            self._paths.pop(next(iter(self._paths)))
        self._paths[ticker, regime] = path
        return path

    def _node(self, ticker: str, regime: int) -> float:
        nodes = self._nodes.setdefault(ticker, [0.0])
        while len(nodes) <= regime:
            level = nodes[-1]
            dice = random.Random(f"{self._seed}:{ticker}:drift:{len(nodes)}")  # noqa: S311 - a market, not a secret
            lean = math.tanh(level / 0.1)
            roll = dice.random() * 2 - 1 - lean * 0.6
            nodes.append(level + (REGIME_DRIFT if roll > 0 else -REGIME_DRIFT))
        return nodes[regime]

    def _offset(self, ticker: str) -> int:
        """So that not every ticker turns at the same minute."""
        found = self._offsets.get(ticker)
        if found is None:
            dice = random.Random(f"{self._seed}:{ticker}:offset")  # noqa: S311 - a market, not a secret
            found = self._offsets[ticker] = dice.randrange(REGIME_MINUTES)
        return found

    def _base(self, ticker: str) -> float:
        return 40.0 + random.Random(f"{self._seed}:{ticker}:base").random() * 260.0  # noqa: S311 - a market, no secret
