"""What the trading code needs of the outside, each with a Redis form and an in-memory twin."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

import msgspec

from shared.clock import TradingDay
from shared.documents import Reading, RiskSettings, TradingSettings
from worker.core.ledger import Bundle, Change
from worker.core.orders import Order
from worker.core.positions import Position
from worker.core.risk import DayCounters, Denial
from worker.core.stats import Stats
from worker.core.types import AccountState, VenuePosition


class Switches(msgspec.Struct, frozen=True, gc=False):
    """Both settings documents as one look judged them."""

    settings: Reading[TradingSettings]
    risk: Reading[RiskSettings]

    @property
    def on(self) -> bool:
        """Strictly ON: both readable, enabled, no stop flag. Whether trading is armed is another question."""
        return (
            self.settings.error is None
            and self.risk.error is None
            and self.settings.value.enabled
            and not self.risk.value.emergency_stop_active
        )

    @property
    def error(self) -> str | None:
        """Why a document cannot be read, naming it, the field and the value."""
        if self.settings.error is not None:
            return f"trading_settings: {self.settings.error}"
        return None if self.risk.error is None else f"risk_settings: {self.risk.error}"


class Ticket(msgspec.Struct, frozen=True, gc=False):
    """What the gate judges: an order in state INTENT and everything that it was decided on."""

    order: Order
    switches: Switches
    day: TradingDay
    run_id: str


@dataclass(slots=True)
class Flight:
    """One order on its way; ``unresolved`` where it ends without telling whether the venue has the order."""

    unresolved: bool = False


class VenueRead(Protocol):
    """What a venue read found; ``read_at`` is when it began. See ``reconcile.Snapshot``."""

    @property
    def read_at(self) -> datetime: ...

    @property
    def positions(self) -> Sequence[VenuePosition]: ...

    @property
    def account(self) -> AccountState: ...

    @property
    def external(self) -> frozenset[str]:
        """Tickers that others hold or work in."""

    @property
    def drift(self) -> str:
        """Why only exits are sent, else empty."""


class Gate(Protocol):
    """The atomic check before every submit."""

    def admit(self, ticket: Ticket) -> Denial | None:
        """None: admitted, reserved, and the intent is durable. Raises StoreUnreachable where that is not known."""


class DayFigures(msgspec.Struct, frozen=True, gc=False):
    """What the counters of a trading day say."""

    counters: DayCounters
    last_trade: Mapping[str, datetime]
    filled_orders: int
    filled_notional: Decimal


class Book(Protocol):
    """The account's orders, positions and figures. ``change`` is the only way an order changes."""

    def open_orders(self) -> list[Order]:
        """Orders that are not final, of this account."""

    def order(self, client_order_id: str) -> Order | None: ...

    def names_of(self, venue_order_ids: Collection[str]) -> dict[str, str]:
        """Our ids of final orders by the venue's, those that are known."""

    def given_up(self) -> frozenset[str]:
        """Tickers of orders of ours that a person called absent, as far as the newest final orders tell."""

    def open_positions(self) -> list[Position]: ...

    def exposure(self) -> dict[str, Decimal]:
        """What others hold by ticker, signed, as far as fills and ``settle_exposure`` told."""

    def dust(self) -> dict[str, Decimal]:
        """What closed positions of ours left at the venue below a lot, by ticker."""

    def settle_exposure(self, ticker: str, qty: Decimal) -> None:
        """What others hold in a ticker in which we hold nothing."""

    def day(self, trading_day: str) -> DayFigures: ...

    def stats(self) -> Stats: ...

    def change(self, client_order_id: str, step: Callable[[Bundle], Bundle]) -> Change | None:
        """Apply a pure step atomically with all that follows from it; None where there is no such order."""

    def adopt(self, order: Order) -> None:
        """Record an order that did not pass our gate: a foreign one."""

    def add_equity(self, time: datetime, equity: str) -> None: ...

    def refused(self, order: Order) -> None:
        """Show an order that never became one in ``trades_log``."""


class Notes(Protocol):
    """Where what happened is told: the ``events`` stream and the log."""

    def __call__(self, kind: str, /, **fields: object) -> None: ...
