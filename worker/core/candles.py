"""One-second candles from trades: pure, incremental, and the same however often anybody asks for the time.

A candle covers ``[t, t + 1 s)`` of venue time. It is complete when a trade of a later second arrives, or when the
venue's clock (``VenueClock``) passes its end by the grace. A second without trades carries the close with volume 0.
The completed candles of a symbol are contiguous, but for silences of an hour, and never change.

Dropped and counted: a trade whose id is not above the last one of its symbol, one whose candle is complete, and one
that lies more than a minute ahead of the clock. Sources without ids keep their order. Where the source was not live in
some part of a second, its candle is marked ``gap``: what it says is not the whole second. A trade that is not
``priced`` counts in volumes and trades, and in no price.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from worker.core.trades import MINUTE, SECOND, Trade
from worker.core.venue_clock import UNSET, VenueClock

WINDOW = 60
"""Candles that a decision wants: complete, in a row, none of them a gap."""
GRACE_MS = 250
LONGEST_CARRY = 3600
"""Seconds. Where a symbol has not traded for longer, its candles are gaps, and of those that come at once only the last
``WINDOW`` are made: a clock gone wild, or a night, must not cost a candle for every second of it."""
STRAYS = 10
QUIET = 30 * SECOND
"""``STRAYS`` trades in a row that contradict the clock, or the ids or time of a symbol that has been quiet for so long,
are the venue's new truth: we start over at them. It is less than the minute in which a wrong lag ends by itself."""


class Candle(msgspec.Struct, frozen=True, gc=False):
    """One complete second of a symbol; ``start`` in microseconds since 1970 UTC, volumes in base units.

    ``buy_volume`` is what takers bought, ``sell_volume`` what they sold; where the source does not say who took, the
    trade is in ``volume`` only.
    """

    symbol: str
    start: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    buy_volume: float
    sell_volume: float
    trades: int
    gap: bool = False

    @property
    def end(self) -> int:
        return self.start + SECOND


NOTHING: Sequence[Candle] = ()


@dataclass(slots=True)
class CandleCounts:
    """What was dropped and why, and how often the source was away or its clock was set."""

    duplicates: int = 0
    late: int = 0
    ahead: int = 0
    gaps: int = 0
    restarts: int = 0

    @property
    def dropped(self) -> int:
        return self.duplicates + self.late + self.ahead


class CandleBuilder:
    """The candles of one symbol. Every method returns the candles that are now complete, oldest first."""

    __slots__ = (
        *("symbol", "clock", "counts", "_grace", "_start", "_end", "_due", "_last_id", "_traded", "_run", "_strays"),
        *("_open", "_high", "_low", "_close", "_volume", "_buy", "_sell", "_trades", "_unpriced"),
        *("_gap_from", "_gap_until", "_restarts"),
    )

    def __init__(self, symbol: str, clock: VenueClock | None = None, grace_ms: int = GRACE_MS) -> None:
        self.symbol, self.clock, self.counts = symbol, clock or VenueClock(), CandleCounts()
        self._grace = grace_ms * 1000
        self._last_id = self._traded = self._start = self._end = -UNSET
        self._due = UNSET
        self._run = self._strays = self._trades = self._unpriced = 0
        self._open = self._high = self._low = self._close = 0.0
        self._volume = self._buy = self._sell = 0.0
        self._gap_from, self._gap_until = UNSET, -UNSET
        self._restarts = self.clock.restarts

    @property
    def ready(self) -> bool:
        """Whether the last ``WINDOW`` candles are complete and none is a gap."""
        return self._run >= WINDOW

    @property
    def last_close(self) -> float | None:
        """The price of the last trade that was taken; None before the first."""
        return None if self._start == -UNSET else self._close

    def on_trade(self, trade: Trade) -> Sequence[Candle]:
        """Take one trade. The hot path: everything but a candle's end happens here."""
        clock, venue, received = self.clock, trade.venue_time, trade.received_at
        reached = received - clock.least
        if reached > clock.reached:
            clock.reached = reached
        if received >= clock.second_end:
            clock.roll(received)
        lag = received - venue
        if lag < clock.second_least:
            if lag < clock.least - MINUTE and clock.least != UNSET:
                self.counts.ahead += 1
                return self._dropped(trade, always=True)
            clock.observe(lag)
        number = trade.trade_id
        if number is not None:
            if number <= self._last_id:
                self.counts.duplicates += 1
                return self._dropped(trade, newer=QUIET)
            self._last_id = number
        done = NOTHING
        if venue >= self._end or clock.reached >= self._due:
            if not trade.priced and self._start == -UNSET:
                return NOTHING  # there is no price yet to carry
            done = self._advance(venue)
        if venue < self._start:
            self.counts.late += 1
            return done or self._dropped(trade)
        price, quantity, maker = trade.price, trade.quantity, trade.is_buyer_maker
        if trade.priced:
            if not self._trades:
                self._open = self._high = self._low = price
            elif price > self._high:
                self._high = price
            elif price < self._low:
                self._low = price
            self._close = price
            self._trades += 1
        else:
            self._unpriced += 1
        self._strays = 0
        self._volume += quantity
        if maker:
            self._sell += quantity
        elif maker is not None:
            self._buy += quantity
        return done

    def on_time(self, received_at: int) -> Sequence[Candle]:
        """Our clock shows ``received_at``: complete what is due."""
        now = self.clock.now(received_at)
        return NOTHING if now is None or now < self._due else self._advance(-UNSET)

    def on_gap(self, received_at: int) -> Sequence[Candle]:
        """The source is not live from now on."""
        done = self.on_time(received_at)
        now = self.clock.now(received_at)
        if now is None:
            return done
        if self._gap_until <= self._start:
            self._gap_from = now
            self.counts.gaps += 1
        self._gap_until = UNSET
        return done

    def on_live(self, received_at: int) -> Sequence[Candle]:
        """The source is live again, from now on: the second that runs is still not whole."""
        if self._gap_until != UNSET:
            return NOTHING
        done = self.on_time(received_at)
        now = self.clock.now(received_at)
        self._gap_until = -UNSET if now is None else now
        return done

    # -- what happens once a second -------------------------------------------------------------------------------

    def _advance(self, venue: int) -> Sequence[Candle]:
        """Complete what the clock or a trade at ``venue`` ends."""
        if self._start == -UNSET:
            if venue != -UNSET:
                self._begin(venue - venue % SECOND)
            return NOTHING
        if self._restarts != self.clock.restarts:
            self._restarts = self.clock.restarts
            self._gap_from, self._gap_until = -UNSET, max(self._gap_until, self.clock.reached, venue)
        due = self.clock.reached - self._grace
        start = max(due - due % SECOND, venue - venue % SECOND)
        if start == self._end:  # one second is over, as nearly always
            candle = self._complete()
            self._begin(start)
            return (candle,)
        done: list[Candle] = []
        while self._start < start:
            done.append(self._complete())
            self._begin(self._end)
            if self._start > self._traded + LONGEST_CARRY * SECOND:
                self._begin(max(self._start, start - WINDOW * SECOND))
        return done

    def _begin(self, start: int) -> None:
        self._start, self._end, self._due = start, start + SECOND, start + SECOND + self._grace
        self._trades = self._unpriced = 0
        self._open = self._high = self._low = self._close
        self._volume = self._buy = self._sell = 0.0

    def _complete(self) -> Candle:
        start = self._start
        if self._trades:
            self._traded = start
        gap = (start < self._gap_until and self._end > self._gap_from) or start - self._traded > LONGEST_CARRY * SECOND
        self._run = 0 if gap else self._run + 1
        return Candle(
            self.symbol,
            start,
            self._open,
            self._high,
            self._low,
            self._close,
            self._volume,
            self._buy,
            self._sell,
            self._trades + self._unpriced,
            gap,
        )

    # -- a source that contradicts itself -------------------------------------------------------------------------

    def _dropped(self, trade: Trade, *, newer: int = -UNSET, always: bool = False) -> Sequence[Candle]:
        """A trade that was not taken, unless it is the last of a row that shows our own state to be the wrong one:
        nothing was taken for ``QUIET``, and it is by ``newer`` younger than what was taken last; or ``always``.
        """
        done = self._advance(-UNSET) if self.clock.reached >= self._due else NOTHING
        quiet = not self._trades and self._start - self._traded > QUIET
        if not always and not (quiet and trade.venue_time > self._traded + newer):
            return done
        self._strays += 1
        if self._strays < STRAYS:
            return done
        self.counts.restarts += 1
        self.clock.restart()
        self._run, self._last_id = 0, -UNSET
        self._begin(trade.venue_time - trade.venue_time % SECOND)
        self._restarts = self.clock.restarts
        self._gap_from, self._gap_until = -UNSET, max(self._gap_until, self._end)
        return [*done, *self.on_trade(trade)]
