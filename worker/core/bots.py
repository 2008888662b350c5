"""What becomes of a stream bot's positions: ``pending → active → closed``, as a pure order manager.

It takes events (an order changed, a price, the time, another configuration, the switch) and says what to do (submit,
cancel). Held quantities come from the book's position, which every fill has passed through, so that a late, doubled or
racing fill changes nothing here. Exits never work for more than is held: one is cancelled, and its fate known, before
another is sent. A stop-loss that the venue does not keep is watched here, on the prices that are told, and closed at
market.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal

from shared.bots import BotSettings
from worker.core import protection
from worker.core.bot_position import Action, BotPosition, Cancel, Counters, Phase, Submit
from worker.core.grid import Grid, plain
from worker.core.orders import Order
from worker.core.positions import Position
from worker.core.protection import UNANSWERED
from worker.core.types import Effect, ExitReason, Instrument, OrderState

ZERO = Decimal(0)
CANCEL_AGAIN_SECONDS = 2.0
"""After this long without the fate of an order that was asked to be cancelled, it is asked again."""
RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 30.0
"""After refusals by the venue, each of which is an order in the books; a denial of ours costs nothing."""
NEVER = float("inf")
_S = OrderState
_ENTRY = Effect.ENTRY


class EntryTerms:
    """What entries take from a bot's document and its instrument, made when one of the two changes."""

    __slots__ = ("above", "below", "capital", "instrument", "lots", "settings", "ticks", "timeout")

    def __init__(self, settings: BotSettings, instrument: Instrument) -> None:
        self.settings, self.instrument = settings, instrument
        self.ticks, self.lots = Grid(instrument.tick_size), Grid(instrument.lot_size)
        self.capital, self.timeout = settings.capital_per_trade, float(settings.maker_order_timeout)
        self.above, self.below = 1 + settings.profit_target_pct, 1 - settings.stop_loss_pct


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
        self._era = 0
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
            self._era += not on
            for position in self.positions.values():
                position.retry_at, position.refusals = 0.0, 0
                if on and not position.exits:
                    position.no_pair = ""
            self._dirty.update(dict.fromkeys(self.positions))

    def on_feed(self, now: float, *, live: bool) -> None:
        """Whether prices arrive: without them nobody watches the stop-losses."""
        if live != self._watching:
            self._watching = live
            for position in self.positions.values():
                self._account(position, now)

    def on_price(self, symbol: str, price: Decimal) -> None:
        """A trade. Only one at or below a stop-loss changes anything, and the first above it again."""
        self._prices[symbol] = price
        for position in self.positions.values():
            if position.symbol == symbol and position.held > 0 and not position.closing:
                stop = self.stop_loss(position)
                if position.stop_met_at is not None or (stop is not None and price <= stop):
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
        found.sold_qty, found.gone_qty = position.sold_qty, position.base_fees + position.dust
        if found.opened_at is None and position.bought_qty:
            found.opened_at = now

    def _exit_changed(self, found: BotPosition, order: Order, now: float) -> None:
        lost = protection.pair_lost(found, order, stopped=not self._on or found.era != self._era)
        found.no_pair = found.no_pair or lost
        if not (order.is_final or order.state is _S.ABSENT):
            found.exits[order.client_order_id] = order
            found.refusals = 0
            return
        found.exits.pop(order.client_order_id, None)
        if order.state in {_S.REJECTED, _S.NOT_SENT} and not order.filled_qty and not lost:
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
            self.counters.entries -= 1
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
        of.entry_gone, of.era = entry is None, self._era
        if position is not None:
            of.bought_qty, of.bought_notional = position.bought_qty, position.bought_notional
            of.sold_qty, of.opened_at = position.sold_qty, position.entry_time.timestamp()
            of.gone_qty = position.base_fees + position.dust
            of.confidence = position.confidence
        of.exits = {o.client_order_id: o for o in exits if not (o.is_final or o.state is _S.ABSENT)}
        of.asked = {n: now - CANCEL_AGAIN_SECONDS for n, o in of.exits.items() if o and o.state is _S.PENDING_CANCEL}
        if any(o.limit_price is not None and o.stop_price is None for o in of.exits.values() if o is not None):
            of.no_pair = protection.FOUND_WITHOUT if instrument.protective_pair else ""
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
        if not self._on:
            return "SWITCHED_OFF: trading is not on"
        if not settings.enabled or settings.close_positions:
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
        return Submit(name, name, settings.symbol, _ENTRY, qty, price, "", confidence, str(target), plain(stop))

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
            yield from self._protect(position, now)

    def _leftovers(self, position: BotPosition, now: float) -> Iterator[Action]:
        """Exits of what is no longer held."""
        for order in list(position.exits.values()):
            if order is not None:
                yield from self._cancel(position, order, now)

    def _decide(self, position: BotPosition, now: float) -> None:
        """The reason to close at market, once there is one; it stays."""
        if position.closing or position.held <= 0:
            return
        price, opened = self._prices.get(position.symbol), position.opened_at
        if self.settings.close_positions:
            position.closing = ExitReason.MANUAL
        elif protection.stop_is_due(position, self.settings, price, now):
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
            yield from self._exit(position, None, None, position.closing)

    def _protect(self, position: BotPosition, now: float) -> Iterator[Action]:
        """The exit that it should have; another one only after what there was is out of the way."""
        wanted = protection.wanted(position, self.settings)
        if wanted is None:
            return
        for order in list(position.exits.values()):
            if order is not None and not wanted.is_met_by(order):
                yield from self._cancel(position, order, now)
        if not position.exits:
            yield from self._exit(position, wanted.limit, wanted.stop, ExitReason.TP_HIT)

    def _exit(
        self, position: BotPosition, limit: Decimal | None, stop: Decimal | None, reason: str
    ) -> Iterator[Action]:
        qty = protection.sellable(position)
        if qty <= 0:
            position.problem = f"{position.held} is less than one lot of {position.instrument.lot_size}"
            return
        name = self._mint(Effect.EXIT)
        position.exits[name] = None
        position.pair, position.era = name if stop is not None else "", self._era
        yield Submit(name, position.id, position.symbol, Effect.EXIT, qty, limit, exit_reason=reason, stop_price=stop)

    def _cancel(self, position: BotPosition, order: Order, now: float) -> Iterator[Action]:
        """Once, and again after a while; an order whose fate is unknown cannot be, and is waited for."""
        asked = position.asked.get(order.client_order_id)
        if order.state in UNANSWERED or (asked is not None and now < asked + CANCEL_AGAIN_SECONDS):
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
        if position.stop_met_at is not None:
            times.append(position.stop_met_at + protection.NATIVE_STOP_SECONDS)
        return min((at for at in times if at > now), default=NEVER)

    # -- levels and figures ---------------------------------------------------------------------------------------

    def take_profit(self, position: BotPosition) -> Decimal | None:
        """See ``protection.take_profit``."""
        return protection.take_profit(position, self.settings)

    def stop_loss(self, position: BotPosition) -> Decimal | None:
        """See ``protection.stop_loss``."""
        return protection.stop_loss(position, self.settings)

    def highest_stop(self, symbol: str) -> Decimal | None:
        """The stop-loss of ours that a falling price of ``symbol`` meets first; those at the venue are the venue's."""
        watched = (
            p
            for p in self.positions.values()
            if p.symbol == symbol and p.held > 0 and not p.closing and not protection.stop_stands(p)
        )
        return max((s for p in watched if (s := self.stop_loss(p)) is not None), default=None)

    @property
    def has_unknown(self) -> bool:
        """Whether any order of an open position is without the venue's answer, or an exit is going."""
        for position in self.positions.values():
            orders = [position.entry, *position.exits.values()]
            if any(o is not None and o.state in UNANSWERED for o in orders):
                return True
            if any(o is not None and o.state is _S.PENDING_CANCEL for o in position.exits.values()):
                return True
        return False

    @property
    def symbols(self) -> frozenset[str]:
        """Whose prices are needed."""
        return frozenset(p.symbol for p in self.positions.values()) | {self.settings.symbol}

    def unprotected_seconds(self, now: float) -> float:
        """How long, in all, held quantity stood without a working exit or without anybody to keep its stop-loss."""
        running = (now - p.uncovered_since for p in self.positions.values() if p.uncovered_since is not None)
        return self._unprotected + sum(running)

    def _account(self, position: BotPosition, now: float) -> None:
        exposed = protection.is_exposed(position, watching=self._watching)
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
        if position.entry is not None and not position.bought_qty:
            self._count_unfilled(position.entry)

    def _count_unfilled(self, entry: Order) -> None:
        if entry.state in {_S.REJECTED, _S.NOT_SENT}:
            self.counters.refused += 1
        else:
            self.counters.expired += 1

    def closed(self, reason: str) -> None:
        """Count a position that the book has closed."""
        self.counters.closed[reason] = self.counters.closed.get(reason, 0) + 1
