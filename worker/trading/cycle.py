"""The cycle of the default bot: positions, predictions, decisions, orders. The same code trades live and in replay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

from shared.clock import Clock, TradingCalendar
from shared.documents import RiskSettings, TradingSettings
from shared.errors import PredictionError, SixbotError, StoreError
from worker.core import ids
from worker.core.decide import entry_size, exit_size, passive_limit, signal, thresholds
from worker.core.orders import EXTERNAL, Order, micros
from worker.core.positions import Position
from worker.core.risk import HELD_BY_OTHERS, BookView, Denial, Intent, MarketView, judge_intent
from worker.core.types import (
    Effect,
    Instrument,
    LastPrice,
    MarketClock,
    OrderState,
    OrderType,
    Prediction,
    Side,
    TimeInForce,
    VenuePosition,
)
from worker.failpoints import failpoint
from worker.predictors.base import Predictor
from worker.trading.desk import UNRESOLVED, OrderDesk
from worker.trading.ports import Book, Notes, Switches, Ticket
from worker.trading.reconcile import Snapshot
from worker.venues.base import Venue

ZERO = Decimal(0)
ANY_HOLDING = Decimal(1)
BOT_ID = 1
_OURS = frozenset({str(BOT_ID), EXTERNAL})
T = TypeVar("T", Order, Position)
_ATTEMPTS_AFTER_A_CHANGE = 3


@dataclass(frozen=True, slots=True)
class CycleOptions:
    """What configuration says about the cycle's orders."""

    tickers: tuple[str, ...]
    order_type: OrderType = OrderType.MARKET
    limit_offset_pct: Decimal = Decimal("0.0005")


@dataclass(slots=True)
class CycleReport:
    """What one cycle did and why it did no more; ``aborted`` says why the rest was not looked at."""

    run_id: str
    submitted: list[Order] = field(default_factory=list)
    denials: list[tuple[str, Denial]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    predictions: dict[str, Prediction] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    market: MarketClock | None = None
    aborted: str = ""


class Cycle:
    """One account's cycle. ``progress`` is called between tickers, so that a long cycle keeps its signs of life."""

    def __init__(
        self,
        account: str,
        venue: Venue,
        predictor: Predictor,
        desk: OrderDesk,
        book: Book,
        clock: Clock,
        calendar: TradingCalendar,
        notes: Notes,
        options: CycleOptions,
        entropy: Callable[[], str],
        read_switches: Callable[[], Switches],
        progress: Callable[[], None],
    ) -> None:
        self._account, self._venue, self._predictor = account, venue, predictor
        self._desk, self._book, self._clock, self._calendar = desk, book, clock, calendar
        self._notes, self._options, self._entropy = notes, options, entropy
        self._read_switches, self._progress = read_switches, progress
        self._instruments: dict[str, Instrument] = {}
        self._thresholds: tuple[TradingSettings, tuple[Decimal, Decimal]] | None = None

    def run(self, switches: Switches, epoch: int, snapshot: Snapshot) -> CycleReport:
        """One cycle on what ``snapshot`` found. Raises StoreUnreachable and VenueUnavailable; the caller pauses."""
        report = CycleReport(run_id=self._entropy())
        report.market = self._venue.clock()
        if not report.market.is_open:
            report.aborted = "the market is closed"
            return report
        if not self._predict(switches, report):
            return report
        run = _Run(self, report, switches, epoch, snapshot)
        for ticker in run.in_order():
            self._progress()
            if not run.consider(ticker):
                break
        return report

    def _predict(self, switches: Switches, report: CycleReport) -> bool:
        stale = float(switches.risk.value.stale_data_seconds)
        try:
            found = self._predictor.predict(self._options.tickers, self._venue, self._clock.now(), stale)
        except PredictionError as error:
            report.aborted = f"no prediction: {error}"
            return False
        report.predictions, report.notes = dict(found.predictions), dict(found.notes)
        return True

    def thresholds(self, settings: TradingSettings) -> tuple[Decimal, Decimal]:
        """Made anew only for other settings."""
        if self._thresholds is None or self._thresholds[0] is not settings:
            self._thresholds = (settings, thresholds(settings))
        return self._thresholds[1]

    def instrument(self, ticker: str) -> Instrument:
        """Cached for the life of the process: lot and tick sizes do not change under an order."""
        found = self._instruments.get(ticker)
        if found is None:
            found = self._instruments[ticker] = self._venue.instrument(ticker)
        return found


class _Run:
    """One pass over the tickers."""

    def __init__(self, cycle: Cycle, report: CycleReport, switches: Switches, epoch: int, snapshot: Snapshot) -> None:
        self._cycle, self._report, self._switches = cycle, report, switches
        self._epoch, self._snapshot = epoch, snapshot
        self._buying_power = snapshot.account.buying_power
        self._day_pnl: tuple[Decimal | None] | None = None
        self._seen: tuple[tuple[object, ...], BookView] | None = None
        self._bought: dict[str, Decimal] = {}

    def in_order(self) -> Sequence[str]:
        """Exits before entries, so that what reduces exposure is never crowded out; then the strongest first."""
        predictions = self._report.predictions
        if len(predictions) < 2:
            return list(predictions)
        held = _held(_mine(self._cycle._book.open_positions()))

        def rank(ticker: str) -> tuple[bool, float]:
            change = predictions[ticker].change_pct
            return not (change < 0 and held.get(ticker, ZERO) > 0), -abs(change)

        return sorted((t for t in self._cycle._options.tickers if t in predictions), key=rank)

    def consider(self, ticker: str) -> bool:
        """Decide on one ticker and act; False ends the run."""
        try:
            return self._consider(ticker)
        except StoreError:
            raise
        except SixbotError as error:
            self._report.errors.append(f"{ticker}: {error}")
        except (ArithmeticError, ValueError, KeyError, TypeError, AttributeError) as error:
            # A fault in one ticker's data or code must not cost the others their turn; it is shown, not swallowed.
            self._report.errors.append(f"{ticker}: {type(error).__name__}: {error}")
        return True

    def _consider(self, ticker: str) -> bool:
        change = Decimal(repr(float(self._report.predictions[ticker].change_pct)))
        for _ in range(_ATTEMPTS_AFTER_A_CHANGE):
            settings, limits = self._switches.settings.value, self._switches.risk.value
            buy_above, sell_below = self._cycle.thresholds(settings)
            if signal(change, buy_above, sell_below, ANY_HOLDING) is None:
                return True  # nothing to do whatever is held, so the book need not be read
            view = self._view()
            side = signal(change, buy_above, sell_below, view.held.get(ticker, ZERO))
            if side is None:
                return True
            last, instrument = self._market(ticker)
            intent = self._intent(ticker, side, settings, view, last, instrument)
            if intent is None:
                return True
            market = MarketView(self._cycle._clock.now(), self._open(), last, instrument)
            denial = judge_intent(intent, view, limits, market) or self._submit(intent, limits)
            if denial is None:
                return True
            if denial.code != "SETTINGS_CHANGED":
                return self._denied(ticker, denial)
            self._switches = self._cycle._read_switches()
            if not self._switches.on:
                self._report.aborted = "switched off during the cycle"
                return False
        return self._denied(ticker, Denial("SETTINGS_CHANGED", "the settings keep changing"))

    def _denied(self, ticker: str, denial: Denial) -> bool:
        self._report.denials.append((ticker, denial))
        self._cycle._notes("denied", ticker=ticker, code=denial.code, detail=denial.detail)
        if denial.code in {"EPOCH_CHANGED", "NOT_ARMED", "LEASE_LOST", "SWITCHED_OFF", "EMERGENCY_STOP"}:
            self._report.aborted = str(denial)
            return False
        return denial.code != "TRADES_PER_RUN"

    def _market(self, ticker: str) -> tuple[LastPrice, Instrument]:
        return self._cycle._venue.last_price(ticker), self._cycle.instrument(ticker)

    def _open(self) -> bool | None:
        return None if self._report.market is None else self._report.market.is_open

    def _intent(
        self,
        ticker: str,
        side: Side,
        settings: TradingSettings,
        view: BookView,
        last: LastPrice,
        instrument: Instrument,
    ) -> Intent | None:
        held = view.held.get(ticker, ZERO)
        if side is Side.BUY:
            # The book's own figure, too: a list of positions that is late or wrong must not buy a second time.
            effect, qty = Effect.ENTRY, entry_size(settings, max(held, self._bought.get(ticker, ZERO)), instrument)
        else:
            effect, qty = Effect.EXIT, exit_size(settings, held - view.selling.get(ticker, ZERO), instrument)
        if qty <= 0:
            return None
        options = self._cycle._options
        limit = None
        if options.order_type is OrderType.LIMIT:
            limit = passive_limit(side, last.price, options.limit_offset_pct, instrument.tick_size)
        change = self._report.predictions[ticker].change_pct
        direction = "positive" if change > 0 else "negative"
        reason = f"ML prediction {direction} ({change:+.4f}, {self._report.predictions[ticker].source})"
        return Intent(ticker, side, effect, qty, last.price, options.order_type, limit, reason)

    def _view(self) -> BookView:
        """The book as it stands; read again once anything was sent or heard of, the switches or the day changed."""
        cycle = self._cycle
        today = cycle._calendar.day_of(cycle._clock.now()).name
        as_of = (cycle._desk.changes, today, self._switches)  # taken before the reading: a change within it counts
        if self._seen is None or self._seen[0] != as_of:
            self._seen = (as_of, self._read_view(today))
        return self._seen[1]

    def _profit(self, today: str) -> Decimal | None:
        """The day's profit when the run first needed it."""
        if self._day_pnl is None:
            self._day_pnl = (day_pnl(self._cycle._book, self._snapshot, today),)
        return self._day_pnl[0]

    def _read_view(self, today: str) -> BookView:
        cycle = self._cycle
        orders, positions = cycle._book.open_orders(), cycle._book.open_positions()
        figures = cycle._book.day(today)
        frozen = {o.ticker: o.state.value for o in orders if o.state in UNRESOLVED}
        frozen |= dict.fromkeys(self._snapshot.external - frozen.keys(), HELD_BY_OTHERS)
        at_venue = {p.ticker: p.signed_qty for p in self._snapshot.positions}
        held, mine = _held(_mine(positions)), _mine(orders)
        self._bought = held
        if cycle._desk.last_fill_at is None or cycle._desk.last_fill_at < self._snapshot.read_at:
            held = {t: min(q, at_venue.get(t, ZERO)) for t, q in held.items()}
        return BookView(
            held=held,
            working=frozenset(o.ticker for o in mine),
            frozen=frozen,
            selling=_selling(mine),
            open_tickers=frozenset(p.symbol for p in positions)
            | {o.ticker for o in orders if o.effect is Effect.ENTRY},
            day=figures.counters,
            last_trade=figures.last_trade,
            run_orders=len(self._report.submitted),
            day_pnl=self._profit(today),
            buying_power=self._buying_power,
            enabled=self._switches.on,
            reducing=self._snapshot.drift,
        )

    def _submit(self, intent: Intent, limits: RiskSettings) -> Denial | None:
        failpoint("intent.decided")
        cycle, now = self._cycle, self._cycle._clock.now()
        day = cycle._calendar.day_of(now)
        if day != cycle._calendar.day_of(self._snapshot.read_at):
            return Denial("WRONG_DAY", f"{day.name} began during the cycle")
        name = ids.mint(intent.effect, BOT_ID, cycle._entropy())
        positions = {p.symbol: p.id for p in _mine(cycle._book.open_positions())}
        order = Order(
            client_order_id=name,
            account=cycle._account,
            bot_id=str(BOT_ID),
            ticker=intent.ticker,
            side=intent.side,
            effect=intent.effect,
            qty=intent.qty,
            type=intent.type,
            time_in_force=TimeInForce.DAY if cycle._venue.capabilities.sessions else TimeInForce.GTC,
            limit_price=intent.limit_price,
            ref_price=intent.ref_price,
            state=OrderState.INTENT,
            reason=intent.reason,
            created_at=now,
            updated_at=now,
            epoch=self._epoch,
            trading_day=day.name,
            reserved=micros(intent.notional),
            position_id=positions.get(intent.ticker, name),
            least_qty=cycle.instrument(intent.ticker).least_qty,
        )
        failpoint("intent.minted")
        result = cycle._desk.submit(Ticket(order, self._switches, day, self._report.run_id))
        if isinstance(result, Denial):
            return result
        failpoint("intent.done")
        self._report.submitted.append(result)
        if intent.effect is Effect.ENTRY and self._buying_power is not None:
            self._buying_power -= intent.notional
        return None


def _mine(found: Sequence[T]) -> list[T]:
    """What is the cycle bot's, or nobody's that we know: stream bots manage theirs, on the same account."""
    return [one for one in found if one.bot_id in _OURS]


def _held(positions: Sequence[Position]) -> dict[str, Decimal]:
    held: dict[str, Decimal] = {}
    for position in positions:
        held[position.symbol] = held.get(position.symbol, ZERO) + position.signed_qty
    return held


def _selling(orders: Sequence[Order]) -> dict[str, Decimal]:
    selling: dict[str, Decimal] = {}
    for order in orders:
        if order.side is Side.SELL:
            selling[order.ticker] = selling.get(order.ticker, ZERO) + order.open_qty
    return selling


def day_pnl(book: Book, snapshot: Snapshot, today: str) -> Decimal | None:
    """Profit of the day as the loss limit sees it: round trips closed today, and what is open at the venue's marks.

    What the venue does not list, or lists with nothing held, is worth what it cost: such a drift denies by itself.
    """
    tally = book.stats().by_day.get(today)
    total = tally.pnl if tally is not None else ZERO
    marks = {p.ticker: p for p in snapshot.positions}
    for position in book.open_positions():
        mark = marks.get(position.symbol)
        if mark is not None:
            total += unrealized(position, mark)
    return total if total.is_finite() else None


def unrealized(position: Position, mark: VenuePosition) -> Decimal:
    """Profit of what is open, at the venue's mark."""
    if mark.signed_qty == position.signed_qty:
        return mark.unrealized_pl
    if not mark.qty:
        return ZERO
    return position.unrealized_pnl(mark.market_value / mark.signed_qty)  # others hold some of it too
