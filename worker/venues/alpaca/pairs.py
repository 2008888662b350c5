"""Alpaca's OCO orders of ours as one order each: what the port calls a protective pair.

Alpaca makes two orders of one: the parent, a limit under our client order id, and its leg, a stop under an id of
Alpaca's own, ``held`` until it is met; then the parent is ``canceled`` (or ``replaced``) and the leg fills. A limit
that fills in part shrinks the leg, which may be replaced for it. The stream tells of each by itself, and not always
that a leg was cancelled with its parent (alpacahq/alpaca-py#198). Orders of others are left as they are.

An address that heeds no ``nested`` lists a leg as an order of its own, which nothing but symbol, side and time of birth
ties to its parent.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from worker.core import ids
from worker.core.order_states import FINAL
from worker.core.types import Execution, OrderState, OrderUpdate, VenueOrder
from worker.venues.alpaca import mapping
from worker.venues.alpaca.figures import optional, optional_positive

S = OrderState
ZERO = Decimal(0)
Json = Mapping[str, Any]
PAIR_CLASSES = frozenset({"oco", "bracket"})
"""What Alpaca calls a leg of an OCO order, too."""
GROUP_TOLERANCE = timedelta(seconds=1)
"""How far apart the orders of a group may have been made."""
PAIRS_KEPT = 2000
PLAIN_KEPT = 20_000


def is_pair(found: Json) -> bool:
    """Whether an order is the parent of a pair of ours."""
    return found.get("order_class") == "oco" and ids.is_ours(found.get("client_order_id"))


def _may_be_leg(found: Json) -> bool:
    """Whether an order by itself may be the stop of a pair of ours."""
    kind, of_others = found.get("type") or found.get("order_type"), not ids.is_ours(found.get("client_order_id"))
    return of_others and found.get("order_class") in PAIR_CLASSES and kind in {"stop", "stop_limit"}


class _Pair:
    """Parent and legs as last told; ``held`` are those that wait for their stop to be met."""

    def __init__(self, parent: str) -> None:
        self.parent = parent
        self.orders: dict[str, VenueOrder] = {}
        self.stops: dict[str, Decimal] = {}
        self.held: set[str] = set()
        self.whole = False
        """REST has told of it with its legs, so that where none is known there is none."""

    def take(self, found: Json) -> None:
        """Figures only grow and what is final stays so, since the stream may tell late what REST told before."""
        shrunk = str(found["id"]) != self.parent and optional(found.get("qty")) == 0
        told = mapping.order({**found, "qty": None} if shrunk else found)
        name, known = told.venue_order_id, self.orders.get(told.venue_order_id)
        waits = found["status"] == "held" and name != self.parent and (known is None or name in self.held)
        if known is not None:
            if known.filled_qty > told.filled_qty:
                told = replace(told, filled_qty=known.filled_qty, avg_fill_price=known.avg_fill_price)
            if known.state in FINAL and told.state is not S.FILLED:
                told = replace(told, state=known.state)
        self.orders[name] = told
        (self.held.add if waits else self.held.discard)(name)
        stop = optional_positive(found.get("stop_price"))
        if stop is not None:
            self.stops[name] = stop

    def order(self) -> VenueOrder:
        """The pair as one order, under the parent's ids."""
        parent = self.orders[self.parent]
        legs = [o for name, o in self.orders.items() if name != self.parent]
        filled = sum((o.filled_qty for o in self.orders.values()), ZERO)
        paid = sum((o.filled_qty * (o.avg_fill_price or ZERO) for o in self.orders.values()), ZERO)
        standing = [
            self.stops[o.venue_order_id] for o in legs if o.state not in FINAL and o.venue_order_id in self.stops
        ]
        updated = [o.updated_at for o in self.orders.values() if o.updated_at is not None]
        return replace(
            parent,
            state=self._state(parent, legs, filled),
            filled_qty=filled,
            avg_fill_price=paid / filled if filled else None,
            updated_at=max(updated, default=None),
            stop_price=standing[0] if standing else None,
            stop_filled_qty=filled - parent.filled_qty,
        )

    def _state(self, parent: VenueOrder, legs: list[VenueOrder], filled: Decimal) -> OrderState:
        if filled >= parent.qty:
            return S.FILLED
        if not self.whole and parent.state not in FINAL:
            return S.SUBMITTED
        if parent.state not in FINAL:
            return S.PARTIALLY_FILLED if filled and parent.state is S.ACCEPTED else parent.state
        left = [o for o in legs if o.state not in FINAL]
        if any(o.venue_order_id not in self.held for o in left):
            return S.PARTIALLY_FILLED if filled else S.ACCEPTED
        if left:  # either its stop has been met, or its cancel is under way
            return S.PENDING_CANCEL
        return S.CANCELED if parent.state in {S.REPLACED, S.FILLED} else parent.state


class Pairs:
    """Every pair that was told of. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pairs: OrderedDict[str, _Pair] = OrderedDict()
        self._member: dict[str, str] = {}
        self._plain: OrderedDict[str, None] = OrderedDict()
        self._alone: set[str] = set()

    def orders(self, rows: Iterable[Json]) -> list[VenueOrder]:
        """Orders as REST lists them, legs nested in them: pairs of ours as one, all else one by one.

        Raises what ``mapping.order`` raises.
        """
        with self._lock:
            rows = list(rows)
            self._tie(rows)
            parts = [part for row in rows for part in self._parts(row)]  # whose each is, before any is looked at
            told = [self._take(part, listed=True) for part in parts]
            found = {o.venue_order_id: o for o in told}
            return [self._pairs[name].order() if name in self._pairs else o for name, o in found.items()]

    def order(self, found: Json) -> VenueOrder:
        """One order; a pair where it is one, or a part of one."""
        return self.orders([found])[0]

    def update(self, found: Json) -> OrderUpdate:
        """A pushed change, of a pair where it is one."""
        update = mapping.update(found)
        with self._lock:
            told = self._take(found["order"], listed=False)
            pair = self._pair(told.venue_order_id)
            if pair is None:
                return update
            order, fill = pair.order(), update.execution
        return OrderUpdate(order, None if fill is None else _of_pair(fill, order))

    def fill(self, execution: Execution) -> Execution:
        """A fill under the pair's id, where it is of one."""
        with self._lock:
            pair = self._pair(execution.venue_order_id)
            return execution if pair is None else _of_pair(execution, pair.orders[pair.parent])

    def knows(self, venue_order_id: str) -> bool:
        """Whether it is known what an order is a part of, if of anything."""
        with self._lock:
            return self._is_known(venue_order_id)

    def alone(self) -> list[str]:
        """Orders listed since the last call that may be legs, of whose parents nothing is known."""
        with self._lock:
            found = sorted(self._alone - self._member.keys())
            self._alone.clear()
            return found

    def has_leg(self, venue_order_id: str) -> bool:
        """Whether a leg of the pair was told of."""
        with self._lock:
            return self._leg_of(venue_order_id)

    def is_plain(self, venue_order_id: str) -> None:
        """An order is no part of a pair."""
        with self._lock:
            self._alone.discard(venue_order_id)
            self._note_plain(venue_order_id)

    def name(self, venue_order_id: str) -> str:
        """The id that an order goes by: that of its pair, else its own."""
        with self._lock:
            return self._member.get(venue_order_id, venue_order_id)

    def parts(self, venue_order_id: str) -> list[str]:
        """Ids of the legs of a pair that are not final, for a parent that is."""
        with self._lock:
            pair = self._pair(venue_order_id)
            if pair is None:
                return []
            return [name for name, o in pair.orders.items() if name != pair.parent and o.state not in FINAL]

    # -- with the lock held ---------------------------------------------------------------------------------------

    def _pair(self, venue_order_id: str) -> _Pair | None:
        return self._pairs.get(self._member.get(venue_order_id, ""))

    def _is_known(self, name: str) -> bool:
        return name in self._member or name in self._plain

    def _leg_of(self, parent: str) -> bool:
        return any(p == parent and name != parent for name, p in self._member.items())

    def _tie(self, rows: Sequence[Json]) -> None:
        """Make legs that stand by themselves members of the pair that was made with them."""
        legs = [r for r in rows if _may_be_leg(r) and not self._is_known(str(r["id"]))]
        if not legs:
            return
        parents = [r for r in rows if is_pair(r) and not r.get("legs") and not self._leg_of(str(r["id"]))]
        for leg in legs:
            born = mapping.made_at(leg)
            apart = [
                (abs(made - born), at)
                for at, p in enumerate(parents)
                if (made := mapping.made_at(p)) is not None
                and born is not None
                and (p["symbol"], p["side"]) == (leg["symbol"], leg["side"])
            ]
            distance, nearest = min(apart, default=(GROUP_TOLERANCE * 2, 0))
            if distance <= GROUP_TOLERANCE:
                self._join(str(leg["id"]), str(parents.pop(nearest)["id"]))
            else:
                self._alone.add(str(leg["id"]))

    def _parts(self, row: Json) -> Iterator[Json]:
        """A row and its legs; those of a pair of ours are made its members first."""
        if is_pair(row):
            parent = str(row["id"])
            for part in mapping.with_legs(row):
                self._join(str(part["id"]), parent)
            self._pairs[parent].whole = True
        yield from mapping.with_legs(row)

    def _join(self, name: str, parent: str) -> None:
        if parent not in self._pairs:
            self._pairs[parent] = _Pair(parent)
            if len(self._pairs) > PAIRS_KEPT:
                _, old = self._pairs.popitem(last=False)
                for member in [m for m, p in self._member.items() if p == old.parent]:
                    del self._member[member]
        self._member[name] = parent

    def _take(self, found: Json, *, listed: bool) -> VenueOrder:
        """What it is in; a stream may tell of a leg before REST has told whose it is."""
        name = str(found["id"])
        before = self._pair(str(found.get("replaces") or ""))
        if name not in self._member and before is not None and found.get("replaces") != before.parent:
            self._join(name, before.parent)  # a leg in the place of a leg
        if name not in self._member and is_pair(found):
            self._join(name, name)
        pair = self._pair(name)
        if pair is None:
            if listed and name not in self._alone:
                self._note_plain(name)
            return mapping.order(found)
        pair.take(found)
        parent = pair.orders.get(pair.parent)
        return parent if parent is not None else mapping.order(found)

    def _note_plain(self, name: str) -> None:
        self._plain[name] = None
        if len(self._plain) > PLAIN_KEPT:
            self._plain.popitem(last=False)


def _of_pair(execution: Execution, order: VenueOrder) -> Execution:
    return replace(execution, venue_order_id=order.venue_order_id, client_order_id=order.client_order_id)
