"""Orders that the book must learn of without having decided them: foreign ones, ours from before a lost Redis, and
ours that work on into a new trading day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
from msgspec.structs import replace

from shared.bots import CYCLE_BOT
from shared.clock import Clock, TradingCalendar
from shared.errors import VenueUnavailable
from worker.core import ids
from worker.core.foreign import BY_LIQUIDATION, BY_STOP, FOUND
from worker.core.orders import EXTERNAL, Order
from worker.core.types import Effect, Execution, OrderState, OrderType, Side, TimeInForce, VenueOrder
from worker.failpoints import failpoint
from worker.trading.desk import OrderDesk
from worker.trading.ports import Book, Notes
from worker.venues.base import Venue

CLOCK_TOLERANCE = timedelta(seconds=2)
REPLACEMENTS_FOLLOWED = 20
REPLACED_WITHIN = timedelta(days=2)


class _Owner(msgspec.Struct, frozen=True, gc=False):
    """Whose an adopted order is: our ``name`` for it or None, its bot, and the position that it is of or None.

    ``replaces`` is the order of ours that somebody changed at the venue.
    """

    name: str | None
    bot: str
    effect: Effect
    held: str | None
    replaces: str = ""

    @property
    def is_ours(self) -> bool:
        return self.name is not None and (self.effect is Effect.ENTRY or self.held is not None)

    @property
    def is_streamed(self) -> bool:
        return self.is_ours and self.bot != str(CYCLE_BOT)

    @property
    def position_id(self) -> str | None:
        """A stream bot has a position for every entry."""
        return self.name if self.is_streamed and self.effect is Effect.ENTRY else self.held or self.name


class Recovery:
    """What start-up and a new day owe to the book of one account."""

    def __init__(
        self,
        account: str,
        venue: Venue,
        desk: OrderDesk,
        book: Book,
        clock: Clock,
        calendar: TradingCalendar,
        notes: Notes,
    ) -> None:
        self._account, self._venue, self._desk, self._book = account, venue, desk, book
        self._clock, self._calendar, self._notes = clock, calendar, notes
        self._today = ""
        self._left_behind = False

    def lost_orders(self, fills: Sequence[Execution]) -> None:
        """Today's orders of ours that the venue has and the book has not: an older or emptied Redis stands behind it.

        They are taken in with their fills, oldest first, and count against the day's limits; so is what became of those
        that the book knows as open, for an exit is ours only once its entry has filled. Raises VenueUnavailable.
        """
        begin = datetime.fromtimestamp(self._calendar.day_of(self._clock.now()).start, UTC)
        told = [o for o in self._venue.orders_since(begin - CLOCK_TOLERANCE) if ids.is_ours(o.client_order_id)]
        known = {o.venue_order_id: self._book.order(o.client_order_id or "") for o in told}
        if None not in known.values():
            return
        for order in sorted(told, key=lambda o: o.created_at or begin):
            executions = [f for f in fills if f.venue_order_id == order.venue_order_id]
            found = known[order.venue_order_id]
            if found is None:
                self.adopt(order, executions)
            elif not (found.is_final or found.is_external):
                self._desk.take(order, executions)

    def adopt(self, told: VenueOrder, fills: Sequence[Execution]) -> None:
        """Record an order of the venue that the book does not know, with its fills. One of ours is ours again, except
        an exit from a position that the book has lost too: its figures would be wrong, so that it is shown as EXTERNAL.

        Raises VenueUnavailable.
        """
        order = self._order_of(told)
        failpoint("adopt.before")
        self._book.adopt(order)
        failpoint("adopt.after")
        self._notes(
            "order_adopted", client_order_id=order.client_order_id, ticker=order.ticker, ours=not order.is_external
        )
        self._desk.learn({order.venue_order_id: order.client_order_id})
        self._desk.take(told, fills)

    def _order_of(self, told: VenueOrder) -> Order:
        owner, created = self._owner_of(told), told.created_at or self._clock.now()
        external = ids.external_name(self._account, told.venue_order_id)
        is_exit = owner.effect is Effect.EXIT
        return Order(
            client_order_id=owner.name or external,
            account=self._account,
            bot_id=owner.bot if owner.is_ours else EXTERNAL,
            ticker=told.ticker,
            side=told.side,
            effect=owner.effect,
            qty=told.qty,
            type=told.type,
            time_in_force=TimeInForce.DAY,
            limit_price=told.limit_price,
            ref_price=told.limit_price or told.avg_fill_price or self._price(told.ticker, needed=owner.is_ours),
            state=OrderState.SUBMITTED if owner.name else told.state,
            reason=f"replaces {owner.replaces}" if owner.replaces else _reason(told),
            created_at=created,
            updated_at=self._clock.now(),
            epoch=0,
            trading_day=self._calendar.day_of(created).name,
            reserved=0,
            position_id=owner.position_id or external,
            exit_reason="TP_HIT" if owner.is_streamed and is_exit and told.type is OrderType.LIMIT else "",
            venue_order_id=told.venue_order_id,
            stop_price=told.stop_price,
        )

    def _owner_of(self, told: VenueOrder) -> _Owner:
        """By its id, or by the order of ours that it replaces."""
        replaced = self._replaced(told)
        if replaced is not None:
            name = told.client_order_id
            return _Owner(name, replaced.bot_id, replaced.effect, replaced.position_id, replaced.client_order_id)
        name = told.client_order_id if ids.is_ours(told.client_order_id) else None
        effect = ids.effect_of(name) or (Effect.ENTRY if told.side is Side.BUY else Effect.EXIT)
        bot = str(ids.bot_of(name) or CYCLE_BOT)
        return _Owner(name, bot, effect, self._held(told.ticker, bot) if name else None)

    def _held(self, ticker: str, bot: str) -> str | None:
        return next((p.id for p in self._book.open_positions() if p.symbol == ticker and p.bot_id == bot), None)

    def _replaced(self, told: VenueOrder) -> Order | None:
        """The order of ours that this one replaces: somebody changed it at the venue, and it goes on as ours."""
        if not told.replaces or not told.client_order_id:
            return None
        before, earlier = told.replaces, dict[str, str]()
        for step in range(REPLACEMENTS_FOLLOWED):
            name = self._desk.name_of(before) or self._book.names_of({before}).get(before)
            order = self._book.order(name) if name else None
            if order is not None:
                return None if order.is_external else order
            if not step:  # changed more than once while nobody looked
                found = self._venue.orders_since((told.created_at or self._clock.now()) - REPLACED_WITHIN)
                earlier = {o.venue_order_id: o.replaces for o in found}
            before = earlier.get(before, "")
            if not before:
                return None
        return None

    def _price(self, ticker: str, *, needed: bool) -> Decimal:
        """A market order of ours that has not filled must reserve something."""
        try:
            return self._venue.last_price(ticker).price
        except VenueUnavailable:
            if needed:
                raise
            return Decimal(0)

    def new_day(self) -> None:
        """Working orders are reserved again on the day that it is: what may still fill counts today. One that is ABSENT
        is not, unless the venue tells of it after all: its reservation ends with its day."""
        today = self._calendar.day_of(self._clock.now()).name
        if today == self._today and not self._left_behind:
            return
        old = [o for o in self._book.open_orders() if o.trading_day != today and not o.is_external]
        for order in (o for o in old if o.state is not OrderState.ABSENT):
            self._book.change(order.client_order_id, lambda b: replace(b, order=replace(b.order, trading_day=today)))
        self._left_behind = any(o.state is OrderState.ABSENT for o in old)
        self._today = today


def _reason(told: VenueOrder) -> str:
    if (told.client_order_id or "").startswith(ids.FLATTEN_PREFIX):
        return BY_STOP
    return BY_LIQUIDATION if told.liquidation else FOUND
