"""The book's positions against the venue's, by ticker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from worker.core.orders import Order
from worker.core.positions import Position
from worker.core.types import VenuePosition

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Apart:
    """Signed quantities of one ticker: in the book, at the venue, what others hold as far as fills told, and what our
    closed positions left below a lot."""

    ours: Decimal
    theirs: Decimal
    others: Decimal
    dust: Decimal = ZERO

    @property
    def missing(self) -> Decimal:
        """What the venue holds less than the sum of the rest."""
        return self.ours + self.others + self.dust - self.theirs

    @property
    def of_others(self) -> bool:
        """Whether others hold something; dust of ours that they sold is not theirs to owe."""
        return self.others > 0 or self.others + self.dust < 0

    def __str__(self) -> str:
        others = f", {self.others} of others" if self.others else ""
        dust = f", {self.dust} left below a lot" if self.dust else ""
        return f"{self.ours} in the book, {self.theirs} at the venue{others}{dust}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """``external``: tickers that others hold or move. ``apart``: where the sums differ. ``drifting``: those of them
    in which we hold something, and since when."""

    external: frozenset[str]
    apart: Mapping[str, Apart]
    drifting: Mapping[str, datetime]

    def told(self, tickers: Iterable[str]) -> str:
        """The drift of some tickers in words; empty without one that drifts."""
        return "; ".join(f"{t}: {self.apart[t]}" for t in sorted(tickers) if t in self.drifting)


def compare(
    held: Iterable[Position],
    positions: Sequence[VenuePosition],
    orders: Iterable[Order],
    others: Mapping[str, Decimal],
    dust: Mapping[str, Decimal],
) -> Comparison:
    """A ticker in which an order of ours works is left out: it may fill between two reads."""
    ours: dict[str, Decimal] = {}
    since: dict[str, datetime] = {}
    for position in held:
        ours[position.symbol] = ours.get(position.symbol, ZERO) + position.signed_qty
        since[position.symbol] = min(position.entry_time, since.get(position.symbol, position.entry_time))
    theirs = {p.ticker: p.signed_qty for p in positions if p.qty}
    moving = {o.ticker for o in orders if not o.is_external}
    sums = {
        t: Apart(ours.get(t, ZERO), theirs.get(t, ZERO), others.get(t, ZERO), dust.get(t, ZERO))
        for t in (ours.keys() | theirs.keys() | others.keys() | dust.keys()) - moving
    }
    apart = {t: row for t, row in sums.items() if row.missing}
    external = {t for t, row in sums.items() if row.of_others or (t not in ours and t in apart)}
    return Comparison(frozenset(external), apart, {t: since[t] for t in apart if t in ours})
