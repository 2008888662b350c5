"""What protects a position of a stream bot: its levels, the exit that it should have, and who watches its stop-loss.

Where the venue holds a take-profit and a stop-loss as one order, that pair is the exit, and the stop is the venue's to
keep. Else, and wherever such a pair was refused or is gone, the exit is the take-profit alone and the stop is watched.
Pure functions: ``core.bots`` decides when they are asked.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from shared.bots import BotSettings
from worker.core.bot_position import BotPosition
from worker.core.decide import round_down
from worker.core.grid import Grid
from worker.core.order_states import STANDING
from worker.core.orders import NO_STOP, Order
from worker.core.types import OrderState

ZERO = Decimal(0)
NATIVE_STOP_SECONDS = 2.0
"""For how long a stop at the venue may leave a price that meets it unanswered, until it is cancelled and we close."""
PAIR_GONE = "the take-profit with its stop-loss was cancelled at the venue"
FOUND_WITHOUT = "its exit was found at the venue without a stop-loss"
UNANSWERED = frozenset({OrderState.INTENT, OrderState.UNKNOWN})


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """The exit that an open position should have: a take-profit, with a stop where the venue shall hold it."""

    qty: Decimal
    limit: Decimal
    stop: Decimal | None

    def is_met_by(self, order: Order) -> bool:
        """Whether a working exit is this one."""
        return (order.open_qty, order.limit_price, order.stop_price) == (self.qty, self.limit, self.stop)


def sellable(position: BotPosition) -> Decimal:
    """What is held, in whole lots; nothing where that is less than the venue takes."""
    qty = round_down(position.held, position.instrument.lot_size)
    return qty if qty >= position.instrument.least_qty else ZERO


def take_profit(position: BotPosition, settings: BotSettings) -> Decimal | None:
    """The limit of the take-profit, rounded up to a tick; None before the first fill."""
    entry = position.entry_price
    if entry is None:
        return None
    return Grid(position.instrument.tick_size).ceiling(entry * (1 + settings.profit_target_pct))


def stop_loss(position: BotPosition, settings: BotSettings) -> Decimal | None:
    """The price at or below which the position is closed; None before the first fill."""
    entry = position.entry_price
    return None if entry is None else entry * (1 - settings.stop_loss_pct)


def wanted(position: BotPosition, settings: BotSettings) -> Wanted | None:
    """The exit that the position should have now; None before the first fill.

    The stop is rounded down to a tick: the first price on the grid that meets the level.
    """
    limit, level = take_profit(position, settings), stop_loss(position, settings)
    if limit is None or level is None:
        return None
    stop = Grid(position.instrument.tick_size).floor(level)
    native = position.instrument.protective_pair and not position.no_pair and ZERO < stop < limit
    return Wanted(sellable(position), limit, stop if native else None)


def stop_stands(position: BotPosition) -> bool:
    """Whether the venue keeps the stop-loss of all that is held; one that we asked to cancel does not count."""
    kept = ZERO
    for name, order in position.exits.items():
        if order is not None and order.stop_price is not None and order.state in STANDING:
            kept += ZERO if name in position.asked else order.open_qty
    return kept > 0 and kept >= sellable(position)


def is_exposed(position: BotPosition, *, watching: bool) -> bool:
    """Whether anything is held without a working exit, or without anybody who keeps its stop-loss."""
    if position.held <= 0:
        return False
    exits = (o for o in position.exits.values() if o is not None and o.state not in UNANSWERED)
    return sum((o.open_qty for o in exits), ZERO) < sellable(position) or not (watching or stop_stands(position))


def stop_is_due(position: BotPosition, settings: BotSettings, price: Decimal | None, now: float) -> bool:
    """Whether the stop-loss is ours to carry out: it is met, and the venue has none or leaves it unanswered."""
    level = stop_loss(position, settings)
    if level is None or price is None or price > level:
        position.stop_met_at = None
        return False
    if not stop_stands(position):
        return True
    if position.stop_met_at is None:
        position.stop_met_at = now
    return now >= position.stop_met_at + NATIVE_STOP_SECONDS


def pair_lost(position: BotPosition, order: Order, *, stopped: bool) -> str:
    """Why the stop-loss is watched from now on, after an exit changed; empty where it is not because of that.

    An exit that we or a stop cancelled (``stopped`` since it was sent), that expired or was never sent, is followed by
    another pair.
    """
    if order.stop_price is None:
        return NO_STOP if order.client_order_id == position.pair and order.state in STANDING else ""
    if order.state is OrderState.REJECTED and not order.filled_qty:
        return f"the venue refused a take-profit with a stop-loss: {order.note or order.state.value}"
    gone = order.state in {OrderState.CANCELED, OrderState.REPLACED}
    return PAIR_GONE if gone and not stopped and order.client_order_id not in position.asked else ""
