"""Alpaca's live trades, stocks or crypto, through alpaca-py's own stream in a thread and an event loop of its own.

Ids are unique within an exchange only, so a repeated trade is known by exchange and id, and trades keep their order.
What Alpaca refuses (402 wrong key, 405 too many symbols, 406 another connection holds the key, 409 no subscription)
stands in ``stats.last_error`` and is counted; it is tried again for ever, since most of them end by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from shared.config import Config
from shared.errors import ConfigError
from worker.core.trades import Trade
from worker.feeds.base import STALE_SECONDS, FeedSink, FeedState, FeedStats, ReceiveClock, fault_of
from worker.feeds.streaming import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Announcer

_SOCKET = {"ping_interval": 5, "ping_timeout": 10, "open_timeout": 5, "close_timeout": 0.5, "max_queue": 4096}
_OPEN_SECONDS = 8.0
_REMEMBERED = 50_000
_CODES = {"auth failed": 402, "auth timeout": 404, "connection limit exceeded": 406, "insufficient subscription": 409}
"""alpaca-py gives the words of an answer to the sign-in only."""


class AlpacaFeed:
    """See ``feeds.base.TradeFeed``. Symbols with a slash are crypto; those of one feed are all of one kind."""

    def __init__(
        self,
        symbols: Sequence[str],
        api_key: str,
        secret_key: str,
        *,
        url: str | None = None,
        data_feed: str = "iex",
        stale_seconds: float = STALE_SECONDS,
        clock: Callable[[], int] | None = None,
    ) -> None:
        """Raises ConfigError where stocks and crypto are mixed."""
        kinds = {"/" in s for s in symbols}
        if len(kinds) != 1:
            raise ConfigError(
                f"one Alpaca feed is for stocks or for crypto, not for both or none: {', '.join(symbols)}"
            )
        self._symbols, self._stale, self._clock = tuple(symbols), stale_seconds, clock or ReceiveClock()
        self._out = Announcer("alpaca", self._clock)
        self._seen: OrderedDict[tuple[str, str, int], None] = OrderedDict()
        self._closing, self._heard = threading.Event(), monotonic()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="feed-alpaca", daemon=True)
        self._inner = self._build(api_key, secret_key, url, data_feed, crypto=kinds.pop())

    @classmethod
    def from_config(cls, config: Config, symbols: Sequence[str], stale_seconds: float = STALE_SECONDS) -> AlpacaFeed:
        """Raises ConfigError without keys."""
        if config.alpaca_api_key is None or config.alpaca_secret_key is None:
            raise ConfigError("Alpaca's trades need ALPACA_API_KEY and ALPACA_SECRET_KEY")
        return cls(
            symbols,
            config.alpaca_api_key.get_secret_value(),
            config.alpaca_secret_key.get_secret_value(),
            url=config.alpaca_data_stream_url,
            data_feed=config.alpaca_data_feed,
            stale_seconds=stale_seconds,
        )

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._symbols

    @property
    def state(self) -> FeedState:
        return self._out.state

    @property
    def stats(self) -> FeedStats:
        return self._out.stats

    def now(self) -> int:
        return self._clock()

    def start(self, sink: FeedSink) -> None:
        self._out.sink = sink
        self._thread.start()

    def close(self) -> None:
        """alpaca-py's own stop waits up to five seconds; the task is cancelled instead."""
        self._closing.set()
        loop, task = self._loop, self._task
        if loop is not None and task is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(task.cancel)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout=5.0)
        self._out.sink, self._out.state = None, FeedState.CLOSED

    # -- alpaca-py ------------------------------------------------------------------------------------------------

    def _build(self, api_key: str, secret_key: str, url: str | None, data_feed: str, *, crypto: bool) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # alpaca-py still uses websockets' legacy client
            from alpaca.data.enums import DataFeed
            from alpaca.data.live import CryptoDataStream, StockDataStream
        logging.getLogger("alpaca.data.live.websocket").setLevel(logging.CRITICAL)
        path = "/v1beta3/crypto/us" if crypto else f"/v2/{data_feed}"
        whole = url.rstrip("/") + path if url is not None and urlsplit(url).path in ("", "/") else url
        kind: Any = CryptoDataStream if crypto else StockDataStream
        more = {} if crypto else {"feed": DataFeed(data_feed)}
        stream = _watched(kind, self)(
            api_key, secret_key, raw_data=True, url_override=whole, websocket_params=dict(_SOCKET), **more
        )
        stream._data_timeout = self._stale
        stream._reconnect_min_backoff, stream._reconnect_max_backoff = FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS
        stream.subscribe_trades(self._take, *self._symbols)
        return stream

    async def _take(self, message: Mapping[str, Any]) -> None:
        if self._closing.is_set():
            return
        received_at = self._clock()
        trade = self._trade(message, received_at)
        if trade is not None:
            self.stats.last_received = received_at
            self._out.live()
            self._out.give((trade,))

    def _trade(self, message: Mapping[str, Any], received_at: int) -> Trade | None:
        stats = self.stats
        try:
            symbol, number, side = message["S"], message.get("i"), message.get("tks")
            maker = None if side not in ("B", "S") else side == "S"
            nanoseconds = int(message["t"].to_unix_nano())
            trade = Trade(symbol, float(message["p"]), float(message["s"]), maker, nanoseconds // 1000, received_at)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            stats.dropped["shape"] += 1
            return None
        fault = fault_of(trade) if symbol in self._symbols else "symbol"
        if fault is not None:
            stats.dropped[fault] += 1
            return None
        self._heard = monotonic()
        if isinstance(number, int) and self._repeated((symbol, str(message.get("x")), number)):
            stats.duplicates += 1
            return None
        return trade

    def _repeated(self, key: tuple[str, str, int]) -> bool:
        if key in self._seen:
            return True
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return False

    def refused(self, code: int | None, words: str) -> None:
        """Alpaca said an error; called by the stream."""
        self.stats.dropped["error"] += 1
        self._out.lost(f"Alpaca says {code}: {words}")

    # -- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        try:
            while not self._closing.is_set():
                await self._inner._run_forever()  # it returns where it thinks that trying again is of no use
                await asyncio.sleep(LONGEST_PAUSE_SECONDS)
        finally:
            await self._inner.close()


def _watched(kind: Any, feed: AlpacaFeed) -> Any:
    """alpaca-py's stream, telling the feed what it would only write into its log."""

    class Watched(kind):  # type: ignore[misc]  # a class chosen at run time
        async def _start_ws(self) -> None:
            try:
                await asyncio.wait_for(super()._start_ws(), _OPEN_SECONDS)
            except (OSError, TimeoutError) as error:
                feed._out.lost(f"no connection: {error or type(error).__name__}")
                raise
            except ValueError as error:
                feed.refused(_CODES.get(str(error)), str(error))
                raise
            feed.stats.connections += 1
            feed.stats.reconnects = feed.stats.connections - 1
            feed._heard = monotonic()

        async def _consume(self) -> bool:
            while True:
                try:
                    stale: bool = await super()._consume()
                except OSError as error:
                    feed._out.lost(str(error))
                    raise
                except Exception as error:
                    if self._ws is None or self._ws.closed:
                        feed._out.lost(str(error))
                        raise
                    feed.stats.dropped["shape"] += 1
                    if monotonic() - feed._heard < feed._stale:
                        continue
                    await self.close()
                    stale = True
                if stale:
                    feed._out.lost(f"no trade for {feed._stale:g} s", FeedState.MUTE)
                return stale

        async def _dispatch(self, msg: Mapping[str, Any]) -> None:
            kind_of = msg.get("T")
            if kind_of == "error":
                feed.refused(msg.get("code"), str(msg.get("msg")))
            elif kind_of == "subscription" and feed.stats.connections:
                feed._out.live()
            elif kind_of == "t" and "S" in msg and msg["S"] not in feed.symbols:
                feed.stats.dropped["symbol"] += 1
            await super()._dispatch(msg)

    return Watched
