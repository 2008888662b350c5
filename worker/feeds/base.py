"""The port of market feeds: where trades come from, and what is told beside them.

A feed runs in a thread of its own and calls its sink from there, in order. Nothing that a source sends ends a feed:
what makes no sense is counted by its reason and dropped, a lost source is looked for again for ever.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import msgspec

from worker.core.trades import LARGEST, SMALLEST, Trade

STALE_SECONDS = 15.0
EARLIEST, LATEST = 946_684_800_000_000, 4_102_444_800_000_000
"""The years 2000 to 2099: no venue time lies outside them."""


class FeedState(StrEnum):
    """``LIVE`` is the only state in which what a feed gave last is the market; no entry is made in any other."""

    CONNECTING = "connecting"
    LIVE = "live"
    MUTE = "mute"
    CLOSED = "closed"


@dataclass(slots=True)
class FeedStats:
    """Counted since the start; ``dropped`` by reason, ``last_received`` in microseconds of the feed's ``now``."""

    trades: int = 0
    duplicates: int = 0
    ignored: int = 0
    connections: int = 0
    reconnects: int = 0
    gaps: int = 0
    made_up: int = 0
    """Trades that a recording of bars does not hold: where in its bar a price was is made up."""
    dropped: Counter[str] = field(default_factory=Counter)
    last_received: int = 0
    last_error: str | None = None


class FeedSink(Protocol):
    """Who takes what a feed gives, in the feed's thread. Times are microseconds of the feed's ``now``."""

    def on_trade(self, trade: Trade) -> None: ...

    def on_gap(self, received_at: int, reason: str) -> None:
        """From here on the source is not live: what happens there is not seen."""

    def on_live(self, received_at: int) -> None:
        """From here on it is live, for the first time or again."""


class TradeFeed(Protocol):
    """One source of trades."""

    @property
    def symbols(self) -> tuple[str, ...]: ...

    @property
    def state(self) -> FeedState: ...

    @property
    def stats(self) -> FeedStats: ...

    def now(self) -> int:
        """The clock of ``received_at``: give it to ``CandleBuilder.on_time``. Microseconds since 1970 UTC."""

    def start(self, sink: FeedSink) -> None:
        """Begin, once."""

    def close(self) -> None:
        """End within a second or two; nothing is called after it returns."""


class ReceiveClock:
    """Wall time that never jumps: taken once, then counted on by the monotonic clock."""

    def __init__(self) -> None:
        self._base = time.time_ns() - time.monotonic_ns()

    def __call__(self) -> int:
        return (self._base + time.monotonic_ns()) // 1000


def fault_of(trade: Trade) -> str | None:
    """Why this is no trade, in one word for counting; None where it is one."""
    if not SMALLEST <= trade.price < LARGEST:
        return "price"
    if not SMALLEST <= trade.quantity < LARGEST:
        return "quantity"
    return None if EARLIEST <= trade.venue_time < LATEST else "time"


class Gap(msgspec.Struct, frozen=True, gc=False):
    received_at: int
    reason: str


class Live(msgspec.Struct, frozen=True, gc=False):
    received_at: int


class TradeQueue:
    """A bounded queue between a feed's thread and the loop that decides: a sink on one side, ``drain`` on the other.

    Trades that find it full are dropped and counted, and since a candle without them would be wrong they are a gap.
    """

    def __init__(self, limit: int = 100_000) -> None:
        self._limit = limit
        self._items: deque[Trade | Gap | Live] = deque()
        self._filled = threading.Event()
        self._overflowing = False
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._items)

    def on_trade(self, trade: Trade) -> None:
        items = self._items
        if self._overflowing:
            if len(items) > self._limit // 2:
                self.dropped += 1
                return
            self._overflowing = False
            items.append(Live(trade.received_at))
        elif len(items) >= self._limit:
            self._overflowing = True
            self.dropped += 1
            items.append(Gap(trade.received_at, f"more than {self._limit} trades were waiting"))
            return
        items.append(trade)
        if not self._filled.is_set():
            self._filled.set()

    def on_gap(self, received_at: int, reason: str) -> None:
        self._overflowing = False
        self._items.append(Gap(received_at, reason))
        self._filled.set()

    def on_live(self, received_at: int) -> None:
        self._items.append(Live(received_at))
        self._filled.set()

    def wait(self, seconds: float) -> bool:
        """Until something is there, at most so long."""
        return self._filled.wait(seconds)

    def drain(self, sink: FeedSink, limit: int = 10_000) -> int:
        """Hand on what waits, oldest first, at most ``limit``; how many."""
        self._filled.clear()
        items, count = self._items, 0
        while items and count < limit:
            item = items.popleft()
            count += 1
            if type(item) is Trade:
                sink.on_trade(item)
            elif type(item) is Gap:
                sink.on_gap(item.received_at, item.reason)
            elif type(item) is Live:
                sink.on_live(item.received_at)
        if items:
            self._filled.set()
        return count
