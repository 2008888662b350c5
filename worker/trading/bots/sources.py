"""The feeds of one account's bots: started when a symbol is first needed, each with its pipeline."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import structlog

from shared.clock import Clock, rfc3339
from shared.errors import SixbotError
from worker.core.candles import WINDOW
from worker.core.trades import micros, moment_of
from worker.core.types import LastPrice
from worker.feeds.base import FeedState, TradeFeed
from worker.trading.bots.pipeline import NEVER, Lane, Pipeline, Post, Rhythm, SymbolLine

TICK_SECONDS = 0.05
RETRY_SECONDS = 5.0
CLOSE_SECONDS = 2.0
_LIVE = FeedState.LIVE

OpenFeed = Callable[[tuple[str, ...], float], TradeFeed]
"""Builds a feed for symbols that calls itself mute after so many seconds. Raises SixbotError where there is none."""

Group = Callable[[str], str]
"""Symbols of one group share one connection, since the source allows no second; empty: each set has its own."""


@dataclass(slots=True)
class _Source:
    feed: TradeFeed
    pipeline: Pipeline


class Sources:
    """The trader thread calls it; a thread of its own lets the time pass in the pipelines."""

    def __init__(
        self,
        open_feed: OpenFeed,
        group: Group,
        post: Post,
        rhythm: Rhythm,
        clock: Clock,
        logger: structlog.stdlib.BoundLogger,
    ) -> None:
        self._open_feed, self._group, self._post, self.rhythm = open_feed, group, post, rhythm
        self._clock, self._logger = clock, logger
        self._sources: list[_Source] = []
        self._by_symbol: dict[str, _Source] = {}
        self._problems: dict[str, tuple[str, float]] = {}
        self._stops: dict[str, Decimal] = {}
        self._needed: Collection[str] = ()
        self._lanes: Mapping[int, Lane] | None = None
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._ticker = threading.Thread(target=self._tick, name="bot-clock", daemon=True)

    def now(self) -> int:
        """The clock of ``received_at``, in microseconds."""
        return self._sources[0].feed.now() if self._sources else micros(self._clock.now())

    def need(self, symbols: Collection[str], stale_seconds: float) -> None:
        """Start what is missing, end what nobody needs."""
        if symbols == self._needed and not self._problems:
            return
        now = self._clock.monotonic()
        missing = [s for s in symbols if s not in self._by_symbol and now >= self._problems.get(s, ("", 0.0))[1]]
        for source in [s for s in self._sources if not any(x in symbols for x in s.pipeline.lines)]:
            self._end(source)
        sets: dict[str, set[str]] = {}
        for symbol in missing:
            sets.setdefault(self._group(symbol), set()).add(symbol)
        for group, wanted in sorted(sets.items()):
            if group:  # one connection only: what it brought so far goes on over the new one
                for source in [s for s in self._sources if self._group(next(iter(s.pipeline.lines))) == group]:
                    wanted |= {x for x in source.pipeline.lines if x in symbols}
                    self._end(source)
            self._begin(tuple(sorted(wanted)), now, stale_seconds)
        self._needed = symbols

    def _end(self, source: _Source) -> None:
        self._sources.remove(source)
        for symbol in source.pipeline.lines:
            self._by_symbol.pop(symbol, None)
        _close(source.feed)

    def _begin(self, symbols: tuple[str, ...], now: float, stale_seconds: float) -> None:
        try:
            feed = self._open_feed(symbols, stale_seconds)
        except SixbotError as error:
            self._logger.warning("no_feed", symbols=symbols, error=str(error))
            self._problems |= dict.fromkeys(symbols, (str(error), now + RETRY_SECONDS))
            return
        self._lanes = None  # it has none yet
        pipeline = Pipeline(symbols, self._post, self.rhythm, self._lock)
        source = _Source(feed, pipeline)
        self._sources.append(source)
        for symbol in symbols:
            self._by_symbol[symbol] = source
            self._problems.pop(symbol, None)
        feed.start(pipeline)
        if not self._ticker.is_alive() and not self._stop.is_set():
            self._ticker.start()

    def _tick(self) -> None:
        while not self._stop.wait(TICK_SECONDS):
            for source in list(self._sources):
                source.pipeline.tick(source.feed.now())

    def close(self) -> None:
        """End every feed; returns within two seconds."""
        self._stop.set()
        closing = [_close(source.feed) for source in self._sources]
        end = self._clock.monotonic() + CLOSE_SECONDS
        for thread in [*closing, self._ticker]:
            if thread.is_alive():
                thread.join(timeout=max(end - self._clock.monotonic(), 0.0))

    # -- what the bots need ---------------------------------------------------------------------------------------

    def _line(self, symbol: str) -> SymbolLine | None:
        source = self._by_symbol.get(symbol)
        return None if source is None else source.pipeline.lines[symbol]

    def lanes(self, lanes: Mapping[int, Lane]) -> None:
        """Which bots each symbol is predicted for, by id; the same object says that none came, went or changed."""
        if lanes is self._lanes:
            return
        self._lanes = lanes
        by_symbol: dict[str, list[Lane]] = {}
        for _, lane in sorted(lanes.items()):
            by_symbol.setdefault(lane.settings.symbol, []).append(lane)
        for source in self._sources:
            for symbol, line in source.pipeline.lines.items():
                wanted = tuple(by_symbol.get(symbol, ()))
                if line.lanes != wanted:
                    line.lanes = wanted

    def watch(self, stops: Mapping[str, Decimal]) -> None:
        """Ask to be told of the first trade at or below each symbol's stop-loss."""
        for symbol in self._stops.keys() | stops.keys():
            line, stop = self._line(symbol), stops.get(symbol)
            if line is None:
                continue
            wanted = NEVER if stop is None else float(stop)
            if line.stop != wanted:
                self._by_symbol[symbol].pipeline.watch(symbol, wanted)
        self._stops = dict(stops)

    def last(self, symbol: str) -> LastPrice | None:
        """The last trade of a symbol."""
        line = self._line(symbol)
        last = None if line is None else line.last
        return None if last is None else LastPrice(Decimal(repr(last.price)), moment_of(last.received_at))

    def live(self, symbol: str) -> bool:
        """Whether a symbol's trades arrive."""
        source = self._by_symbol.get(symbol)
        return source is not None and source.pipeline.live and source.feed.state is _LIVE

    @staticmethod
    def _problem(source: _Source, line: SymbolLine) -> str | None:
        """A source takes any name without a word; one that it does not know never trades."""
        if source.feed.state is not FeedState.LIVE:
            return source.feed.stats.last_error
        return f"no trade of {line.symbol} has arrived yet" if line.last is None else None

    def shown(self, symbol: str) -> dict[str, Any]:
        """The feed as ``bot:{id}:status`` tells it."""
        source = self._by_symbol.get(symbol)
        if source is None:
            return {"state": "none", "problem": self._problems.get(symbol, ("", 0.0))[0] or None}
        line, stats = source.pipeline.lines[symbol], source.feed.stats
        counts, last = line.builder.counts, line.last
        return {
            "state": source.feed.state.value,
            "problem": self._problem(source, line),
            "ready": line.window.ready,
            "candles_wanted": WINDOW,
            "last_price": None if last is None else last.price,
            "last_trade_at": None if last is None else rfc3339(moment_of(last.received_at)),
            "trades": stats.trades,
            "reconnects": stats.reconnects,
            "gaps": counts.gaps,
            "duplicates": stats.duplicates + counts.duplicates,
            "dropped": stats.duplicates + stats.dropped.total() + counts.dropped,
        }


def _close(feed: TradeFeed) -> threading.Thread:
    """In a thread of its own: a feed may wait for its source, and the trader must not."""
    thread = threading.Thread(target=feed.close, name="feed-close", daemon=True)
    thread.start()
    return thread
