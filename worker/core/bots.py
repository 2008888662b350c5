"""What becomes of a stream bot's positions: ``pending → active → closed``, as a pure order manager.

It takes events (an order changed, a price, the time, another configuration, the switch) and says what to do (submit,
cancel). Held quantities come from the book's position, which every fill has passed through, so that a late, doubled or
racing fill changes nothing here. Exits never work for more than is held: one is cancelled, and its fate known, before
another is sent. A stop-loss is watched here, on the prices that are told, and closed at market.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from enum import StrEnum

import msgspec

from shared.bots import BotSettings
from worker.core.decide import round_down
from worker.core.grid import Grid
from worker.core.orders import Order
from worker.core.positions import Position
from worker.core.types import Effect, Instrument, OrderState, Side

ZERO = Decimal(0)
CANCEL_AGAIN_SECONDS = 2.0
"""After this long without the fate of an order that was asked to be cancelled, it is asked again."""
RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 30.0
"""After refusals by the venue, each of which is an order in the books; a denial of ours costs nothing."""
NEVER = float("inf")
_S = OrderState
_ENTRY, _BUY, _SELL = Effect.ENTRY, Side.BUY, Side.SELL
"""Looking a member up in its class takes longer than most questions about it."""
_UNKNOWN = frozenset({_S.INTENT, _S.UNKNOWN})


class ExitReason(StrEnum):
    """Why a position was closed."""

    TP_HIT = "TP_HIT"
    SL_HIT = "SL_HIT"
    TIMEOUT = "TIMEOUT"
    MANUAL = "MANUAL"
    LIQUIDATION = "LIQUIDATION"
    STOP = "STOP"


class Phase(StrEnum):
    PENDING = "pending"
    ACTIVE = "active"
    CLOSED = "closed"


class Submit(msgspec.Struct, frozen=True, gc=False):
    """An order to send. A limit where there is a price, else at market. An entry tells the levels that it aims at."""

    client_order_id: str
    position_id: str
    symbol: str
    effect: Effect
    qty: Decimal
    limit_price: Decimal | None
    exit_reason: str = ""
    confidence: str = ""
    take_profit: str = ""
    stop_loss: str = ""

    @property
    def side(self) -> Side:
        return _BUY if self.effect is _ENTRY else _SELL


class Cancel(msgspec.Struct, frozen=True, gc=False):
    """An order to cancel."""

    client_order_id: str


Action = Submit | Cancel


@dataclass(slots=True)
class BotPosition:
    """One position from its entry order on. ``exits`` are those that may still fill; None where not heard of yet."""

    id: str
    symbol: str
    instrument: Instrument
    placed_at: float
    entry: Order | None = None
    exits: dict[str, Order | None] = field(default_factory=dict)
    bought_qty: Decimal = ZERO
    bought_notional: Decimal = ZERO
    sold_qty: Decimal = ZERO
    opened_at: float | None = None
    closing: str = ""
    confidence: str = ""
    asked: dict[str, float] = field(default_factory=dict)
    retry_at: float = 0.0
    refusals: int = 0
    problem: str = ""
    uncovered_since: float | None = None
    entry_gone: bool = False
    """The entry is final, and no longer looked at."""

    @property
    def held(self) -> Decimal:
        return self.bought_qty - self.sold_qty

    @property
    def entry_price(self) -> Decimal | None:
        return self.bought_notional / self.bought_qty if self.bought_qty else None

    @property
    def entry_works(self) -> bool:
        """Whether the entry may still fill; one that the venue has denied for long (ABSENT) is not waited for."""
        if self.entry_gone:
            return False
        return self.entry is None or not (self.entry.is_final or self.entry.state is _S.ABSENT)

    @property
    def phase(self) -> Phase:
        if self.bought_qty == 0:
            return Phase.PENDING if self.entry_works else Phase.CLOSED
        return Phase.ACTIVE if self.held > 0 or self.entry_works or self.exits else Phase.CLOSED

    @property
    def selling(self) -> Decimal:
        """What exits that may still fill could sell."""
        return sum((o.open_qty for o in self.exits.values() if o is not None), ZERO)


class EntryTerms:
    """What entries take from a bot's document and its instrument, made when one of the two changes."""

    __slots__ = ("above", "below", "capital", "instrument", "lots", "settings", "ticks", "timeout")

    def __init__(self, settings: BotSettings, instrument: Instrument) -> None:
        self.settings, self.instrument = settings, instrument
        self.ticks, self.lots = Grid(instrument.tick_size), Grid(instrument.lot_size)
        self.capital, self.timeout = settings.capital_per_trade, float(settings.maker_order_timeout)
        self.above, self.below = 1 + settings.profit_target_pct, 1 - settings.stop_loss_pct


@dataclass(slots=True)
class Counters:
    """What a bot has done since its process began."""

    entries: int = 0
    expired: int = 0
    closed: dict[str, int] = field(default_factory=dict)
    refused: int = 0


class BotManager:
    """All positions of one bot. ``mint`` gives client order ids."""

    def __init__(self, settings: BotSettings, mint: Callable[[Effect], str]) -> None:
        self.settings, self._mint = settings, mint
        self.positions: dict[str, BotPosition] = {}
        self.counters = Counters()
        self._unprotected = 0.0
        self._prices: dict[str, Decimal] = {}
        self._dirty: dict[str, None] = {}
        self._due: dict[str, float] = {}
        self._on = self._watching = False
        self._terms: EntryTerms | None = None

    # -- events ---------------------------------------------------------------------------------------------------

    def on_config(self, settings: BotSettings) -> None:
        """Another configuration: levels and times of open positions follow it too."""
        if settings != self.settings:
            self.settings = settings
            self._dirty.update(dict.fromkeys(self.positions))

    def on_switch(self, *, on: bool) -> None:
        """Whether anything may be sent: the switch, and its arming."""
        if on != self._on:
            self._on = on
            for position in self.positions.values():
                position.retry_at, position.refusals = 0.0, 0
            self._dirty.update(dict.fromkeys(self.positions))

    def on_feed(self, now: float, *, live: bool) -> None:
        """Whether prices arrive: without them nobody watches the stop-losses."""
        if live != self._watching:
            self._watching = live
            for position in self.positions.values():
                self._account(position, now)

    def on_price(self, symbol: str, price: Decimal) -> None:
        """A trade. Only one at or below a stop-loss changes anything."""
        self._prices[symbol] = price
        for position in self.positions.values():
            if position.symbol == symbol and position.held > 0 and not position.closing:
                stop = self.stop_loss(position)
                if stop is not None and price <= stop:
                    self._dirty[position.id] = None

    def on_order(self, order: Order, position: Position | None, now: float) -> bool:
        """An order of this bot's, and its position, as they stand in the book.

        False: nothing is known of the position, which must be adopted where anything is held.
        """
        found = self.positions.get(order.position_id)
        if found is None:
            return False
        if position is not None:
            self._sums(found, position, now)
        if order.effect is Effect.ENTRY:
            found.entry, found.entry_gone = order, False
        else:
            self._exit_changed(found, order, now)
        if order.is_final:
            found.asked.pop(order.client_order_id, None)
        self._account(found, now)
        self._dirty[found.id] = None
        return True

    def on_position(self, position: Position, now: float) -> None:
        """A position that somebody else's order changed: sold by hand, flattened by a stop, liquidated."""
        found = self.positions.get(position.id)
        if found is not None:
            self._sums(found, position, now)
            self._account(found, now)
            self._dirty[found.id] = None

    @staticmethod
    def _sums(found: BotPosition, position: Position, now: float) -> None:
        found.bought_qty, found.bought_notional = position.bought_qty, position.bought_notional
        found.sold_qty = position.sold_qty
        if found.opened_at is None and position.bought_qty:
            found.opened_at = now

    def _exit_changed(self, found: BotPosition, order: Order, now: float) -> None:
        if not (order.is_final or order.state is _S.ABSENT):
            found.exits[order.client_order_id] = order
            found.refusals = 0
            return
        found.exits.pop(order.client_order_id, None)
        if order.state in {_S.REJECTED, _S.NOT_SENT} and not order.filled_qty:
            self._back_off(found, now, order.note or order.state.value, LONGEST_PAUSE_SECONDS)
        elif order.filled_qty:
            found.problem = ""

    def on_denied(self, action: Submit, why: str, now: float) -> None:
        """What was asked for was not sent."""
        found = self.positions.get(action.position_id)
        if found is None:
            return
        self.counters.refused += 1
        if action.effect is Effect.ENTRY:
            self._forget(found, now)
            return
        found.exits.pop(action.client_order_id, None)
        if why.startswith("PRICE_COLLAR") and action.exit_reason == ExitReason.TP_HIT:
            found.closing = found.closing or ExitReason.TP_HIT  # the price is far beyond the target: take it
        self._back_off(found, now, why, LONGEST_RETRY_SECONDS)
        self._dirty[found.id] = None

    @staticmethod
    def _back_off(position: BotPosition, now: float, why: str, longest: float) -> None:
        position.problem = why
        position.retry_at = now + min(RETRY_SECONDS * 2**position.refusals, longest)
        position.refusals = min(position.refusals + 1, 10)

    def adopt(
        self, entry: Order | None, position: Position | None, exits: list[Order], instrument: Instrument, now: float
    ) -> None:
        """Take over what was found in the book: a position, an entry that works, or both."""
        if entry is None and position is None:
            return
        name = position.id if position is not None else entry.position_id if entry is not None else ""
        symbol = position.symbol if position is not None else entry.ticker if entry is not None else ""
        placed_at = now if entry is None else entry.created_at.timestamp()
        of = BotPosition(name, symbol, instrument, placed_at, entry, confidence=entry.confidence if entry else "")
        of.entry_gone = entry is None
        if position is not None:
            of.bought_qty, of.bought_notional = position.bought_qty, position.bought_notional
            of.sold_qty, of.opened_at = position.sold_qty, position.entry_time.timestamp()
            of.confidence = position.confidence
        of.exits = {o.client_order_id: o for o in exits if not (o.is_final or o.state is _S.ABSENT)}
        market = next((o for o in exits if o.limit_price is None and o.exit_reason), None)
        of.closing = market.exit_reason if market is not None else ""
        self.positions[name] = of
        self._account(of, now)
        self._dirty[name] = None

    def reset(self, now: float) -> None:
        """Forget all positions, to be told of them anew."""
        self._unprotected = self.unprotected_seconds(now)
        self.positions.clear()
        self._dirty.clear()
        self._due.clear()

    # -- entries --------------------------------------------------------------------------------------------------

    def enter(self, instrument: Instrument, bid: Decimal, confidence: str, now: float) -> Submit | str:
        """A post-only limit buy at the bid for ``capital_per_trade``; else why there is none."""
        settings = self.settings
        if not self._on or not settings.enabled or settings.close_positions:
            return "off"
        if len(self.positions) >= settings.max_positions:
            return "max_positions"
        terms = self._terms
        if terms is None or terms.settings is not settings or terms.instrument is not instrument:
            terms = self._terms = EntryTerms(settings, instrument)
        price = terms.ticks.floor(bid)
        qty = terms.lots.floor(terms.capital / price) if price > 0 else ZERO
        if qty <= 0:
            return f"{terms.capital} buys less than one lot of {instrument.lot_size} at {price}"
        name = self._mint(_ENTRY)
        self.positions[name] = BotPosition(name, settings.symbol, instrument, now, confidence=confidence)
        self._due[name] = now + terms.timeout
        self.counters.entries += 1
        target, stop = terms.ticks.ceiling(price * terms.above), price * terms.below
        return Submit(
            name, name, settings.symbol, _ENTRY, qty, price, "", confidence, str(target), str(stop.normalize())
        )

    # -- what to do -----------------------------------------------------------------------------------------------

    @property
    def next_due(self) -> float:
        """When the time alone will ask for something."""
        return min(self._due.values(), default=NEVER)

    @property
    def is_settled(self) -> bool:
        """Whether nothing waits to be looked at, whatever the time."""
        return not self._dirty

    def actions(self, now: float) -> list[Action]:
        """What is to be done at ``now``; asking again without an event in between gives nothing."""
        if self._due and now >= self.next_due:
            self._dirty.update(dict.fromkeys(name for name, at in self._due.items() if now >= at))
        found: list[Action] = []
        while self._dirty:
            name = next(iter(self._dirty))
            del self._dirty[name]
            position = self.positions.get(name)
            if position is not None:
                found += self._plan(position, now)
                if name in self.positions:
                    self._due[name] = self._due_of(position, now)
        return found

    def _plan(self, position: BotPosition, now: float) -> Iterator[Action]:
        if position.phase is Phase.CLOSED and not position.exits:
            self._forget(position, now)
            return
        self._decide(position, now)
        if position.entry is not None and position.entry_works and self._entry_unwanted(position, now):
            yield from self._cancel(position, position.entry, now)
        if position.held <= 0:
            yield from self._leftovers(position, now)
            return
        if not self._on or now < position.retry_at:
            return
        if position.closing:
            yield from self._close(position, now)
        else:
            yield from self._take_profit(position, now)

    def _leftovers(self, position: BotPosition, now: float) -> Iterator[Action]:
        """Exits of what is no longer held."""
        for order in list(position.exits.values()):
            if order is not None:
                yield from self._cancel(position, order, now)

    def _decide(self, position: BotPosition, now: float) -> None:
        """The reason to close at market, once there is one; it stays."""
        if position.closing or position.held <= 0:
            return
        stop, price = self.stop_loss(position), self._prices.get(position.symbol)
        opened = position.opened_at
        if self.settings.close_positions:
            position.closing = ExitReason.MANUAL
        elif stop is not None and price is not None and price <= stop:
            position.closing = ExitReason.SL_HIT
        elif opened is not None and now >= opened + float(self.settings.holding_time):
            position.closing = ExitReason.TIMEOUT

    def _entry_unwanted(self, position: BotPosition, now: float) -> bool:
        settings = self.settings
        overdue = now >= position.placed_at + float(settings.maker_order_timeout)
        return overdue or bool(position.closing) or not settings.enabled or settings.close_positions

    def _close(self, position: BotPosition, now: float) -> Iterator[Action]:
        """At market, after whatever else sells is out of the way."""
        if any(o is None or o.limit_price is None for o in position.exits.values()):
            return
        for order in list(position.exits.values()):
            if order is not None:
                yield from self._cancel(position, order, now)
        if not position.exits:
            yield from self._exit(position, None, position.closing)

    def _take_profit(self, position: BotPosition, now: float) -> Iterator[Action]:
        wanted = self.take_profit(position)
        for order in list(position.exits.values()):
            if order is not None and (order.open_qty != self._sellable(position) or order.limit_price != wanted):
                yield from self._cancel(position, order, now)
        if not position.exits and wanted is not None:
            yield from self._exit(position, wanted, ExitReason.TP_HIT)

    def _exit(self, position: BotPosition, limit: Decimal | None, reason: str) -> Iterator[Action]:
        qty = self._sellable(position)
        if qty <= 0:
            position.problem = f"{position.held} is less than one lot of {position.instrument.lot_size}"
            return
        name = self._mint(Effect.EXIT)
        position.exits[name] = None
        yield Submit(name, position.id, position.symbol, Effect.EXIT, qty, limit, exit_reason=reason)

    def _cancel(self, position: BotPosition, order: Order, now: float) -> Iterator[Action]:
        """Once, and again after a while; an order whose fate is unknown cannot be, and is waited for."""
        asked = position.asked.get(order.client_order_id)
        if order.state in _UNKNOWN or (asked is not None and now < asked + CANCEL_AGAIN_SECONDS):
            return
        position.asked[order.client_order_id] = now
        yield Cancel(order.client_order_id)

    def _due_of(self, position: BotPosition, now: float) -> float:
        times = [asked + CANCEL_AGAIN_SECONDS for asked in position.asked.values()]
        if position.retry_at > now:
            times.append(position.retry_at)
        if position.entry_works and not position.asked:
            times.append(position.placed_at + float(self.settings.maker_order_timeout))
        if position.opened_at is not None and not position.closing:
            times.append(position.opened_at + float(self.settings.holding_time))
        return min((at for at in times if at > now), default=NEVER)

    # -- levels and figures ---------------------------------------------------------------------------------------

    @staticmethod
    def _sellable(position: BotPosition) -> Decimal:
        return round_down(position.held, position.instrument.lot_size)

    def take_profit(self, position: BotPosition) -> Decimal | None:
        """The limit of the take-profit, rounded up to a tick; None before the first fill."""
        entry = position.entry_price
        if entry is None:
            return None
        return to_tick(entry * (1 + self.settings.profit_target_pct), position.instrument.tick_size, ROUND_CEILING)

    def stop_loss(self, position: BotPosition) -> Decimal | None:
        """The price at or below which the position is closed; None before the first fill."""
        entry = position.entry_price
        return None if entry is None else entry * (1 - self.settings.stop_loss_pct)

    def highest_stop(self, symbol: str) -> Decimal | None:
        """The stop-loss that a falling price of ``symbol`` meets first."""
        stops = [
            s
            for p in self.positions.values()
            if p.symbol == symbol and p.held > 0 and not p.closing and (s := self.stop_loss(p)) is not None
        ]
        return max(stops, default=None)

    @property
    def has_unknown(self) -> bool:
        """Whether any order of an open position is without the venue's answer."""
        for position in self.positions.values():
            orders = [position.entry, *position.exits.values()]
            if any(o is not None and o.state in _UNKNOWN for o in orders):
                return True
        return False

    @property
    def symbols(self) -> frozenset[str]:
        """Whose prices are needed."""
        return frozenset(p.symbol for p in self.positions.values()) | {self.settings.symbol}

    def unprotected_seconds(self, now: float) -> float:
        """How long, in all, held quantity stood without a working exit or without anybody watching its stop-loss."""
        running = (now - p.uncovered_since for p in self.positions.values() if p.uncovered_since is not None)
        return self._unprotected + sum(running)

    def _account(self, position: BotPosition, now: float) -> None:
        working = sum((o.open_qty for o in position.exits.values() if o is not None and o.state not in _UNKNOWN), ZERO)
        exposed = position.held > 0 and (working < self._sellable(position) or not self._watching)
        if exposed and position.uncovered_since is None:
            position.uncovered_since = now
        elif not exposed and position.uncovered_since is not None:
            self._unprotected += max(now - position.uncovered_since, 0.0)
            position.uncovered_since = None

    def _forget(self, position: BotPosition, now: float) -> None:
        if position.uncovered_since is not None:
            self._unprotected += max(now - position.uncovered_since, 0.0)
        del self.positions[position.id]
        self._due.pop(position.id, None)
        if not position.bought_qty:
            self.counters.expired += 1

    def closed(self, reason: str) -> None:
        """Count a position that the book has closed."""
        self.counters.closed[reason] = self.counters.closed.get(reason, 0) + 1


def to_tick(price: Decimal, tick: Decimal, rounding: str) -> Decimal:
    """A price on the venue's grid."""
    return (price / tick).to_integral_value(rounding) * tick if tick > 0 else price
