"""One pass of the cycle over its tickers: decide on each, judge, submit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

import msgspec

from shared.documents import TradingSettings
from shared.errors import SixbotError, StoreError
from worker.core import ids
from worker.core.decide import entry_size, exit_size, passive_limit, signal
from worker.core.orders import Order, micros
from worker.core.risk import BookView, Denial, Intent, MarketView, judge_intent
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
)
from worker.failpoints import failpoint
from worker.trading.cycle_tools import Tools
from worker.trading.cycle_view import BOT_ID, Look, held_of, mine, read_view
from worker.trading.ports import Switches, Ticket, VenueRead
from worker.trading.profit import day_pnl

ZERO = Decimal(0)
ANY_HOLDING = Decimal(1)
_ATTEMPTS_AFTER_A_CHANGE = 3


class CycleReport(msgspec.Struct):
    """What one cycle did and why it did no more; ``aborted`` says why the rest was not looked at."""

    run_id: str
    submitted: list[Order] = msgspec.field(default_factory=list)
    denials: list[tuple[str, Denial]] = msgspec.field(default_factory=list)
    errors: list[str] = msgspec.field(default_factory=list)
    predictions: Mapping[str, Prediction] = msgspec.field(default_factory=dict)
    notes: Mapping[str, str] = msgspec.field(default_factory=dict)
    market: MarketClock | None = None
    aborted: str = ""
    market_at: datetime | None = None
    predicted_at: datetime | None = None


class CycleRun:
    """One pass over the tickers."""

    def __init__(self, tools: Tools, report: CycleReport, switches: Switches, epoch: int, snapshot: VenueRead) -> None:
        self._tools, self._report, self._switches = tools, report, switches
        self._epoch, self._snapshot = epoch, snapshot
        self._spent = ZERO
        self._day_pnl: tuple[Decimal | None] | None = None
        self._seen: Look | None = None

    def in_order(self) -> Sequence[str]:
        """Exits before entries, so that what reduces exposure is never crowded out; then the strongest first."""
        predictions = self._report.predictions
        if len(predictions) < 2:
            return list(predictions)
        held = held_of(mine(self._tools.book.open_positions()))

        def rank(ticker: str) -> tuple[bool, float]:
            change = predictions[ticker].change_pct
            return not (change < 0 and held.get(ticker, ZERO) > 0), -abs(change)

        return sorted((t for t in self._tools.options.tickers if t in predictions), key=rank)

    def follow(self, snapshot: VenueRead) -> None:
        """Go on with what the venue was found to hold meanwhile."""
        self._snapshot, self._spent = snapshot, ZERO
        self._day_pnl = self._seen = None

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
        prediction = self._report.predictions.get(ticker)
        if prediction is None:
            return True  # no longer: a long cycle asked once more
        predicted = float(prediction.change_pct)
        for _ in range(_ATTEMPTS_AFTER_A_CHANGE):
            settings, limits = self._switches.settings.value, self._switches.risk.value
            levels = self._tools.levels(settings)
            if levels.quiet[0] < predicted < levels.quiet[1]:
                return True
            change = Decimal(repr(predicted))
            if signal(change, levels.buy_above, levels.sell_below, ANY_HOLDING) is None:
                return True  # nothing to do whatever is held, so the book need not be read
            look = self._look()
            side = signal(change, levels.buy_above, levels.sell_below, look.held.get(ticker, ZERO))
            if side is None:
                return True
            last, instrument = self._market(ticker)
            intent = self._intent(ticker, side, settings, look, last, instrument)
            if intent is None:
                return True
            market = MarketView(self._tools.clock.now(), self._open(), last, instrument)
            denial = judge_intent(intent, self._view(look), limits, market) or self._submit(intent)
            if denial is None:
                return True
            if denial.code != "SETTINGS_CHANGED":
                return self._denied(ticker, denial)
            self._switches = self._tools.read_switches()
            if not self._switches.on:
                self._report.aborted = "switched off during the cycle"
                return False
        return self._denied(ticker, Denial("SETTINGS_CHANGED", "the settings keep changing"))

    def _denied(self, ticker: str, denial: Denial) -> bool:
        self._report.denials.append((ticker, denial))
        self._tools.notes("denied", ticker=ticker, code=denial.code, detail=denial.detail)
        if denial.code in {"EPOCH_CHANGED", "NOT_ARMED", "LEASE_LOST", "SWITCHED_OFF", "EMERGENCY_STOP"}:
            self._report.aborted = str(denial)
            return False
        return denial.code != "TRADES_PER_RUN"

    def _market(self, ticker: str) -> tuple[LastPrice, Instrument]:
        return self._tools.venue.last_price(ticker), self._tools.instrument(ticker)

    def _open(self) -> bool | None:
        market, read_at = self._report.market, self._report.market_at
        if market is None or read_at is None:
            return None
        passed = self._tools.clock.now() - read_at
        return market.is_open and (market.next_close is None or market.now + passed < market.next_close)

    def _intent(
        self,
        ticker: str,
        side: Side,
        settings: TradingSettings,
        look: Look,
        last: LastPrice,
        instrument: Instrument,
    ) -> Intent | None:
        held = look.held.get(ticker, ZERO)
        if side is Side.BUY:
            # The book's own figure, too: a list of positions that is late or wrong must not buy a second time.
            booked = look.booked.get(ticker, ZERO)
            effect, qty = Effect.ENTRY, entry_size(settings, max(held, booked), instrument)
        else:
            effect, qty = Effect.EXIT, exit_size(settings, held - look.selling.get(ticker, ZERO), instrument)
        if qty <= 0:
            return None
        options = self._tools.options
        limit = None
        if options.order_type is OrderType.LIMIT:
            limit = passive_limit(side, last.price, options.limit_offset_pct, instrument.tick_size)
        change = self._report.predictions[ticker].change_pct
        direction = "positive" if change > 0 else "negative"
        reason = f"ML prediction {direction} ({change:+.4f}, {self._report.predictions[ticker].source})"
        return Intent(ticker, side, effect, qty, last.price, options.order_type, limit, reason)

    def _look(self) -> Look:
        """The book as it stands; read again once anything was sent or heard of, the switches or the day changed."""
        tools = self._tools
        today = tools.calendar.day_of(tools.clock.now()).name
        as_of = (tools.desk.changes, today, self._switches)  # taken before the reading: a change within it counts
        if self._seen is None or self._seen.as_of != as_of:
            self._seen = Look(tools.book, tools.desk, self._snapshot, as_of)
        return self._seen

    def _view(self, look: Look) -> BookView:
        """What the rules ask of it, which only an intent is worth."""
        if look.view is None:
            look.view = read_view(
                look,
                self._tools.book.day(look.today),
                self._snapshot,
                run_orders=len(self._report.submitted),
                day_pnl=self._profit(look.today),
                buying_power=self._snapshot.account.buying_power - self._spent,
                enabled=self._switches.on,
            )
        return look.view

    def _profit(self, today: str) -> Decimal | None:
        """The day's profit when the run first needed it."""
        if self._day_pnl is None:
            self._day_pnl = (day_pnl(self._tools.book, self._snapshot, today),)
        return self._day_pnl[0]

    def _submit(self, intent: Intent) -> Denial | None:
        failpoint("intent.decided")
        tools, now = self._tools, self._tools.clock.now()
        day = tools.calendar.day_of(now)
        if day != tools.calendar.day_of(self._snapshot.read_at):
            return Denial("WRONG_DAY", f"{day.name} began during the cycle")
        name = ids.mint(intent.effect, BOT_ID, tools.entropy())
        order = Order(
            client_order_id=name,
            account=tools.account,
            bot_id=str(BOT_ID),
            ticker=intent.ticker,
            side=intent.side,
            effect=intent.effect,
            qty=intent.qty,
            type=intent.type,
            time_in_force=TimeInForce.DAY if tools.venue.capabilities.sessions else TimeInForce.GTC,
            limit_price=intent.limit_price,
            ref_price=intent.ref_price,
            state=OrderState.INTENT,
            reason=intent.reason,
            created_at=now,
            updated_at=now,
            epoch=self._epoch,
            trading_day=day.name,
            reserved=micros(intent.notional),
            position_id=self._look().position_ids.get(intent.ticker, name),
            least_qty=tools.instrument(intent.ticker).least_qty,
        )
        failpoint("intent.minted")
        result = tools.desk.submit(Ticket(order, self._switches, day, self._report.run_id))
        if isinstance(result, Denial):
            return result
        failpoint("intent.done")
        self._report.submitted.append(result)
        if intent.effect is Effect.ENTRY:
            self._spent += intent.notional
        return None
