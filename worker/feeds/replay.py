"""Recorded trades as a feed: at the speed they came, scaled, or as fast as they are taken.

``now`` is the recording's own time, so that candles, decisions and their order are the same at every speed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from time import monotonic

from shared.errors import SixbotError
from worker.core.trades import Trade
from worker.feeds.base import FeedSink, FeedState, FeedStats
from worker.feeds.contracts import Contracts
from worker.feeds.streaming import Announcer
from worker.feeds.trade_files import read_files

_TOGETHER = 256


class ReplayFeed:
    """See ``feeds.base.TradeFeed``. ``run`` does without a thread; ``trades`` without a sink.

    ``speed`` 1 is the recording's own, 60 a minute a second, None as fast as possible. ``symbols`` picks some; none
    takes all.
    """

    def __init__(self, trades: Iterable[Trade], symbols: Sequence[str] = (), *, speed: float | None = None) -> None:
        self._source, self._wanted, self._speed = trades, tuple(symbols), speed
        self._found: dict[str, None] = dict.fromkeys(symbols)
        self._now = 0
        self._began: tuple[float, int] | None = None
        self._out = Announcer("replay", self.now)
        self._closing, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed-replay", daemon=True)

    @classmethod
    def from_files(
        cls,
        paths: Sequence[Path],
        symbols: Sequence[str] = (),
        *,
        speed: float | None = None,
        contracts: Contracts | None = None,
    ) -> ReplayFeed:
        """Files without symbols in them hold the first of ``symbols``, else what their name says. A file that cannot be
        read is a ConfigError in ``run`` and ``trades``, and in the thread the end, told in ``stats.last_error``.
        """
        feed = cls((), symbols, speed=speed)
        feed._source = read_files(paths, symbols[0] if symbols else None, feed.stats, contracts)
        return feed

    @property
    def symbols(self) -> tuple[str, ...]:
        """Those asked for, else those that have come."""
        return tuple(self._found)

    @property
    def state(self) -> FeedState:
        return self._out.state

    @property
    def stats(self) -> FeedStats:
        return self._out.stats

    def now(self) -> int:
        if self._began is None or self._speed is None or self._ended.is_set():
            return self._now
        start, first = self._began
        return max(self._now, first + int((monotonic() - start) * self._speed * 1e6))

    def trades(self) -> Iterator[Trade]:
        """The trades themselves, unpaced."""
        wanted = frozenset(self._wanted)
        for trade in self._source:
            if wanted and trade.symbol not in wanted:
                self.stats.ignored += 1
            else:
                yield trade

    def run(self, sink: FeedSink) -> None:
        """Play it in this thread, to its end or to ``close``. Raises ConfigError for a file that cannot be read."""
        self._out.sink = sink
        try:
            self._play()
        finally:
            self._out.lost("the recording has ended", FeedState.CLOSED)
            self._ended.set()

    def start(self, sink: FeedSink) -> None:
        self._out.sink = sink
        self._thread.start()

    def wait(self, seconds: float | None = None) -> bool:
        """Until the recording has ended, at most so long; whether it has."""
        return self._ended.wait(seconds)

    def close(self) -> None:
        self._closing.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(5.0)
        self._out.sink, self._out.state = None, FeedState.CLOSED
        self._ended.set()

    def _run(self) -> None:
        sink = self._out.sink
        if sink is None:
            return
        try:
            self.run(sink)
        except SixbotError as error:
            self.stats.last_error = str(error)
            self._out.logger.error("the recording has ended early: %s", error)

    def _play(self) -> None:
        together: list[Trade] = []
        for trade in self.trades():
            if self._closing.is_set():
                return
            self._found.setdefault(trade.symbol)
            if self._began is None:
                self._now = trade.received_at
                self._began = monotonic(), trade.received_at
                self._out.live()
            if self._speed is not None:
                self._pace(trade.received_at)
                self._give([trade])
            else:
                together.append(trade)
                if len(together) >= _TOGETHER:
                    self._give(together)
                    together = []
        self._give(together)

    def _pace(self, received_at: int) -> None:
        if self._began is not None and self._speed is not None:
            start, first = self._began
            left = start + (received_at - first) / (1e6 * self._speed) - monotonic()
            if left > 0:
                self._closing.wait(left)

    def _give(self, trades: list[Trade]) -> None:
        """A few at once: ``now`` may run ahead by so many, which no candle can tell."""
        if trades and not self._closing.is_set():
            self._now = max(self._now, trades[0].received_at)
            self._out.give(trades)
            self._now = max(self._now, trades[-1].received_at)
            self.stats.last_received = self._now
