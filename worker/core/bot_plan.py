"""What one position of a stream bot asks for: a cancel, the exit that it should have, a close at market.

Exits never work for more than is held: one is cancelled, and its fate known, before another is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal

import msgspec

from shared.bots import BotSettings
from worker.core import protection
from worker.core.bot_news import CANCEL_AGAIN_SECONDS
from worker.core.bot_position import Action, BotPosition, Cancel, Submit
from worker.core.orders import Order
from worker.core.protection import UNANSWERED
from worker.core.types import Effect, ExitReason

NEVER = float("inf")


class Situation(msgspec.Struct, frozen=True, gc=False):
    """What is decided on: the bot's document, the last price, the time, and whether anything may be sent.

    ``era`` is how often trading had been switched off, ``mint`` gives client order ids.
    """

    settings: BotSettings
    price: Decimal | None
    now: float
    on: bool
    era: int
    mint: Callable[[Effect], str]


def plan(position: BotPosition, at: Situation) -> Iterator[Action]:
    """What is to be done about a position that is not closed; it notes in the position what it asks for."""
    _decide(position, at)
    if position.entry is not None and position.entry_works and _entry_unwanted(position, at):
        yield from _cancel(position, position.entry, at.now)
    if position.held <= 0:
        yield from _leftovers(position, at.now)
        return
    if not at.on or at.now < position.retry_at:
        return
    if position.closing:
        yield from _close(position, at)
    else:
        yield from _protect(position, at)


def next_look(position: BotPosition, settings: BotSettings, now: float) -> float:
    """When the time alone will ask for something again."""
    times = [asked + CANCEL_AGAIN_SECONDS for asked in position.asked.values()]
    if position.retry_at > now:
        times.append(position.retry_at)
    if position.entry_works and not position.asked:
        times.append(position.placed_at + float(settings.maker_order_timeout))
    if position.opened_at is not None and not position.closing:
        times.append(position.opened_at + float(settings.holding_time))
    if position.stop_met_at is not None:
        times.append(position.stop_met_at + protection.NATIVE_STOP_SECONDS)
    return min((due for due in times if due > now), default=NEVER)


def _leftovers(position: BotPosition, now: float) -> Iterator[Action]:
    """Exits of what is no longer held."""
    for order in list(position.exits.values()):
        if order is not None:
            yield from _cancel(position, order, now)


def _decide(position: BotPosition, at: Situation) -> None:
    """The reason to close at market, once there is one; it stays."""
    if position.closing or position.held <= 0:
        return
    opened = position.opened_at
    if at.settings.close_positions:
        position.closing = ExitReason.MANUAL
    elif protection.stop_is_due(position, at.settings, at.price, at.now):
        position.closing = ExitReason.SL_HIT
    elif opened is not None and at.now >= opened + float(at.settings.holding_time):
        position.closing = ExitReason.TIMEOUT


def _entry_unwanted(position: BotPosition, at: Situation) -> bool:
    settings = at.settings
    overdue = at.now >= position.placed_at + float(settings.maker_order_timeout)
    return overdue or bool(position.closing) or not settings.enabled or settings.close_positions


def _close(position: BotPosition, at: Situation) -> Iterator[Action]:
    """At market, after whatever else sells is out of the way."""
    if any(o is None or o.limit_price is None for o in position.exits.values()):
        return
    for order in list(position.exits.values()):
        if order is not None:
            yield from _cancel(position, order, at.now)
    if not position.exits:
        yield from _exit(position, None, None, position.closing, at)


def _protect(position: BotPosition, at: Situation) -> Iterator[Action]:
    """The exit that it should have; another one only after what there was is out of the way."""
    wanted = protection.wanted(position, at.settings)
    if wanted is None:
        return
    for order in list(position.exits.values()):
        if order is not None and not wanted.is_met_by(order):
            yield from _cancel(position, order, at.now)
    if not position.exits:
        yield from _exit(position, wanted.limit, wanted.stop, ExitReason.TP_HIT, at)


def _exit(
    position: BotPosition, limit: Decimal | None, stop: Decimal | None, reason: str, at: Situation
) -> Iterator[Action]:
    qty = protection.sellable(position)
    if qty <= 0:
        position.problem = f"{position.held} is less than one lot of {position.instrument.lot_size}"
        return
    name = at.mint(Effect.EXIT)
    position.exits[name] = None
    position.pair, position.era = name if stop is not None else "", at.era
    yield Submit(name, position.id, position.symbol, Effect.EXIT, qty, limit, exit_reason=reason, stop_price=stop)


def _cancel(position: BotPosition, order: Order, now: float) -> Iterator[Action]:
    """Once, and again after a while; an order whose fate is unknown cannot be, and is waited for."""
    asked = position.asked.get(order.client_order_id)
    if order.state in UNANSWERED or (asked is not None and now < asked + CANCEL_AGAIN_SECONDS):
        return
    position.asked[order.client_order_id] = now
    yield Cancel(order.client_order_id)
