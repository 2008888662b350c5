"""Book against venue: at start-up before the first order, and every few seconds while running."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from shared.clock import Clock, TradingCalendar
from shared.errors import IllegalTransition, OrderNotFound, VenueUnavailable
from worker.core import ids
from worker.core.orders import Order
from worker.core.types import AccountState, Execution, OrderState, VenueOrder, VenuePosition
from worker.failpoints import failpoint
from worker.trading.desk import UNRESOLVED, OrderDesk
from worker.trading.ports import Book, Notes
from worker.trading.recover import Recovery
from worker.venues.base import Venue

ZERO = Decimal(0)
FILLS_OVERLAP = timedelta(minutes=2)
FILLS_AT_START = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one reconciliation found; ``read_at`` is when its reads began."""

    read_at: datetime
    positions: tuple[VenuePosition, ...]
    account: AccountState
    orders: tuple[Order, ...]
    external: frozenset[str] = frozenset()
    drift: str = ""
    problems: dict[str, str] = field(default_factory=dict)


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
        self._suspected: dict[str, tuple[Decimal, Decimal]] = {}
        self._foreign: set[str] = set()
        self._taken: set[str] = set()

    def start_over(self) -> None:
        """The next pass is a recovery: it looks as far back as one at start-up."""
        self._fills_from = None
        self._taken.clear()
        self._foreign.clear()

    @property
    def suspects(self) -> bool:
        """Whether the last pass found book and venue apart, once or more often."""
        return bool(self._suspected)

    def run(self) -> Snapshot:
        """One pass. Raises VenueUnavailable where the venue cannot be read, StoreError where Redis cannot."""
        failpoint("reconcile.begin")
        read_at = self._clock.now()
        fills = self._fills(read_at)
        self._progress()
        failpoint("reconcile.fills_read")
        if self._fills_from is None:
            self._recovery.lost_orders(fills)
        self._fills_from = read_at - FILLS_OVERLAP
        self._recovery.new_day()
        working = self._venue.open_orders()
        failpoint("reconcile.orders_read")
        self._progress()
        problems = self._orders(working, fills)
        failpoint("reconcile.orders_settled")
        self._late_fills(fills)
        failpoint("reconcile.fills_taken")
        self._progress()
        positions = tuple(self._venue.positions())
        account = self._venue.account()
        failpoint("reconcile.positions_read")
        orders = tuple(self._book.open_orders())
        external, drift = self._compare(read_at, positions, orders)
        failpoint("reconcile.compared")
        return Snapshot(read_at, positions, account, orders, external, drift, problems)

    def _fills(self, now: datetime) -> list[Execution]:
        since = self._fills_from
        if since is None:
            oldest = min((o.created_at for o in self._book.open_orders()), default=now)
            since = min(oldest, now - FILLS_AT_START)
        return self._venue.fills_since(since)

    # -- orders ---------------------------------------------------------------------------------------------------

    def _orders(self, working: Iterable[VenueOrder], fills: list[Execution]) -> dict[str, str]:
        known = {o.client_order_id: o for o in self._book.open_orders()}
        listed: set[str] = set()
        for told in working:
            foreign = ids.external_name(self._account, told.venue_order_id)
            listed.add(told.client_order_id if told.client_order_id in known else foreign)
            if self._desk.take(told, _of(fills, told.venue_order_id)) is None:
                self._recovery.adopt(told, _of(fills, told.venue_order_id))
        problems: dict[str, str] = {}
        for order in known.values():
            if order.client_order_id in listed:
                continue
            self._progress()
            try:
                self._settle(order, fills)
            except (VenueUnavailable, IllegalTransition) as error:
                problems[order.client_order_id] = str(error)
        return problems

    def _settle(self, order: Order, fills: list[Execution]) -> None:
        """An order of ours that the venue no longer lists as working: ask for it by name."""
        if order.is_external:
            self._gone(order)
        else:
            self._desk.resolve(order, _of(fills, order.venue_order_id))

    def _gone(self, order: Order) -> None:
        told = next(
            (
                o
                for o in self._venue.orders_since(order.created_at - FILLS_OVERLAP)
                if o.venue_order_id == order.venue_order_id
            ),
            None,
        )
        if told is not None:
            self._desk.take(told, ())

    def _late_fills(self, fills: list[Execution]) -> None:
        """Fills of orders that are final in the book already: they count all the same, and make its sums exact where
        only the venue's rounded average was known."""
        by_order: dict[str, list[Execution]] = {}
        for fill in fills:
            by_order.setdefault(fill.venue_order_id, []).append(fill)
        names = self._names(by_order)
        for venue_id, executions in by_order.items():
            name = names.get(venue_id)
            order = self._book.order(name) if name else None
            if order is None or not order.is_final:
                continue
            if any(e.execution_id not in self._taken for e in executions):
                self._progress()
                self._take_late(order, venue_id, executions)
        self._taken &= {f.execution_id for f in fills}

    def _take_late(self, order: Order, venue_id: str, executions: Sequence[Execution]) -> None:
        """Where more is listed than the order has filled, only the venue's own figure tells a new fill from one that
        is known under another id."""
        change = self._desk.take(_as_told(order, venue_id), executions)
        if change is None:
            return
        after = change.after
        if sum((e.qty for e in after.executions.values()), ZERO) > after.order.filled_qty:
            try:
                self._desk.take(self._venue.order_by_client_id(order.client_order_id), executions)
            except OrderNotFound:
                return
        self._taken.update(e.execution_id for e in executions)

    def _names(self, fills: Mapping[str, Sequence[Execution]]) -> dict[str, str]:
        """Our ids by the venue's; a venue whose fills do not carry ours is helped by the book, also after a restart."""
        names = {v: f[0].client_order_id or self._desk.name_of(v) or "" for v, f in fills.items()}
        nameless = {v for v, name in names.items() if not name} - self._foreign
        if nameless:
            found = self._book.names_of(nameless)
            self._desk.learn(found)
            self._foreign |= nameless - found.keys()
            names |= found
        return names

    # -- positions ------------------------------------------------------------------------------------------------

    def _compare(
        self, read_at: datetime, positions: tuple[VenuePosition, ...], orders: tuple[Order, ...]
    ) -> tuple[frozenset[str], str]:
        """Tickers held at the venue that the book knows nothing of, and a drift that was seen twice."""
        ours: dict[str, Decimal] = {}
        for position in self._book.open_positions():
            ours[position.symbol] = ours.get(position.symbol, ZERO) + position.signed_qty
        theirs = {p.ticker: p.signed_qty for p in positions if p.qty}
        external = frozenset(t for t in theirs if t not in ours)
        last_fill = self._desk.last_fill_at
        if last_fill is not None and last_fill >= read_at:
            return external, ""
        moving = {o.ticker for o in orders}
        found = {
            ticker: (held, theirs.get(ticker, ZERO))
            for ticker, held in ours.items()
            if ticker not in moving and held != theirs.get(ticker, ZERO)
        }
        twice = [t for t, seen in found.items() if self._suspected.get(t) == seen]
        self._suspected = found
        drift = "; ".join(f"{t}: {found[t][0]} in the book, {found[t][1]} at the venue" for t in sorted(twice))
        return external - moving, drift


def unresolved_ids(orders: Iterable[Order]) -> list[str]:
    """Orders whose fate at the venue is not known."""
    return [o.client_order_id for o in orders if o.state in UNRESOLVED and o.state is not OrderState.ABSENT]


def _of(fills: list[Execution], venue_order_id: str) -> list[Execution]:
    return [f for f in fills if venue_order_id and f.venue_order_id == venue_order_id]


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
