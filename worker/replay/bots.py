"""Replay of a stream bot: the very pipeline, order manager, rules and ledger that trade live, over recorded trades.

The time is that of the recording's receive clock. An order sent while a trade is looked at can fill at a later one at
the earliest. The same trades, settings and seed give the same report, byte for byte.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from shared.bots import BotSettings
from shared.clock import TradingCalendar
from shared.errors import ConfigError
from worker.core.fills import EngineOptions, exact
from worker.core.ledger import Change
from worker.core.trades import SECOND, Trade, moment_of
from worker.core.types import Instrument, LastPrice, OrderType, Side
from worker.feeds.trade_files import TRADES_A_BAR
from worker.replay.run import EquityPoint
from worker.trading.bots.pipeline import RHYTHM, Crossing, Decision, Lane, Pipeline, Rhythm, RowModel
from worker.trading.bots.runner import BotRunner
from worker.trading.bots.sender import OrderSender
from worker.trading.desk import OrderDesk
from worker.trading.memory import MemoryLedger
from worker.trading.ports import Switches
from worker.trading.reconcile import Snapshot
from worker.venues.simulated.local import LocalVenue

ACCOUNT = "replay"
TICK = SECOND // 4
MINUTE = 60 * SECOND
SAMPLE = 5000
FAR = float("inf")


class ReplayClock:
    """Shows the recording's time, in microseconds as it is set, as a datetime where somebody asks."""

    def __init__(self, micros: int) -> None:
        self.micros = micros

    def now(self) -> datetime:
        return moment_of(self.micros)

    def monotonic(self) -> float:
        return self.micros / 1e6


@dataclass(frozen=True, slots=True)
class FixedModel:
    """A model that is in force from beginning to end."""

    current: RowModel
    problem: str = ""


@dataclass(frozen=True, slots=True)
class BotReplayOptions:
    """What a replay is run with. ``seed`` decides everything that is random."""

    cash: Decimal = Decimal(100_000)
    day_zone: str = "UTC"
    engine: EngineOptions = field(default_factory=EngineOptions)
    seed: int = 6
    rhythm: Rhythm = RHYTHM


@dataclass(slots=True)
class BotReplayResult:
    """What happened. ``complete`` is false where it was interrupted."""

    options: BotReplayOptions
    settings: BotSettings
    switches: Switches
    ledger: MemoryLedger
    venue: LocalVenue
    instrument: Instrument
    equity: list[EquityPoint] = field(default_factory=list)
    denials: dict[str, int] = field(default_factory=dict)
    trades: int = 0
    predictions: int = 0
    decisions: int = 0
    exposed_minutes: int = 0
    unprotected_seconds: float = 0.0
    largest_confidence: float | None = None
    first: int = 0
    last: int = 0
    complete: bool = False


def instrument_of(symbol: str, trades: Iterable[Trade]) -> Instrument:
    """Tick and lot as fine as a sample of the recording writes prices and quantities."""
    prices = quantities = 0
    for trade in trades:
        prices = max(prices, _places(trade.price))
        quantities = max(quantities, _places(trade.quantity))
    lot, tick = Decimal(1).scaleb(-min(quantities, 8)), Decimal(1).scaleb(-min(prices, 8))
    return Instrument(symbol, lot, tick, protective_pair=True)  # as at the simulated venue


def _places(value: float) -> int:
    return max(-int(exact(value).normalize().as_tuple().exponent), 0)


def bar_reaches(trades: Sequence[Trade]) -> dict[int, tuple[Decimal, Decimal]]:
    """Low and high of the bar that each of these trades was made from, by its time: four a bar, in order."""
    found = {}
    for number in range(0, len(trades), TRADES_A_BAR):
        bar = trades[number : number + TRADES_A_BAR]
        reach = exact(min(t.price for t in bar)), exact(max(t.price for t in bar))
        found.update({t.received_at: reach for t in bar})
    return found


class BotReplay:
    """One bot over one recording."""

    def __init__(
        self,
        trades: Sequence[Trade],
        settings: BotSettings,
        model: RowModel,
        switches: Switches,
        options: BotReplayOptions,
        instrument: Instrument | None = None,
        *,
        from_bars: bool = False,
    ) -> None:
        """With ``from_bars`` the trades are those of ``bar_trades``, and no fill lies outside its bar.

        Raises ConfigError where the recording has no trade of the bot's symbol.
        """
        self._trades = [t for t in trades if t.symbol == settings.symbol]
        if not self._trades:
            found = ", ".join(sorted({t.symbol for t in trades})) or "no trades"
            raise ConfigError(f"symbol: the recording has no trade of {settings.symbol}, it has {found}")
        self._reach = bar_reaches(self._trades) if from_bars else {}
        dice = random.Random(options.seed)  # noqa: S311 - repeatable on purpose
        self._clock = ReplayClock(self._trades[0].received_at)
        calendar = TradingCalendar(ZoneInfo(options.day_zone))
        ledger = MemoryLedger(self._clock, calendar, switches)
        known = instrument or instrument_of(settings.symbol, self._trades[:SAMPLE])
        symbol = self._symbol = settings.symbol
        venue = LocalVenue(self._clock, {symbol: known}, options.cash, options.engine, dice.random)
        desk = OrderDesk(venue, ledger, ledger, self._clock, _silent, lambda _name: nullcontext(), 60.0)
        venue.stream_updates(desk.take_update)
        desk.on_change = self._changed
        self._sender = OrderSender(ACCOUNT, venue, desk, ledger, self._clock, calendar, lambda: ledger.switches)
        self._sender.switches, self._sender.epoch = switches, ledger.epoch
        running = settings.model_copy(update={"enabled": True})
        self._bot = BotRunner(
            running, self._sender, desk, ledger, venue, self._clock, _silent, lambda: f"{dice.getrandbits(56):014x}"
        )
        self._posted: list[Decision | Crossing] = []
        self._pipeline = Pipeline([symbol], self._posted.append, options.rhythm)
        self._line = self._pipeline.lines[symbol]
        self._lane = Lane(running, FixedModel(model))
        self._line.lanes = (self._lane,)
        self._low, self._high, self._dirty = -FAR, FAR, False
        self._minute = self._tick_at = 0
        self.result = BotReplayResult(options, running, switches, ledger, venue, known)

    @property
    def total(self) -> int:
        return len(self._trades)

    def run(
        self, progress: Callable[[int], None], pace: Callable[[int], None] | None = None, every: int = 20_000
    ) -> BotReplayResult:
        """Trade by trade. KeyboardInterrupt leaves what ran in ``result``."""
        result, take, posted = self.result, self._pipeline.on_trade, self._posted
        first = self._trades[0].received_at
        result.first = first
        self._tick_at = first - first % TICK + TICK
        self._minute = first - first % MINUTE + MINUTE
        self._pipeline.on_live(first)
        manager = self._bot.manager
        manager.on_switch(on=True)
        manager.on_feed(self._clock.monotonic(), live=True)
        done, told = 0, every
        try:
            tick_at, low, high = self._tick_at, self._low, self._high
            for trade in self._trades:
                if trade.received_at >= tick_at:
                    self._pass_time(trade.received_at)
                    if pace is not None:
                        pace(trade.received_at)
                    tick_at, low, high = self._tick_at, self._low, self._high
                    if done >= told:
                        told = done + every
                        progress(done)
                price = trade.price
                if price <= low or price >= high:
                    self._match(trade)
                    low, high = self._low, self._high
                take(trade)
                if posted:
                    self._handle(trade.received_at)
                    low, high = self._low, self._high
                done += 1
            result.complete = True
        finally:
            result.trades = done
            self._finish()
        progress(done)
        return result

    # -- the market -----------------------------------------------------------------------------------------------

    def _match(self, trade: Trade) -> None:
        """A trade that may fill something."""
        self._clock.micros = max(self._clock.micros, trade.received_at)
        self.result.venue.trade(self._symbol, exact(trade.price), self._reach.get(trade.received_at))
        self._act()

    def _act(self) -> None:
        """Whatever is due, and then the prices at which something may happen next."""
        self._mark()
        self._bot.act()
        self._aim()

    def _mark(self) -> None:
        """The venue and the bot know the last trade."""
        last = self._line.last
        if last is not None:
            self.result.venue.engine.mark(self._symbol, last.price)
            self._bot.on_price(self._symbol, LastPrice(exact(last.price), moment_of(last.received_at)))
        venue = self.result.venue
        self._sender.snapshot = Snapshot(self._clock.now(), tuple(venue.positions()), venue.account(), ())

    def _aim(self) -> None:
        """Prices at which a working order fills, and the highest stop-loss."""
        low, high = -FAR, FAR
        for order in self.result.venue.engine.working():
            if order.type is OrderType.MARKET or order.limit_price is None:
                low = high = 0.0
                break
            if order.side is Side.BUY:
                low = max(low, float(order.limit_price))
            else:
                high = min(high, float(order.limit_price))
                low = low if order.stop_price is None else max(low, float(order.stop_price))
        self._low, self._high = (FAR, FAR) if low == high == 0.0 else (low, high)
        stop = self._bot.manager.highest_stop(self._symbol)
        self._line.stop = -FAR if stop is None else float(stop)

    def _changed(self, change: Change) -> None:
        self._bot.on_change(change)
        for before, after in change.moved:
            self._bot.on_position(before, after, by_own=True)

    # -- time and decisions ---------------------------------------------------------------------------------------

    def _pass_time(self, until: int) -> None:
        """Four looks a second, as live: candles that no trade completes, timeouts, the equity of each minute."""
        while self._tick_at <= until:
            at = self._clock.micros = self._tick_at
            self._pipeline.tick(at)
            if self._posted:
                self._handle(at)
            if self._bot.manager.next_due <= at / 1e6:
                self._act()
            if at >= self._minute:
                self._keep()
                self._minute += MINUTE
            self._tick_at += TICK
        self._clock.micros = until

    def _handle(self, at: int) -> None:
        self._clock.micros = max(self._clock.micros, at)
        while self._posted:
            items = self._posted[:]
            self._posted.clear()
            for item in items:
                if isinstance(item, Decision):
                    self._decide(item)
        self._act()

    def _decide(self, decision: Decision) -> None:
        result, manager = self.result, self._bot.manager
        result.decisions += 1
        if len(manager.positions) >= manager.settings.max_positions:
            self._count("max_positions")
            return
        self._mark()
        last = LastPrice(exact(decision.price), moment_of(decision.received_at))
        why = self._bot.enter(decision.symbol, exact(decision.bid), last, decision.confidence, f"r{decision.second}")
        if why:
            self._count(why.partition(":")[0])

    def _count(self, code: str) -> None:
        self.result.denials[code] = self.result.denials.get(code, 0) + 1

    def _keep(self) -> None:
        book = self.result.venue.engine.book
        holding = book.holdings.get(self._symbol)
        held = holding.qty if holding is not None else Decimal(0)
        last = self._line.last
        value = held * exact(last.price) if held and last is not None else Decimal(0)
        if held:
            self.result.exposed_minutes += 1
        self.result.equity.append((self._clock.now(), book.cash, value))

    def _finish(self) -> None:
        result = self.result
        self._keep()
        result.last = self._clock.micros
        result.predictions = self._lane.predictions
        result.unprotected_seconds = self._bot.manager.unprotected_seconds(self._clock.monotonic())


def _silent(_kind: str, /, **_fields: object) -> None:
    """A replay tells nothing but its report."""
