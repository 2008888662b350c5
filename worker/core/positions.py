"""A position is one round trip, kept as exact sums: what was bought, what was sold, what it cost.

With all quantity closed, profit is Σ sold − Σ bought − fees, for long and short alike and without any division. A fee
in the base currency is quantity that there is no more to sell: it is in that profit by itself. A rest too little to be
sold counts for nothing until somebody sells it.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import msgspec
from msgspec.structs import replace

from worker.core.types import Side

ZERO = Decimal(0)
PLACES = Decimal("1e-12")


class Position(msgspec.Struct, frozen=True, gc=False):
    """One round trip in one ticker. Its id is the client order id of the order that opened it.

    ``quote_fees`` were paid in money, ``base_fees`` is the quantity that fees took. ``dust`` is what was left when it
    closed: still at the venue, and less than ``least_qty``, the least that can be sold.
    """

    id: str
    bot_id: str
    venue: str
    account: str
    symbol: str
    side: str
    entry_order_id: str
    entry_time: datetime
    reason: str = ""
    confidence: str = ""
    strategy_used: str = ""
    take_profit: str = ""
    stop_loss: str = ""
    bought_qty: Decimal = ZERO
    bought_notional: Decimal = ZERO
    sold_qty: Decimal = ZERO
    sold_notional: Decimal = ZERO
    quote_fees: Decimal = ZERO
    exit_order_id: str = ""
    exit_time: datetime | None = None
    exit_reason: str = ""
    base_fees: Decimal = ZERO
    dust: Decimal = ZERO
    least_qty: Decimal = ZERO

    @property
    def signed_qty(self) -> Decimal:
        return self.bought_qty - self.sold_qty - self.base_fees - self.dust

    @property
    def fees_paid(self) -> Decimal:
        """All fees in the quote currency; a quantity that was taken, at the entry's average."""
        if not self.base_fees:
            return self.quote_fees
        return self.quote_fees + (self.base_fees * (self.entry_price or ZERO)).quantize(PLACES)

    @property
    def quantity(self) -> Decimal:
        """What is still held, without sign."""
        return abs(self.signed_qty)

    @property
    def is_closed(self) -> bool:
        return self.entry_qty > 0 and self.signed_qty == 0

    @property
    def status(self) -> str:
        return "CLOSED" if self.is_closed else "OPEN" if self.entry_qty else "PENDING"

    @property
    def entry_qty(self) -> Decimal:
        return self.bought_qty if self.side == "long" else self.sold_qty

    @property
    def entry_price(self) -> Decimal | None:
        """Average of what opened it."""
        notional = self.bought_notional if self.side == "long" else self.sold_notional
        return notional / self.entry_qty if self.entry_qty else None

    @property
    def exit_qty(self) -> Decimal:
        return self.sold_qty if self.side == "long" else self.bought_qty

    @property
    def exit_price(self) -> Decimal | None:
        """Average of what closed it so far."""
        notional = self.sold_notional if self.side == "long" else self.bought_notional
        return notional / self.exit_qty if self.exit_qty else None

    @property
    def matched_qty(self) -> Decimal:
        """What was opened and closed again; where more was closed than opened, the rest is held the other way round."""
        return min(self.entry_qty, self.exit_qty)

    @property
    def realized_pnl(self) -> Decimal:
        """Net of fees. Exact when closed; for a partial close, against the average entry price."""
        if self.signed_qty == 0:
            return self.sold_notional - self.bought_notional - self.quote_fees
        entry, exit_ = self.entry_price, self.exit_price
        if entry is None or exit_ is None:
            return -self.fees_paid
        gain = (exit_ - entry) if self.side == "long" else (entry - exit_)
        return gain * self.matched_qty - self.fees_paid

    @property
    def pnl_percentage(self) -> Decimal:
        """Realized profit in per cent of what was put in."""
        entry, closed = self.entry_price, self.matched_qty
        return self.realized_pnl / (entry * closed) * 100 if entry and closed else ZERO

    def unrealized_pnl(self, price: Decimal) -> Decimal:
        """Of what is still held, at a price; held the other way round, it was opened at the exit's average."""
        opened = self.entry_price if self.entry_qty >= self.exit_qty else self.exit_price
        return ZERO if opened is None else (price - opened) * self.signed_qty


def add_fill(
    position: Position,
    side: Side,
    qty: Decimal,
    notional: Decimal,
    fees: Decimal,
    order_id: str,
    time: datetime,
    base_fees: Decimal = ZERO,
    *,
    entering: bool = False,
) -> Position:
    """Account for a change of an order's totals; all of them may be corrections (also zero or negative).

    Unless more may still come in (``entering``), a rest that is too little to be sold is dust, and the position closed.
    """
    if side is Side.BUY:
        changed = replace(
            position, bought_qty=position.bought_qty + qty, bought_notional=position.bought_notional + notional
        )
    else:
        changed = replace(position, sold_qty=position.sold_qty + qty, sold_notional=position.sold_notional + notional)
    changed = replace(changed, quote_fees=changed.quote_fees + fees, base_fees=changed.base_fees + base_fees, dust=ZERO)
    if not entering and changed.side == "long" and ZERO < changed.signed_qty < changed.least_qty:
        changed = replace(changed, dust=changed.signed_qty)
    if changed.is_closed and not position.is_closed:
        return replace(changed, exit_order_id=order_id, exit_time=time)
    if not changed.is_closed and position.is_closed:
        return replace(changed, exit_order_id="", exit_time=None, exit_reason="")
    return changed
