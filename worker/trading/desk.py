"""The order desk: through the gate, to the venue once, and whatever comes back into the book.

Nothing is ever sent again. An answer that does not say whether the order exists makes it UNKNOWN, and UNKNOWN is
resolved by asking the venue for our client order id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol

from shared.accounts import DEFAULT_ACCOUNT
from shared.clock import Clock
from shared.errors import (
    NotSent,
    OrderNotFound,
    StoreUnreachable,
    VenueAmbiguous,
    VenueError,
    VenueRejected,
    VenueUnavailable,
)
from worker.core import ids
from worker.core.ledger import Bundle, Change, take_act, take_fee, take_in
from worker.core.orders import Order, contradicts
from worker.core.risk import Denial
from worker.core.types import Effect, Execution, OrderState, OrderUpdate, VenueOrder
from worker.failpoints import failpoint
from worker.trading.gate import GATE_SECONDS
from worker.trading.ports import Book, Flight, Gate, Notes, Ticket
from worker.venues.base import CancelOutcome, Venue

S = OrderState
UNRESOLVED = frozenset({S.INTENT, S.UNKNOWN, S.ABSENT})
"""States in which only the venue can say what became of the order."""


CONTRADICTIONS_KEPT = 1000


class Follower(Protocol):
    """Keeps up with the book without reading it again."""

    def on_admitted(self, order: Order) -> None:
        """The gate has taken an order in."""

    def on_changed(self, change: Change) -> None:
        """An order was looked at; ``change.changed`` says whether it is another one now."""


class OrderDesk:
    """All orders of one account go through here."""

    def __init__(
        self,
        venue: Venue,
        gate: Gate,
        book: Book,
        clock: Clock,
        notes: Notes,
        in_flight: Callable[[str], AbstractContextManager[Flight | None]],
        unknown_resolve_seconds: float,
        account: str = DEFAULT_ACCOUNT,
    ) -> None:
        self._venue, self._gate, self._book, self._clock = venue, gate, book, clock
        self._notes, self._in_flight, self._account = notes, in_flight, account
        self._resolve_within = timedelta(seconds=unknown_resolve_seconds)
        self._never_sent: dict[str, str] = {}
        self._by_venue_id: dict[str, str] = {}
        self._contradicted: set[tuple[str, OrderState]] = set()
        self.last_fill_at: datetime | None = None
        self.replaced_at: dict[str, datetime] = {}
        """When an order was last heard to be replaced, by ticker: the one in its place is still to be read."""
        self.changes = 0
        """Rises after everything that this desk changed in the book, so that a reader knows when to read again."""
        self.last_entry: dict[str, str] = {}
        """The entry order that filled last, by ticker."""
        self.on_change: Callable[[Change], None] | None = None
        """Told of every change of an order, in the thread that made it."""
        self.followers: list[Follower] = []
        """Told of every rise of ``changes``, right after it and before anybody acts on it."""

    # -- sending --------------------------------------------------------------------------------------------------

    def submit(self, ticket: Ticket) -> Denial | Order:
        """Gate, then send once. Returns the gate's denial, or the order as it stands after the venue's answer.

        Raises StoreUnreachable or StoreRefused where the gate could not be asked: then nothing was sent.
        """
        name = ticket.order.client_order_id
        deadline = self._clock.monotonic() + GATE_SECONDS
        with self._in_flight(name) as fenced:
            flight = fenced or Flight()
            failpoint("gate.before")
            try:
                denial = self._gate.admit(ticket)
            except StoreUnreachable:
                self._never_sent[name] = "the gate's answer was lost"
                raise
            if denial is not None:
                failpoint("gate.denied")
                return denial
            self.changes += 1
            flight.unresolved = True
            for follower in self.followers:
                follower.on_admitted(ticket.order)
            failpoint("gate.after")
            sent = self._send(ticket.order, deadline)
            flight.unresolved = sent.state in UNRESOLVED
            return sent

    def _send(self, order: Order, deadline: float) -> Order:
        def guard() -> None:
            late = self._clock.monotonic() - deadline
            if late > 0:
                raise NotSent(f"not sent: {GATE_SECONDS * 1000:.0f} ms passed since the gate was asked")
            failpoint("submit.guard")

        name = order.client_order_id
        failpoint("submit.before")
        try:
            told = self._venue.submit(order.request(), guard)
        except NotSent as error:
            failpoint("submit.not_sent")
            self._never_sent[name] = str(error)
            self._act(name, S.NOT_SENT, str(error))
            self._never_sent.pop(name, None)
        except VenueRejected as error:
            failpoint("submit.rejected")
            self._act(name, S.REJECTED, str(error))
        except VenueAmbiguous as error:
            failpoint("submit.ambiguous")
            self._act(name, S.UNKNOWN, str(error))
        else:
            failpoint("submit.answered")
            self.take(told, ())
        failpoint("submit.taken")
        return self._book.order(name) or order

    def cancel(self, order: Order) -> None:
        """Ask the venue to cancel an order and take in what became of it, as far as the venue can say.

        Raises StoreError. An order without the venue's id, or one that may not exist, is left as it is.
        """
        name = order.client_order_id
        if not order.venue_order_id or order.state in UNRESOLVED or order.is_final:
            return
        if order.state in {S.SUBMITTED, S.ACCEPTED, S.PARTIALLY_FILLED}:
            self._act(name, S.PENDING_CANCEL, "")
        result = self._venue.cancel(order.venue_order_id)
        if result.outcome is CancelOutcome.UNCONFIRMED:
            self._notes("cancel_unconfirmed", client_order_id=name, message=result.message)
        try:
            self.take(self._venue.order_by_client_id(name), ())
        except VenueError as error:
            self._notes("cancel_unread", client_order_id=name, message=str(error))

    # -- news -----------------------------------------------------------------------------------------------------

    def take_update(self, update: OrderUpdate) -> None:
        """A pushed change. Others' orders are left to the reconciliation, which settles ours first."""
        failpoint("push.before")
        if self._name(update.order) != ids.external_name(self._account, update.order.venue_order_id):
            self.take(update.order, () if update.execution is None else (update.execution,))
        failpoint("push.after")

    def take(self, told: VenueOrder, executions: Sequence[Execution]) -> Change | None:
        """What the venue tells about an order; None where the book does not know it."""
        name = self._name(told)
        now = self._clock.now()

        def step(bundle: Bundle) -> Bundle:
            return take_in(bundle, told, executions, now, venue=self._venue.name)

        failpoint("apply.before")
        change = self._book.change(name, step)
        if change is None:
            return None
        self._changed(change)
        failpoint("apply.after")
        self._by_venue_id[told.venue_order_id] = name
        self._heard(change)
        after = change.after.order
        if after.filled_qty != change.before.order.filled_qty:
            self.last_fill_at = now
            if after.effect is Effect.ENTRY and not after.is_external:
                self.last_entry[after.ticker] = name
        if after.state is S.REPLACED and change.before.order.state is not S.REPLACED:
            self.replaced_at[after.ticker] = now
        self._tell(change)
        self._record(change.after.order, told.state)
        return change

    def _record(self, order: Order, told: OrderState) -> None:
        """Note what was dropped, once: a venue lists the same every few seconds."""
        if not contradicts(order, told) or (order.client_order_id, told) in self._contradicted:
            return
        if len(self._contradicted) >= CONTRADICTIONS_KEPT:
            self._contradicted.clear()
        self._contradicted.add((order.client_order_id, told))
        self._notes("late_news", client_order_id=order.client_order_id, state=order.state.value, told=told.value)

    def take_fee(self, client_order_id: str, taken: Decimal) -> None:
        """The venue took so much of what the order filled for a fee that no fill told; see ``ledger.take_fee``."""
        now = self._clock.now()
        change = self._book.change(client_order_id, lambda bundle: take_fee(bundle, taken, now, venue=self._venue.name))
        if change is not None:
            self._changed(change)
            self._heard(change)
            self._notes("base_fee", client_order_id=client_order_id, ticker=change.after.order.ticker, taken=str(taken))

    def _name(self, told: VenueOrder) -> str:
        """Our name of an order: a client order id of ours, else what the book calls it, else that of a foreign one."""
        if told.client_order_id is not None and ids.is_ours(told.client_order_id):
            return told.client_order_id
        known = self._by_venue_id.get(told.venue_order_id)
        return known or ids.external_name(self._account, told.venue_order_id)

    def name_of(self, venue_order_id: str) -> str | None:
        """Our id of an order that was heard of under the venue's."""
        return self._by_venue_id.get(venue_order_id)

    def learn(self, names: Mapping[str, str]) -> None:
        """Our ids by the venue's, from the book."""
        self._by_venue_id.update(names)

    def _act(self, name: str, state: OrderState, note: str) -> None:
        now = self._clock.now()
        failpoint("act.before")
        change = self._book.change(name, lambda bundle: take_act(bundle, state, now, note))
        failpoint("act.after")
        if change is not None:
            self._changed(change)
            self._heard(change)
            self._tell(change)

    def _changed(self, change: Change) -> None:
        self.changes += 1
        for follower in self.followers:
            follower.on_changed(change)

    def _heard(self, change: Change) -> None:
        if self.on_change is not None and change.changed:
            self.on_change(change)

    def _tell(self, change: Change) -> None:
        before, after = change.before.order, change.after.order
        if before.state is after.state and before.filled_qty == after.filled_qty:
            return
        self._notes(
            "order",
            client_order_id=after.client_order_id,
            ticker=after.ticker,
            side=after.side.value,
            state=after.state.value,
            filled_qty=str(after.filled_qty),
            note=after.note,
        )

    # -- resolving ------------------------------------------------------------------------------------------------

    def resolve(self, order: Order, executions: Sequence[Execution] = ()) -> None:
        """Ask the venue what became of an order and take the answer in.

        Raises VenueUnavailable where the venue cannot say; then all stays as it is.
        """
        name = order.client_order_id
        if name in self._never_sent:
            self._close_never_sent(order)
            return
        if order.state is S.INTENT:
            self._act(name, S.UNKNOWN, "its answer was never taken in")
        failpoint("recover.ask")
        try:
            told = self._venue.order_by_client_id(name)
        except OrderNotFound:
            failpoint("recover.absent")
            self._absent(order)
            return
        failpoint("recover.told")
        self.take(told, executions)
        failpoint("recover.taken")

    def _close_never_sent(self, order: Order) -> None:
        failpoint("recover.never_sent")
        note = self._never_sent[order.client_order_id]
        if order.state is S.INTENT:
            self._act(order.client_order_id, S.NOT_SENT, note)
        self._never_sent.pop(order.client_order_id)

    def _absent(self, order: Order) -> None:
        """Not there (yet): after the time to resolve it is ABSENT, never forgotten and never sent again."""
        waited = self._clock.now() - order.created_at
        if order.state in {S.INTENT, S.UNKNOWN} and waited >= self._resolve_within:
            self._act(
                order.client_order_id, S.ABSENT, f"the venue does not know it after {waited.total_seconds():.0f} s"
            )
        elif order.state not in UNRESOLVED:
            raise VenueUnavailable(f"the venue no longer knows {order.client_order_id}, which it had accepted")
