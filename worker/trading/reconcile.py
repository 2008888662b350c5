"""Book against venue: at start-up before the first order, and every few seconds while running."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
from msgspec.structs import replace

from shared.clock import Clock, TradingCalendar
from shared.errors import IllegalTransition, OrderNotFound, VenueUnavailable
from worker.core import ids
from worker.core.ledger import Bundle
from worker.core.orders import Order
from worker.core.types import AccountState, Execution, OrderState, VenueOrder, VenuePosition
from worker.failpoints import failpoint
from worker.trading.compare import Comparison
from worker.trading.desk import UNRESOLVED, OrderDesk
from worker.trading.drift import DriftWatch
from worker.trading.fees import UntoldFees
from worker.trading.foreign import Fills, ForeignOrders, by_order
from worker.trading.ports import Book, Notes
from worker.trading.recover import Recovery
from worker.venues.base import Venue

ZERO = Decimal(0)
FILLS_OVERLAP = timedelta(minutes=2)
FILLS_AT_START = timedelta(days=1)


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """What one reconciliation found; ``read_at`` is when its reads began."""

    read_at: datetime
    positions: tuple[VenuePosition, ...]
    account: AccountState
    orders: tuple[Order, ...]
    external: frozenset[str] = frozenset()
    drift: str = ""
    problems: dict[str, str] = msgspec.field(default_factory=dict)


class Reconciler:
    """Keeps the account's book equal to the venue and says where it cannot."""

    def __init__(
        self,
        account: str,
        venue: Venue,
        desk: OrderDesk,
        book: Book,
        clock: Clock,
        calendar: TradingCalendar,
        notes: Notes,
        progress: Callable[[], None],
    ) -> None:
        self._account, self._venue, self._desk, self._book = account, venue, desk, book
        self._clock, self._calendar, self._notes = clock, calendar, notes
        self._progress = progress
        self._recovery = Recovery(account, venue, desk, book, clock, calendar, notes)
        self._fills_from: datetime | None = None
        self._foreign = ForeignOrders(venue, desk, book, self._recovery, progress)
        self._drift = DriftWatch(book, desk)
        self._fees = UntoldFees(venue, desk, book)
        self._read_from = datetime.max.replace(tzinfo=UTC)
        self._nameless: set[str] = set()
        self._taken: set[str] = set()

    def start_over(self) -> None:
        """The next pass is a recovery: it looks as far back as one at start-up."""
        self._fills_from = None
        self._drift.start_over()
        self._taken.clear()
        self._nameless.clear()
        self._foreign.start_over()

    @property
    def suspects(self) -> bool:
        """Whether the last pass found book and venue apart in what we hold, once or more often."""
        return self._drift.suspects

    @property
    def unjudged(self) -> bool:
        """Whether the last pass could not compare, since something filled after its reads began."""
        return self._drift.unjudged

    @property
    def unsettled(self) -> bool:
        """Whether another pass soon would tell more."""
        return self._drift.unsettled or self._fees.pending

    def run(self) -> Snapshot:
        """One pass. Raises VenueUnavailable where the venue cannot be read, StoreError where Redis cannot."""
        failpoint("reconcile.begin")
        read_at = self._clock.now()
        fills = self._fills(read_at)
        self._progress()
        failpoint("reconcile.fills_read")
        by_id = by_order(fills)
        if self._fills_from is None:
            self._recovery.lost_orders(fills)
        self._fills_from = read_at - FILLS_OVERLAP
        self._recovery.new_day()
        working = self._venue.open_orders()
        failpoint("reconcile.orders_read")
        self._progress()
        problems = self._orders(working, by_id)
        failpoint("reconcile.orders_settled")
        unknown = self._late_fills(by_id)
        if unknown:
            self._foreign.account_for(_first(unknown) - FILLS_OVERLAP, by_id, unknown)
        failpoint("reconcile.fills_taken")
        self._progress()
        positions = tuple(self._venue.positions())
        account = self._venue.account()
        failpoint("reconcile.positions_read")
        orders = tuple(self._book.open_orders())
        self._fees.settle(positions, orders, read_at)
        found = self._drift.compare(positions, orders)
        if found.drifting and self._explain(found, read_at, by_id):
            orders = tuple(self._book.open_orders())
            found = self._drift.compare(positions, orders)
        drift = self._drift.judge(found, read_at)
        failpoint("reconcile.compared")
        return Snapshot(read_at, positions, account, orders, found.external, drift, problems)

    def _fills(self, now: datetime) -> list[Execution]:
        since = self._fills_from
        if since is None:
            oldest = min((o.created_at for o in self._book.open_orders()), default=now)
            since = min(oldest, now - FILLS_AT_START)
        self._read_from = since
        return self._venue.fills_since(since)

    # -- orders ---------------------------------------------------------------------------------------------------

    def _orders(self, working: Iterable[VenueOrder], fills: Fills) -> dict[str, str]:
        """All that works here or there, ours before others': what they closed of ours must have been opened first."""
        known = {o.client_order_id: o for o in self._book.open_orders()}
        self._desk.learn({o.venue_order_id: n for n, o in known.items() if o.venue_order_id})
        listed: set[str] = set()
        theirs: list[VenueOrder] = []
        for told in working:
            name = told.client_order_id if told.client_order_id in known else self._desk.name_of(told.venue_order_id)
            listed.add(name or ids.external_name(self._account, told.venue_order_id))
            if not (ids.is_ours(told.client_order_id) or name in known) or (name in known and known[name].is_external):
                theirs.append(told)
            elif self._desk.take(told, fills.get(told.venue_order_id, ())) is None:
                self._recovery.adopt(told, fills.get(told.venue_order_id, ()))
        problems: dict[str, str] = {}
        gone = [o for o in known.values() if o.client_order_id not in listed]
        for order in (o for o in gone if not o.is_external):
            self._progress()
            executions = fills.get(order.venue_order_id, ()) if order.venue_order_id else ()
            try:
                self._desk.resolve(order, executions)
            except (VenueUnavailable, IllegalTransition) as error:
                if not self._filled_untold(order, executions):
                    problems[order.client_order_id] = str(error)
        foreign = [o for o in gone if o.is_external]
        try:
            problems |= self._foreign.gone(foreign, FILLS_OVERLAP, fills)
        except (VenueUnavailable, IllegalTransition) as error:
            problems |= dict.fromkeys((o.client_order_id for o in foreign), str(error))
        for told in theirs:
            self._foreign.take(told, fills.get(told.venue_order_id, ()))
        return problems

    def _filled_untold(self, order: Order, executions: Sequence[Execution]) -> bool:
        """Take in the fills of an order that the venue does not tell of itself; says whether they fill it."""
        if not executions or order.stop_price is not None:
            return False
        change = self._desk.take(_as_filled(order, order.venue_order_id, executions), executions)
        return change is not None and change.after.order.is_final

    def _late_fills(self, fills: Fills) -> Fills:
        """Fills of orders that are final in the book already: they count all the same, and make its sums exact where
        only the venue's rounded average was known. Returns those of orders that the book does not know."""
        names, unknown = self._names(fills), dict[str, Sequence[Execution]]()
        for venue_id, executions in fills.items():
            if all(e.execution_id in self._taken for e in executions):
                continue
            name = names.get(venue_id)
            order = self._book.order(name) if name else None
            if order is None:
                unknown[venue_id] = executions
            elif order.is_final:
                self._progress()
                self._take_late(order, venue_id, executions)
        self._taken &= {e.execution_id for executions in fills.values() for e in executions}
        return unknown

    def _take_late(self, order: Order, venue_id: str, executions: Sequence[Execution]) -> None:
        """Where more is listed than the order has filled, only the venue's own figure tells a new fill from one that
        is known under another id."""
        paired = order.stop_price is not None  # which half of it filled is told by the venue only
        change = None if paired else self._desk.take(_as_told(order, venue_id), executions)
        if change is None and not paired:
            return
        if change is None or (_is_more(change.after, executions) and not order.is_external):
            try:
                told = self._venue.order_by_client_id(order.client_order_id)
            except OrderNotFound:
                if change is None:
                    return
                listed = {e.execution_id: e for e in (*change.after.executions.values(), *executions) if e.derived}
                told = _as_filled(change.after.order, venue_id, list(listed.values()))
                if told.filled_qty <= change.after.order.filled_qty:
                    return  # the same fills under other ids, or one more: asked again as long as it is listed
            self._desk.take(told, executions)
        self._taken.update(e.execution_id for e in executions)

    def _names(self, fills: Fills) -> dict[str, str]:
        """The book's names by the venue's ids; fills that do not carry our id are helped by the book, also after a
        restart."""
        told = {v: f[0].client_order_id for v, f in fills.items()}
        names = {v: (n if n is not None and ids.is_ours(n) else self._desk.name_of(v)) for v, n in told.items()}
        nameless = {v for v, name in names.items() if name is None} - self._nameless
        if nameless:
            found = self._book.names_of(nameless)
            self._desk.learn(found)
            self._nameless |= nameless - found.keys()
            names |= found
        return {v: name for v, name in names.items() if name is not None}

    # -- positions ------------------------------------------------------------------------------------------------

    def _explain(self, found: Comparison, read_at: datetime, fills: Fills) -> bool:
        """Look for orders of others that account for it: since the last agreement, at start since our entry. Says
        whether anything was taken in."""
        since = min(self._drift.began(found), read_at) - FILLS_OVERLAP
        if since < self._read_from:
            fills = by_order(self._venue.fills_since(since))
        changes, names = self._desk.changes, self._names(fills)
        self._foreign.account_for(since, fills, {v: f for v, f in fills.items() if v not in names})
        return self._desk.changes != changes


def unresolved_ids(orders: Iterable[Order]) -> list[str]:
    """Orders whose fate at the venue is not known."""
    return [o.client_order_id for o in orders if o.state in UNRESOLVED and o.state is not OrderState.ABSENT]


def _first(fills: Fills) -> datetime:
    return min(e.time for executions in fills.values() for e in executions)


def _is_more(known: Bundle, executions: Sequence[Execution]) -> bool:
    """Whether more is listed, under whatever ids, than the order has filled by the book."""
    told = sum((e.qty for e in known.executions.values()), ZERO)
    return told > known.order.filled_qty or any(e.execution_id not in known.executions for e in executions)


def _as_filled(order: Order, venue_order_id: str, executions: Sequence[Execution]) -> VenueOrder:
    """What fills say of an order of which the venue does not tell: no more than was ordered."""
    filled = min(sum((e.qty for e in executions), ZERO), order.qty)
    return replace(_as_told(order, venue_order_id), filled_qty=max(filled, order.filled_qty), avg_fill_price=None)


def _as_told(order: Order, venue_order_id: str) -> VenueOrder:
    return VenueOrder(
        venue_order_id=venue_order_id,
        client_order_id=order.client_order_id,
        ticker=order.ticker,
        side=order.side,
        qty=order.qty,
        state=order.state,
        filled_qty=order.filled_qty,
        avg_fill_price=order.avg_fill_price,
    )
