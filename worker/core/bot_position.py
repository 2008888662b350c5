"""One position of a stream bot from its entry order on, and what its manager asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

import msgspec

from worker.core.orders import Order
from worker.core.types import Effect, Instrument, OrderState, Side

ZERO = Decimal(0)
_ENTRY, _BUY, _SELL = Effect.ENTRY, Side.BUY, Side.SELL
"""Looking a member up in its class takes longer than most questions about it."""


class Phase(StrEnum):
    PENDING = "pending"
    ACTIVE = "active"
    CLOSED = "closed"


class Submit(msgspec.Struct, frozen=True, gc=False):
    """An order to send. A limit where there is a price, else at market; with a ``stop_price`` a protective pair. An
    entry tells the levels that it aims at."""

    client_order_id: str
    position_id: str
    symbol: str
    effect: Effect
    qty: Decimal
    limit_price: Decimal | None
    exit_reason: str = ""
    confidence: str = ""
    take_profit: str = ""
    stop_loss: str = ""
    stop_price: Decimal | None = None

    @property
    def side(self) -> Side:
        return _BUY if self.effect is _ENTRY else _SELL


class Cancel(msgspec.Struct, frozen=True, gc=False):
    """An order to cancel."""

    client_order_id: str


Action = Submit | Cancel


class BotPosition(msgspec.Struct, gc=False):
    """One position from its entry order on. ``exits`` are those that may still fill; None where not heard of yet."""

    id: str
    symbol: str
    instrument: Instrument
    placed_at: float
    entry: Order | None = None
    exits: dict[str, Order | None] = msgspec.field(default_factory=dict)
    bought_qty: Decimal = ZERO
    bought_notional: Decimal = ZERO
    sold_qty: Decimal = ZERO
    gone_qty: Decimal = ZERO
    """What fees took of it, and what was left below a lot."""
    opened_at: float | None = None
    closing: str = ""
    confidence: str = ""
    asked: dict[str, float] = msgspec.field(default_factory=dict)
    retry_at: float = 0.0
    refusals: int = 0
    problem: str = ""
    uncovered_since: float | None = None
    entry_gone: bool = False
    """The entry is final, and no longer looked at."""
    pair: str = ""
    """The last exit that was sent with a stop."""
    era: int = 0
    """How often trading had been switched off when an exit was last sent, or found."""
    no_pair: str = ""
    """Why the stop-loss is watched here although the venue holds pairs."""
    stop_met_at: float | None = None
    """Since when the price has been at or below a stop that stands at the venue."""

    @property
    def held(self) -> Decimal:
        return self.bought_qty - self.sold_qty - self.gone_qty

    @property
    def entry_price(self) -> Decimal | None:
        return self.bought_notional / self.bought_qty if self.bought_qty else None

    @property
    def entry_works(self) -> bool:
        """Whether the entry may still fill; one that the venue has denied for long (ABSENT) is not waited for."""
        if self.entry_gone:
            return False
        return self.entry is None or not (self.entry.is_final or self.entry.state is OrderState.ABSENT)

    @property
    def phase(self) -> Phase:
        if self.bought_qty == 0:
            return Phase.PENDING if self.entry_works else Phase.CLOSED
        return Phase.ACTIVE if self.held > 0 or self.entry_works or self.exits else Phase.CLOSED

    @property
    def selling(self) -> Decimal:
        """What exits that may still fill could sell."""
        return sum((o.open_qty for o in self.exits.values() if o is not None), ZERO)


@dataclass(slots=True)
class Counters:
    """What a bot has done since its process began."""

    entries: int = 0
    expired: int = 0
    closed: dict[str, int] = field(default_factory=dict)
    refused: int = 0
