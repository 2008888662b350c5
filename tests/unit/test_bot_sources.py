"""A bot's feed as its status tells it."""

from __future__ import annotations

import structlog

from shared.clock import SystemClock
from tests.contract.cases_feeds import now_ms
from tests.servers.binance import trade_frame
from worker.feeds.base import FeedSink
from worker.feeds.binance import BinanceFeed
from worker.trading.bots.pipeline import RHYTHM
from worker.trading.bots.sources import Sources


class HandFeed(BinanceFeed):
    """Binance's feed without its socket."""

    def start(self, sink: FeedSink) -> None:
        self._out.sink = sink


def test_feed_when_trades_are_repeated_or_none_counts_what_it_dropped() -> None:
    """What the feed itself drops, before any candle, was counted and shown to nobody."""
    opened: list[HandFeed] = []

    def open_feed(symbols: tuple[str, ...], _stale_seconds: float) -> HandFeed:
        opened.append(HandFeed(symbols, "ws://unused.invalid"))
        return opened[-1]

    found: list[object] = []
    sources = Sources(open_feed, lambda _: "", found.append, RHYTHM, SystemClock(), structlog.stdlib.get_logger())
    try:
        sources.need({"BTCUSDT"}, 15)
        frames = [trade_frame(n, 100.0, now_ms(), s="BTCUSDT") for n in (5, 5, 4, 6)]
        opened[0].take([frame.encode() for frame in (*frames, trade_frame(7, "NaN", now_ms(), s="BTCUSDT"))])
        shown = sources.shown("BTCUSDT")
        assert (shown["trades"], shown["duplicates"], shown["dropped"]) == (2, 2, 3)
    finally:
        sources.close()
