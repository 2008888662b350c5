"""What feeds over a websocket have in common: connect, listen, notice silence, come back."""

from __future__ import annotations

import logging
import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from time import monotonic

from worker.core.trades import Trade
from worker.feeds.base import STALE_SECONDS, FeedSink, FeedState, FeedStats, ReceiveClock
from worker.feeds.contracts import Contracts, in_base_units
from worker.feeds.socket import FeedSocket, SocketLost

OPEN_SECONDS = 5.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 10.0
_LOOK_SECONDS = 0.5
_CLOSE_SECONDS = 2.0
_LIVE = FeedState.LIVE
"""Looking a member up in its class takes longer than the question, and it is asked at every message."""


class Announcer:
    """State, counts and sink of a feed, changed together and only in the feed's thread."""

    def __init__(self, name: str, clock: Callable[[], int]) -> None:
        self.stats, self.state = FeedStats(), FeedState.CONNECTING
        self.sink: FeedSink | None = None
        self.logger = logging.getLogger(f"feed.{name}")
        self._clock = clock

    def live(self) -> None:
        """Something sensible came."""
        if self.state is not FeedState.LIVE and self.state is not FeedState.CLOSED:
            self.state = FeedState.LIVE
            self._tell(lambda sink: sink.on_live(self._clock()))

    def lost(self, reason: str, state: FeedState = FeedState.CONNECTING) -> None:
        """The source is away: a gap where it was there before."""
        self.stats.last_error = reason
        was, self.state = self.state, state
        if was is FeedState.LIVE:
            self.stats.gaps += 1
            self.logger.warning("not live: %s", reason)
            self._tell(lambda sink: sink.on_gap(self._clock(), reason))

    def give(self, trades: Sequence[Trade]) -> None:
        """Hand on trades that came together. What the sink raises costs one trade and is counted."""
        sink, stats = self.sink, self.stats
        if sink is None:
            return
        take = sink.on_trade
        for trade in trades:
            try:
                take(trade)
            except Exception as error:
                self._failed(error)
        stats.trades += len(trades)

    def _tell(self, call: Callable[[FeedSink], None]) -> None:
        if self.sink is not None:
            try:
                call(self.sink)
            except Exception as error:
                self._failed(error)

    def _failed(self, error: Exception) -> None:
        self.stats.dropped["sink"] += 1
        if self.stats.dropped["sink"] == 1:
            self.logger.error("a trade was not taken", exc_info=error)


class SocketFeed(ABC):
    """See ``feeds.base.TradeFeed``. ``jitter`` gives a random number of [0, 1): so that many never come back at once.
    Quantities of symbols in ``contracts`` are turned into base units.

    A socket is mute when nothing sensible has come for ``stale_seconds``, which may be set at any time: it is given up
    and another one is opened. After a connection that gave trades the first pause is short again.
    """

    def __init__(
        self,
        name: str,
        symbols: Sequence[str],
        *,
        stale_seconds: float = STALE_SECONDS,
        clock: Callable[[], int] | None = None,
        contracts: Contracts | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._symbols, self.stale_seconds = tuple(symbols), stale_seconds
        self._clock, self._jitter, self._contracts = clock or ReceiveClock(), jitter, contracts
        self._out = Announcer(name, self._clock)
        self._closing = threading.Event()
        self._socket: FeedSocket | None = None
        self._thread = threading.Thread(target=self._run, name=f"feed-{name}", daemon=True)

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
        self._closing.set()
        connection = self._socket
        if connection is not None:
            connection.abort()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(_CLOSE_SECONDS)  # one that still connects ends by itself, and tells nobody
        self._out.sink, self._out.state = None, FeedState.CLOSED

    # -- what a source has of its own -----------------------------------------------------------------------------

    @abstractmethod
    def _open(self) -> FeedSocket:
        """Connect and subscribe. Raises SocketLost."""

    @abstractmethod
    def _decode(self, messages: Sequence[bytes], received_at: int) -> tuple[list[Trade], bool]:
        """The trades of these messages, and whether any of them made sense. Never raises."""

    # -- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._closing.is_set():
            taken = self.stats.trades
            try:
                self._connected()
            except SocketLost as error:
                if not self._closing.is_set():
                    self._out.lost(
                        str(error), self._out.state if self.state is FeedState.MUTE else FeedState.CONNECTING
                    )
            except Exception as error:  # a feed never ends its process, nor itself
                self._out.logger.exception("the feed's own fault")
                self._out.lost(repr(error))
            if self.stats.trades > taken:
                pause = FIRST_PAUSE_SECONDS
            self._closing.wait(pause * (0.5 + self._jitter()))
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _connected(self) -> None:
        connection = self._open()
        self._socket = connection
        self.stats.connections += 1
        self.stats.reconnects = self.stats.connections - 1
        try:
            self._listen(connection)
        finally:
            self._socket = None
            connection.close()

    def _listen(self, connection: FeedSocket) -> None:
        out, heard = self._out, monotonic()
        while not self._closing.is_set():
            left = heard + self.stale_seconds - monotonic()
            if left <= 0:
                reason = f"no message for {self.stale_seconds:g} s"
                out.lost(reason, FeedState.MUTE)
                raise SocketLost(reason)
            messages = connection.receive(min(left, _LOOK_SECONDS))
            if not messages:
                continue
            if self.take(messages):
                heard = monotonic()

    def take(self, messages: Sequence[bytes]) -> bool:
        """Hand on what a socket gave; whether any of it made sense. The feed's thread calls it."""
        received_at = self._clock()
        trades, sensible = self._decode(messages, received_at)
        if self._contracts and trades:
            trades = [in_base_units(trade, self._contracts) for trade in trades]
        out = self._out
        if sensible:
            out.stats.last_received = received_at
            if out.state is not _LIVE:
                out.live()
        out.give(trades)
        return sensible
