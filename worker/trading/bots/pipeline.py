"""From trades to decisions: candles, features, predictions, in the thread that brings the trades; nothing is sent here.

At venue seconds divisible by ``PREDICT_SECONDS``, on the candle that then is complete, every bot's model is asked. What
reaches the bot's threshold is posted, symbols in name order: a round is handed on when every symbol that trades has
completed its second, which is a grace after its end at the latest. Replay drives the very same code.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Protocol

import msgspec

from shared.bots import BotSettings
from shared.errors import PredictionError
from worker.core.candles import GRACE_MS, Candle, CandleBuilder
from worker.core.features import FeatureWindow
from worker.core.trades import SECOND, Trade
from worker.core.venue_clock import VenueClock

PREDICT_SECONDS = 2
BID_MICROSECONDS = 2 * SECOND
"""For how long a sale to a resting buyer tells the best bid."""
NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often models are asked, and how long a second waits for its late trades."""

    predict_seconds: int = PREDICT_SECONDS
    grace_ms: int = GRACE_MS


RHYTHM = Rhythm()


class RowModel(Protocol):
    """A loaded model: see ``predictors.row``."""

    def predict(self, row: Sequence[float]) -> float: ...

    def confidence(self, value: float, profit_target_pct: float) -> float: ...


class ModelSource(Protocol):
    """The model in force: ``current`` is swapped whole, and None where there is none, ``problem`` saying why."""

    @property
    def current(self) -> RowModel | None: ...

    @property
    def problem(self) -> str: ...


class Decision(msgspec.Struct, frozen=True, gc=False):
    """A prediction that reached its bot's threshold. Times in microseconds; ``second`` is the venue's."""

    bot_id: int
    symbol: str
    second: int
    confidence: float
    price: float
    bid: float
    received_at: int
    decided_at: int


class Crossing(msgspec.Struct, frozen=True, gc=False):
    """A trade at or below the highest stop-loss of a symbol."""

    symbol: str
    price: float
    received_at: int


_BY_NAME = attrgetter("symbol", "bot_id")

Post = Callable[["Decision | Crossing"], None]


@dataclass(slots=True)
class Lane:
    """One bot as the pipeline sees it. ``settings`` and ``model`` are swapped whole by the trader."""

    settings: BotSettings
    model: ModelSource
    second: int = 0
    value: float | None = None
    confidence: float | None = None
    problem: str = ""
    predictions: int = 0

    def __post_init__(self) -> None:
        self.configure(self.settings)

    bot_id: int = field(init=False)
    threshold: float = field(init=False)
    target: float = field(init=False)

    def configure(self, settings: BotSettings) -> None:
        self.settings, self.bot_id = settings, settings.bot_id
        self.threshold, self.target = float(settings.confidence_threshold), float(settings.profit_target_pct)

    def ask(self, row: Sequence[float], second: int) -> float | None:
        """The confidence where it reaches the threshold, else None; both are kept to be shown."""
        model = self.model.current
        self.second = second
        if model is None:
            self.value = self.confidence = None
            return None
        try:
            value = model.predict(row)
            self.problem = ""
        except PredictionError as error:
            self.value, self.confidence, self.problem = None, None, str(error)
            return None
        confidence = model.confidence(value, self.target)
        self.value, self.confidence = value, confidence
        self.predictions += 1
        return confidence if confidence >= self.threshold else None


class SymbolLine:
    """One symbol: its candles, its features, the bots that trade it, and the stop-loss that its price may meet.

    ``last`` is its last trade, ``sold`` the last in which a taker sold to a resting buyer.
    """

    __slots__ = ("builder", "done", "lanes", "last", "sold", "stop", "symbol", "take", "window")

    def __init__(self, symbol: str, clock: VenueClock, grace_ms: int = GRACE_MS) -> None:
        self.symbol, self.builder, self.window = symbol, CandleBuilder(symbol, clock, grace_ms), FeatureWindow()
        self.take = self.builder.on_trade
        self.lanes: tuple[Lane, ...] = ()
        self.last: Trade | None = None
        self.sold: Trade | None = None
        self.stop = NEVER
        self.done = -1

    def bid(self, last: Trade, at: int) -> float:
        """The best bid as trades tell it: where a taker sold in the last two seconds, else the last trade."""
        sold, price = self.sold, last.price
        if sold is None or at - sold.received_at > BID_MICROSECONDS or sold.price > price:
            return price
        return sold.price

    def decide(self, candle: Candle, at: int) -> list[Decision]:
        """Ask every lane about the newest candle."""
        row, last, end = self.window.values(), self.last, candle.start + SECOND
        found: list[Decision] = []
        if last is None:
            return found
        symbol, price, told_at, bid = self.symbol, last.price, last.received_at, self.bid(last, at)
        for lane in self.lanes:
            confidence = lane.ask(row, end)
            if confidence is not None:
                found.append(Decision(lane.bot_id, symbol, end, confidence, price, bid, told_at, at))
        return found


class Pipeline:
    """A feed's sink. Any thread may call; one lock makes them one. ``post`` must not block.

    Pipelines whose bots share models share the lock: a model answers one at a time.
    """

    def __init__(
        self,
        symbols: Iterable[str],
        post: Post,
        rhythm: Rhythm = RHYTHM,
        lock: threading.Lock | None = None,
    ) -> None:
        self._clock, self._post, self._lock = VenueClock(), post, lock or threading.Lock()
        self._period = rhythm.predict_seconds * SECOND
        self.lines = {symbol: SymbolLine(symbol, self._clock, rhythm.grace_ms) for symbol in sorted(symbols)}
        self._rounds: dict[int, list[Decision]] = {}
        self._standing: dict[int, int] = {}
        self._grace, self._looked = rhythm.grace_ms * 1000, -1
        self.live = False
        self.reason = "not live yet"

    # -- a feed's sink --------------------------------------------------------------------------------------------

    def on_trade(self, trade: Trade) -> None:
        """The hot path."""
        line = self.lines.get(trade.symbol)
        if line is None:
            return
        with self._lock:
            done = line.take(trade)
            if trade.priced:
                line.last = trade
                if trade.is_buyer_maker:
                    line.sold = trade
                if trade.price <= line.stop:
                    line.stop = NEVER  # told once; the trader sets it again
                    self._post(Crossing(trade.symbol, trade.price, trade.received_at))
            if done:
                self._completed(line, done, trade.received_at)

    def on_gap(self, received_at: int, reason: str) -> None:
        with self._lock:
            self.live, self.reason = False, reason
            for line in self.lines.values():
                self._completed(line, line.builder.on_gap(received_at), received_at)

    def on_live(self, received_at: int) -> None:
        with self._lock:
            self.live, self.reason = True, ""
            for line in self.lines.values():
                self._completed(line, line.builder.on_live(received_at), received_at)

    def tick(self, received_at: int) -> None:
        """The time passes: complete what no trade completes, which is due in every symbol at the same moment."""
        with self._lock:
            now = self._clock.now(received_at)
            due = -1 if now is None else (now - self._grace) // SECOND
            if due == self._looked:
                return
            self._looked = due
            for line in self.lines.values():
                done = line.builder.on_time(received_at)
                if done:
                    self._completed(line, done, received_at)

    # -- rounds ---------------------------------------------------------------------------------------------------

    def _completed(self, line: SymbolLine, candles: Sequence[Candle], at: int) -> None:
        rounds = self._rounds
        for candle in candles:
            ready = line.window.push(candle)
            end = candle.start + SECOND
            if end % self._period:
                continue
            self._stand(line, end)
            if ready and line.lanes:
                found = line.decide(candle, at)
                if not found:
                    continue
                if not rounds and len(self._standing) == 1:  # every symbol that trades stands here
                    self._post_all(found)
                else:
                    rounds.setdefault(end, []).extend(found)
        if rounds:
            self._hand_on()

    def _stand(self, line: SymbolLine, end: int) -> None:
        """Count how many symbols have come how far, so that nobody looks through them all for the slowest."""
        standing, before = self._standing, line.done
        line.done = end
        standing[end] = standing.get(end, 0) + 1
        if before >= 0:
            standing[before] -= 1
            if not standing[before]:
                del standing[before]

    def _hand_on(self) -> None:
        """Post the rounds that every symbol has completed, of those that have completed any."""
        rounds, slowest = self._rounds, min(self._standing, default=-1)
        if min(rounds) <= slowest:
            for end in sorted(e for e in rounds if e <= slowest):
                self._post_all(rounds.pop(end))

    def _post_all(self, found: list[Decision]) -> None:
        """One round, in the order of names and then of bots."""
        if len(found) > 1:
            found.sort(key=_BY_NAME)
        for decision in found:
            self._post(decision)

    def watch(self, symbol: str, stop: float) -> None:
        """Tell of the first trade at or below ``stop``; at once where the last one is."""
        line = self.lines.get(symbol)
        if line is None:
            return
        with self._lock:
            line.stop = stop
            last = line.last
            if last is not None and last.price <= stop:
                line.stop = NEVER
                self._post(Crossing(symbol, last.price, last.received_at))
