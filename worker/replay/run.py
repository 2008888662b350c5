"""Replay: the very cycle code that trades, over recorded bars, against the simulated venue, on an injected clock."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby, repeat
from operator import attrgetter, itemgetter
from zoneinfo import ZoneInfo

from shared.clock import ManualClock, TradingCalendar
from shared.errors import ConfigError
from worker.core.fills import EngineOptions, exact
from worker.core.risk import Denial
from worker.core.types import AccountState, Bar, Instrument, OrderType, VenuePosition
from worker.feeds.bars import BarSeries, open_at, session_hours
from worker.replay.predictor import ReplayPredictor
from worker.trading.cycle import Cycle, CycleOptions, CycleReport
from worker.trading.desk import OrderDesk
from worker.trading.memory import MemoryLedger
from worker.trading.ports import Switches
from worker.venues.simulated.local import LocalVenue

ACCOUNT = "replay"
ZERO = Decimal(0)
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What a replay is run with. ``seed`` decides everything that is random."""

    cash: Decimal = Decimal(100_000)
    cycle_seconds: float = 600.0
    order_type: OrderType = OrderType.MARKET
    limit_offset_pct: Decimal = Decimal("0.0005")
    day_zone: str = "America/New_York"
    engine: EngineOptions = field(default_factory=EngineOptions)
    seed: int = 6


EquityPoint = tuple[datetime, Decimal, Decimal]
"""Time, cash and the value of what is held, at a bar's close: a bare tuple, since there is one for every bar."""


@dataclass(slots=True)
class ReplayResult:
    """What happened. ``complete`` is false where it was interrupted."""

    options: ReplayOptions
    switches: Switches
    ledger: MemoryLedger
    venue: LocalVenue
    equity: list[EquityPoint] = field(default_factory=list)
    denials: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    cycles: int = 0
    bars: int = 0
    exposed_bars: int = 0
    largest_prediction: float | None = None
    complete: bool = False


def tick_size(series: BarSeries) -> Decimal:
    """The finest step that the file's prices use, at least a cent's worth of digits for stocks."""
    sample = series.bars[:: max(len(series.bars) // 200, 1)]
    digits = max(-int(exact(p).as_tuple().exponent) for b in sample for p in (b.open, b.high, b.low, b.close))
    return Decimal(1).scaleb(-min(max(digits, 2), 8))


class BarRead:
    """See ``ports.VenueRead``: the venue as it stands at a bar's close, asked only where a signal needs it."""

    external: frozenset[str] = frozenset()
    drift = ""

    def __init__(self, read_at: datetime, venue: LocalVenue) -> None:
        self.read_at, self._venue = read_at, venue
        self._positions: Sequence[VenuePosition] | None = None
        self._account: AccountState | None = None

    @property
    def positions(self) -> Sequence[VenuePosition]:
        if self._positions is None:
            self._positions = self._venue.positions()
        return self._positions

    @property
    def account(self) -> AccountState:
        if self._account is None:
            self._account = self._venue.account()
        return self._account


class Replay:
    """One replay of one or several series on the same clock."""

    def __init__(
        self, series: Sequence[BarSeries], switches: Switches, predictor: ReplayPredictor, options: ReplayOptions
    ) -> None:
        if not series:
            raise ConfigError("nothing to replay")
        self._series, self._options = series, options
        dice = random.Random(options.seed)  # noqa: S311 - repeatable on purpose
        self._clock = ManualClock(min(s.bars[0].start for s in series))
        calendar = TradingCalendar(ZoneInfo(options.day_zone))
        ledger = MemoryLedger(self._clock, calendar, switches)
        instruments = {s.ticker: Instrument(s.ticker, tick_size=tick_size(s)) for s in series}
        venue = LocalVenue(self._clock, instruments, options.cash, options.engine, dice.random, _hours(series))
        desk = OrderDesk(venue, ledger, ledger, self._clock, _silent, lambda _name: nullcontext(), 60.0)
        venue.stream_updates(desk.take_update)
        self._cycle = Cycle(
            ACCOUNT,
            venue,
            predictor,
            desk,
            ledger,
            self._clock,
            calendar,
            _silent,
            CycleOptions(tuple(instruments), options.order_type, options.limit_offset_pct),
            lambda: f"{dice.getrandbits(56):014x}",
            lambda: ledger.switches,
            _nothing,
        )
        self.result = ReplayResult(options, switches, ledger, venue, largest_prediction=predictor.largest())

    @property
    def total_bars(self) -> int:
        return sum(len(s.bars) for s in self._series)

    def run(self, progress: Callable[[int], None], every: int = 2000) -> ReplayResult:
        """Bar by bar; ``progress`` is told how many are done. KeyboardInterrupt leaves what ran in ``result``."""
        result, venue, clock = self.result, self.result.venue, self._clock
        advance, book, keep = venue.advance, venue.engine.book, result.equity.append
        due = datetime.min.replace(tzinfo=self._clock.now().tzinfo)
        period = timedelta(seconds=self._options.cycle_seconds)
        move, worth = clock.set, venue.engine.positions_value
        done, exposed, told = 0, 0, every
        try:
            for start, bars in self._minutes():
                move(start)
                for ticker, bar in bars:
                    advance(ticker, bar)
                    done += 1
                now = start + MINUTE
                move(now)
                if now >= due:
                    due = now + period
                    self._decide()
                value = worth() if book.holdings else ZERO
                if value:
                    exposed += 1
                keep((now, book.cash, value))
                if done >= told:
                    told = done + every
                    progress(done)
            result.complete = True
        finally:
            result.bars, result.exposed_bars = done, exposed
        progress(done)
        return result

    def _decide(self) -> None:
        result = self.result
        read = BarRead(self._clock.now(), result.venue)
        report: CycleReport = self._cycle.run(result.ledger.switches, result.ledger.epoch, read)
        result.cycles += 1
        for _ticker, denial in report.denials:
            self._count(denial)
        result.errors += report.errors

    def _count(self, denial: Denial) -> None:
        self.result.denials[denial.code] = self.result.denials.get(denial.code, 0) + 1

    def _minutes(self) -> Iterable[tuple[datetime, Sequence[tuple[str, Bar]]]]:
        """Every minute with its bars by ticker."""
        if len(self._series) == 1:
            ticker, bars = self._series[0].ticker, self._series[0].bars
            return zip(map(attrgetter("start"), bars), zip(zip(repeat(ticker), bars)))  # noqa: B905 - one is endless
        return self._merged()

    def _merged(self) -> Iterator[tuple[datetime, list[tuple[str, Bar]]]]:
        rows = sorted(((b.start, s.ticker, b) for s in self._series for b in s.bars), key=itemgetter(0, 1))
        for start, group in groupby(rows, key=itemgetter(0)):
            yield start, [(ticker, bar) for _, ticker, bar in group]


def _hours(series: Sequence[BarSeries]) -> Callable[[datetime], bool] | None:
    """When the venue is open: session hours where any series has sessions, always where none has."""
    if not any(s.sessions for s in series):
        return None
    first, last = min(s.bars[0].start for s in series), max(s.bars[-1].start for s in series)
    return open_at(session_hours(first, last))


def split_for_training(series: Sequence[BarSeries]) -> tuple[list[BarSeries], list[BarSeries]]:
    """First half to train on, second half to replay; a row's target ends inside the first half, so one horizon of
    its end is never a row. Raises ConfigError where a half is empty."""
    early, late = [], []
    for one in series:
        middle = len(one.bars) // 2
        if not middle:
            raise ConfigError(f"{one.ticker}: too few bars to train on the first half; give --train FILE")
        early.append(BarSeries(one.ticker, one.bars[:middle], one.sessions))
        late.append(BarSeries(one.ticker, one.bars[middle:], one.sessions))
    return early, late


def refuse_overlap(train: Sequence[BarSeries], replay: Sequence[BarSeries]) -> None:
    """A model must know nothing of the replayed span. Raises ConfigError."""
    last = max(s.bars[-1].start for s in train) + MINUTE
    first = min(s.bars[0].start for s in replay)
    if last > first:
        raise ConfigError(
            f"the training bars end at {last.isoformat()}, after the replay begins at {first.isoformat()}: "
            "a model that has seen the replayed span proves nothing; give earlier files to --train"
        )


def _silent(_kind: str, /, **_fields: object) -> None:
    """A replay tells its story in the report."""


def _nothing() -> None:
    """No signs of life are needed, and the venue tells everything at once."""
