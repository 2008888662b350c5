"""What becomes of a stream bot's positions: ``pending → active → closed``, as a pure order manager.

It takes events (an order changed, a price, the time, another configuration, the switch) and says what to do (submit,
cancel). Held quantities come from the book's position, which every fill has passed through, so that a late, doubled or
racing fill changes nothing here. What one position makes of its news stands in ``bot_news``, what it asks for in
``bot_plan``. A stop-loss that the venue does not keep is watched here, on the prices that are told, and closed at
market.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from shared.bots import BotSettings
from worker.core import protection
from worker.core.bot_entry import EntryTerms
from worker.core.bot_news import LONGEST_RETRY_SECONDS, adopted, back_off, take_exit, take_totals
from worker.core.bot_plan import NEVER, Situation, next_look, plan
from worker.core.bot_position import Action, BotPosition, Counters, Phase, Submit
from worker.core.exposure import Exposure
from worker.core.orders import Order
from worker.core.positions import Position
from worker.core.protection import UNANSWERED
from worker.core.types import Effect, ExitReason, Instrument, OrderState

_ENTRY, _S = Effect.ENTRY, OrderState


class BotManager:
    """All positions of one bot. ``mint`` gives client order ids."""

    def __init__(self, settings: BotSettings, mint: Callable[[Effect], str]) -> None:
        self.settings, self._mint = settings, mint
        self.positions: dict[str, BotPosition] = {}
        self.counters = Counters()
        self._exposure = Exposure()
        self._prices: dict[str, Decimal] = {}
        self._dirty: dict[str, None] = {}
        self._due: dict[str, float] = {}
        self._on = False
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
        if live != self._exposure.watching:
            self._exposure.watching = live
            for position in self.positions.values():
                self._exposure.look(position, now)

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
            take_totals(found, position, now)
        if order.effect is _ENTRY:
            found.entry, found.entry_gone = order, False
        else:
            take_exit(found, order, now, stopped=not self._on or found.era != self._era)
        if order.is_final:
            found.asked.pop(order.client_order_id, None)
        self._changed(found, now)
        return True

    def on_position(self, position: Position, now: float) -> None:
        """A position that somebody else's order changed: sold by hand, flattened by a stop, liquidated."""
        found = self.positions.get(position.id)
        if found is not None:
            take_totals(found, position, now)
            self._changed(found, now)

    def on_denied(self, action: Submit, why: str, now: float) -> None:
        """What was asked for was not sent."""
        found = self.positions.get(action.position_id)
        if found is None:
            return
        self.counters.refused += 1
        if action.effect is _ENTRY:
            self.counters.entries -= 1
            self._forget(found, now)
            return
        found.exits.pop(action.client_order_id, None)
        if why.startswith("PRICE_COLLAR") and action.exit_reason == ExitReason.TP_HIT:
            found.closing = found.closing or ExitReason.TP_HIT  # the price is far beyond the target: take it
        back_off(found, now, why, LONGEST_RETRY_SECONDS)
        self._dirty[found.id] = None

    def adopt(
        self, entry: Order | None, position: Position | None, exits: list[Order], instrument: Instrument, now: float
    ) -> None:
        """Take over what was found in the book: a position, an entry that works, or both."""
        found = adopted(entry, position, exits, instrument, self._era, now)
        if found is not None:
            self.positions[found.id] = found
            self._changed(found, now)

    def reset(self, now: float) -> None:
        """Forget all positions, to be told of them anew."""
        self._exposure.drop(self.positions.values(), now)
        self.positions.clear()
        self._dirty.clear()
        self._due.clear()

    def _changed(self, position: BotPosition, now: float) -> None:
        self._exposure.look(position, now)
        self._dirty[position.id] = None

    def _forget(self, position: BotPosition, now: float) -> None:
        self._exposure.end(position, now)
        del self.positions[position.id]
        self._due.pop(position.id, None)
        entry = position.entry
        if entry is None or position.bought_qty:
            return
        if entry.state in {_S.REJECTED, _S.NOT_SENT}:
            self.counters.refused += 1
        else:
            self.counters.expired += 1

    def closed(self, reason: str) -> None:
        """Count a position that the book has closed."""
        self.counters.closed[reason] = self.counters.closed.get(reason, 0) + 1

    # -- what to do -----------------------------------------------------------------------------------------------

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
        wanted = terms.order(bid, confidence, self._mint)
        if type(wanted) is Submit:
            name = wanted.position_id
            self.positions[name] = BotPosition(name, settings.symbol, instrument, now, confidence=confidence)
            self._due[name] = now + terms.timeout
            self.counters.entries += 1
        return wanted

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
            if position is None:
                continue
            if position.phase is Phase.CLOSED and not position.exits:
                self._forget(position, now)
                continue
            price = self._prices.get(position.symbol)
            found += plan(position, Situation(self.settings, price, now, self._on, self._era, self._mint))
            self._due[name] = next_look(position, self.settings, now)
        return found

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

    def unprotected_seconds(self, now: float) -> float:
        """See ``Exposure``."""
        return self._exposure.seconds(self.positions.values(), now)
