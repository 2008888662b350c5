"""The venue port: what every exchange or broker looks like to a worker, and what its answers mean.

Every call is synchronous, bounded by the adapter's own timeouts (3 s for connect and read together) and safe to make
from several threads. No library retry is left on anywhere: what is sent is sent once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from shared.errors import VenueUnavailable
from worker.core.types import (
    AccountState,
    Bar,
    Execution,
    Instrument,
    LastPrice,
    MarketClock,
    OrderRequest,
    OrderUpdate,
    VenueOrder,
    VenuePosition,
)

CALL_TIMEOUT_SECONDS = 3.0

SendGuard = Callable[[], None]
"""Called by ``submit`` as the last statement before the socket write, in the thread that writes. Raises NotSent."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a venue can do, asked instead of guessed. ``protective_pairs``: for the instruments that say so."""

    client_id_lookup: bool = True
    cancel_all: bool = True
    sessions: bool = False
    fractional: bool = False
    protective_pairs: bool = False
    dead_man_switch: bool = False
    untold_base_fees: bool = False
    """What a fee took of a purchase is not told with the fill: only the position shows it exactly."""


class PartlyRead(VenueUnavailable):
    """A list that was not read to its end, or not all of it; ``found`` is what could be read, be it an id only."""

    def __init__(self, why: str, found: Sequence[VenueOrder]) -> None:
        super().__init__(why)
        self.found = tuple(found)


class CancelOutcome(StrEnum):
    """What the venue said to a cancel. Only an empty list of open orders proves anything."""

    REQUESTED = "requested"
    ALREADY_FINAL = "already_final"
    UNCONFIRMED = "unconfirmed"


@dataclass(frozen=True, slots=True)
class CancelResult:
    """The answer for one order of a cancel or cancel-all."""

    venue_order_id: str
    outcome: CancelOutcome
    message: str = ""


class UpdateStream(Protocol):
    """A running subscription to order updates; it reconnects by itself until closed."""

    @property
    def connected(self) -> bool:
        """Whether updates are arriving or could arrive now."""

    @property
    def generation(self) -> int:
        """Grows with every reconnect: whoever sees it change repairs the gap by REST."""

    def close(self) -> None:
        """Stop; returns within a second."""


class Venue(Protocol):
    """One account at one venue."""

    @property
    def name(self) -> str:
        """``simulated``, ``alpaca``, ``ccxt:binance`` …"""

    @property
    def mode(self) -> str:
        """``simulated``, ``paper`` or ``live``."""

    @property
    def capabilities(self) -> Capabilities: ...

    def submit(self, request: OrderRequest, guard: SendGuard) -> VenueOrder:
        """Send one order, once. A protective pair (``stop_price``) is one too: one id of ours, one order in every
        answer and update, with the fills of either half under its one venue id; parts of it are shown nowhere.

        Raises NotSent (no byte left), VenueRejected (a structured refusal on the allow-list) or VenueAmbiguous (all
        else: timeout, reset, 429, 5xx, a garbled 200, a missing id, a duplicate client id).
        """

    def cancel(self, venue_order_id: str) -> CancelResult:
        """Ask for one cancel, of a pair as a whole. Never raises: what goes wrong is UNCONFIRMED with the message."""

    def cancel_all(self) -> list[CancelResult]:
        """The venue's own cancel-all, once. Raises VenueUnavailable where it failed or does not exist."""

    def cancel_all_after(self, seconds: float) -> None:
        """The venue's dead-man's switch: it cancels everything by itself unless this is called again within
        ``seconds``; 0 takes it back. Raises VenueUnavailable where that failed or the venue has none."""

    def open_orders(self) -> list[VenueOrder]:
        """Every working order on the account, ours and foreign, all pages. Raises VenueUnavailable."""

    def orders_since(self, since: datetime) -> list[VenueOrder]:
        """Every order created since, in any state, oldest first, all pages. Raises VenueUnavailable."""

    def order_by_client_id(self, client_order_id: str) -> VenueOrder:
        """Raises OrderNotFound only on a clear, structured answer, else VenueUnavailable."""

    def fills_since(self, since: datetime) -> list[Execution]:
        """Executions since, oldest first, all pages. Raises VenueUnavailable."""

    def positions(self) -> list[VenuePosition]:
        """Everything held. Raises VenueUnavailable."""

    def account(self) -> AccountState:
        """Raises VenueUnavailable."""

    def clock(self) -> MarketClock:
        """Raises VenueUnavailable."""

    def instrument(self, ticker: str) -> Instrument:
        """Raises VenueUnavailable, also for a ticker that the venue does not know."""

    def last_price(self, ticker: str) -> LastPrice:
        """The last trade. Raises VenueUnavailable; a price that is not finite and positive is no price."""

    def bars(self, tickers: Sequence[str], count: int, until: datetime) -> dict[str, list[Bar]]:
        """The last ``count`` complete minute bars before ``until`` per ticker, oldest first; missing minutes absent.

        A ticker without bars has an empty list. Raises VenueUnavailable.
        """

    def stream_updates(self, on_update: Callable[[OrderUpdate], None]) -> UpdateStream:
        """Start pushing order updates to ``on_update`` from a thread of the adapter's."""

    def close(self) -> None:
        """Give up connections."""
