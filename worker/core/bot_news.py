"""What is heard of one position of a stream bot, taken in: its totals, its exits, a refusal, what a restart finds."""

from __future__ import annotations

from worker.core import protection
from worker.core.bot_position import BotPosition
from worker.core.orders import Order
from worker.core.positions import Position
from worker.core.types import Instrument, OrderState

CANCEL_AGAIN_SECONDS = 2.0
"""After this long without the fate of an order that was asked to be cancelled, it is asked again."""
RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 30.0
"""After refusals by the venue, each of which is an order in the books; a denial of ours costs nothing."""
_S = OrderState
_REFUSED = frozenset({_S.REJECTED, _S.NOT_SENT})


def take_totals(found: BotPosition, told: Position, now: float) -> None:
    """What the book says was bought, sold and lost to fees."""
    found.bought_qty, found.bought_notional = told.bought_qty, told.bought_notional
    found.sold_qty, found.gone_qty = told.sold_qty, told.base_fees + told.dust
    if found.opened_at is None and told.bought_qty:
        found.opened_at = now


def take_exit(found: BotPosition, order: Order, now: float, *, stopped: bool) -> None:
    """An exit changed; ``stopped``: trading has been switched off since it was sent."""
    lost = protection.pair_lost(found, order, stopped=stopped)
    found.no_pair = found.no_pair or lost
    if not (order.is_final or order.state is _S.ABSENT):
        found.exits[order.client_order_id] = order
        found.refusals = 0
        return
    found.exits.pop(order.client_order_id, None)
    if order.state in _REFUSED and not order.filled_qty and not lost:
        back_off(found, now, order.note or order.state.value, LONGEST_PAUSE_SECONDS)
    elif order.filled_qty:
        found.problem = ""


def back_off(position: BotPosition, now: float, why: str, longest: float) -> None:
    """Wait before the next exit, twice as long after every refusal."""
    position.problem = why
    position.retry_at = now + min(RETRY_SECONDS * 2**position.refusals, longest)
    position.refusals = min(position.refusals + 1, 10)


def adopted(
    entry: Order | None, position: Position | None, exits: list[Order], instrument: Instrument, era: int, now: float
) -> BotPosition | None:
    """What was found in the book: a position, an entry that works, or both; None where there is neither."""
    if entry is None and position is None:
        return None
    name = position.id if position is not None else entry.position_id if entry is not None else ""
    symbol = position.symbol if position is not None else entry.ticker if entry is not None else ""
    placed_at = now if entry is None else entry.created_at.timestamp()
    of = BotPosition(name, symbol, instrument, placed_at, entry, confidence=entry.confidence if entry else "")
    of.entry_gone, of.era = entry is None, era
    if position is not None:
        of.opened_at = position.entry_time.timestamp()
        take_totals(of, position, now)
        of.confidence = position.confidence
    of.exits = {o.client_order_id: o for o in exits if not (o.is_final or o.state is _S.ABSENT)}
    of.asked = {n: now - CANCEL_AGAIN_SECONDS for n, o in of.exits.items() if o and o.state is _S.PENDING_CANCEL}
    if any(o.limit_price is not None and o.stop_price is None for o in of.exits.values() if o is not None):
        of.no_pair = protection.FOUND_WITHOUT if instrument.protective_pair else ""
    market = next((o for o in exits if o.limit_price is None and o.exit_reason), None)
    of.closing = market.exit_reason if market is not None else ""
    return of
