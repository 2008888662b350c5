"""One stream bot's hands: carries out what its order manager asks for, and tells it what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal

from shared.bots import BotSettings
from shared.clock import Clock
from shared.errors import StoreError, VenueError
from worker.core import ids
from worker.core.bot_position import Cancel, Submit
from worker.core.bots import BotManager
from worker.core.ledger import Change
from worker.core.orders import Order
from worker.core.positions import Position
from worker.core.risk import Denial
from worker.core.types import Effect, LastPrice
from worker.trading.bots.sender import OrderSender, too_old
from worker.trading.desk import OrderDesk
from worker.trading.ports import Book, Notes
from worker.venues.base import Venue

MOST_ROUNDS = 20
"""Actions that answer to each other within one look; more would be a loop."""
DENIAL_AGAIN_SECONDS = 60.0


def _nothing() -> None:
    return None


class BotRunner:
    """The account's trader thread calls it, and nobody else."""

    def __init__(
        self,
        settings: BotSettings,
        sender: OrderSender,
        desk: OrderDesk,
        book: Book,
        venue: Venue,
        clock: Clock,
        notes: Notes,
        entropy: Callable[[], str],
        progress: Callable[[], None] = _nothing,
    ) -> None:
        self.bot_id = settings.bot_id
        self._sender, self._desk, self._book, self._venue = sender, desk, book, venue
        self._clock, self._notes, self._entropy = clock, notes, entropy
        self.manager = BotManager(settings, ids.minter(settings.bot_id, entropy))
        self._judged = settings
        self._threshold = float(settings.confidence_threshold)
        self._reason = f" >= {settings.confidence_threshold!s}"
        self.last_denial = ""
        self.progress = progress
        self._told: tuple[str, float] = ("", 0.0)
        self._last: dict[str, LastPrice] = {}

    @property
    def settings(self) -> BotSettings:
        """What is in force."""
        return self.manager.settings

    @property
    def busy(self) -> bool:
        """Whether anything is open that must be managed to its end."""
        return bool(self.manager.positions)

    @property
    def open_symbols(self) -> frozenset[str]:
        """Whose prices its positions need."""
        return frozenset(p.symbol for p in self.manager.positions.values())

    def idles(self, *, on: bool) -> bool:
        """Tell whether anything may be sent; whether there is nothing to tend, so that a look costs next to nothing."""
        manager = self.manager
        manager.on_switch(on=on)
        if manager.positions or not manager.is_settled:
            return False
        manager.on_feed(self._clock.monotonic(), live=True)
        return True

    def _now(self) -> float:
        return self._clock.now().timestamp()

    # -- events ---------------------------------------------------------------------------------------------------

    def recover(self, orders: Sequence[Order], positions: Sequence[Position]) -> None:
        """Start from what the book holds of this bot. Raises VenueUnavailable where the venue cannot be asked."""
        mine = str(self.bot_id)
        self.manager.reset(self._now())
        by_position = {p.id: p for p in positions if p.bot_id == mine}
        found = [o for o in orders if o.bot_id == mine]
        names = dict.fromkeys([*by_position, *(o.position_id for o in found if o.effect is Effect.ENTRY)])
        for name in names:
            entry = next((o for o in found if o.client_order_id == name), None)
            exits = [o for o in found if o.position_id == name and o.effect is Effect.EXIT]
            self._adopt(by_position.get(name), entry, exits)

    def _adopt(self, position: Position | None, entry: Order | None, exits: list[Order]) -> None:
        symbol = position.symbol if position is not None else entry.ticker if entry is not None else ""
        instrument = self._sender.instrument(symbol)
        self.manager.adopt(entry, position, exits, instrument, self._now())

    def on_change(self, change: Change) -> None:
        """An order of this bot's changed in the book."""
        order, position = change.after.order, change.after.position
        known = self.manager.on_order(order, position, self._now())
        if not known and position is not None and position.signed_qty > 0:
            self._adopt(position, order if order.effect is Effect.ENTRY else None, [])

    def on_position(self, before: Position | None, after: Position, *, by_own: bool) -> None:
        """A position of this bot's changed, by an order of its own or by somebody else's."""
        if not by_own:
            self.manager.on_position(after, self._now())
        if after.is_closed and not (before is not None and before.is_closed):
            self.manager.closed(after.exit_reason)
            self._notes(
                "position_closed",
                bot_id=self.bot_id,
                position_id=after.id,
                ticker=after.symbol,
                exit_reason=after.exit_reason,
                realized_pnl=str(after.realized_pnl),
            )

    def on_price(self, symbol: str, last: LastPrice) -> None:
        """The last trade of a symbol."""
        self._last[symbol] = last
        self.manager.on_price(symbol, last.price)

    def enter(self, symbol: str, bid: Decimal, last: LastPrice, confidence: float, run_id: str) -> str:
        """Act on a prediction; empty where an order was sent, else why none was. Raises StoreError."""
        settings = self.manager.settings
        if settings is not self._judged:
            self._judged, self._threshold = settings, float(settings.confidence_threshold)
            self._reason = f" >= {settings.confidence_threshold!s}"
        if symbol != settings.symbol:
            return "another symbol"
        if confidence < self._threshold:
            return "below the threshold"
        self.on_price(symbol, last)
        instrument = self._sender.instrument(symbol)
        now = self._clock.now()
        wanted = self.manager.enter(instrument, bid, f"{confidence:.6g}", now.timestamp())
        if isinstance(wanted, str):
            return wanted
        return self._submit(wanted, run_id, f"confidence {confidence:.4f}{self._reason}", last, now)

    # -- acting ---------------------------------------------------------------------------------------------------

    def act(self) -> int:
        """Carry out what is due now; how many orders were sent or cancelled. Raises StoreError.

        What becomes due meanwhile waits for the next look: a venue that is mute takes seconds for every action.
        """
        done, now = 0, self._now()
        for _ in range(MOST_ROUNDS):
            actions = self.manager.actions(now)
            if not actions:
                return done
            for action in actions:
                done += 1
                self.progress()
                if isinstance(action, Cancel):
                    order = self._book.order(action.client_order_id)
                    if order is not None:
                        self._desk.cancel(order)
                else:
                    self._submit(action, self._entropy(), action.exit_reason)
        self._notes("bot_spins", bot_id=self.bot_id)
        return done

    def _submit(
        self, action: Submit, run_id: str, reason: str, last: LastPrice | None = None, now: datetime | None = None
    ) -> str:
        """One order; empty where it was sent, else why it was not, which the manager knows too."""
        try:
            last = last or self._price(action.symbol)
            result = self._sender.submit(self.bot_id, action, last, run_id, reason, now)
        except VenueError as error:
            result = Denial("VENUE", str(error))
        except StoreError:
            # Whether the gate wrote the intent is not known; what is open is read from the book again.
            self.manager.on_denied(action, "Redis is away", self._now())
            raise
        if isinstance(result, Order):
            self.last_denial = ""
            return ""
        self.manager.on_denied(action, str(result), self._now())
        self._tell(action, result)
        return str(result)

    def _price(self, symbol: str) -> LastPrice:
        """The feed's last trade, or where that is old the venue's."""
        last = self._last.get(symbol)
        switches = self._sender.switches
        if last is None or switches is None or too_old(last, self._clock.now(), switches.risk.value):
            last = self._last[symbol] = self._venue.last_price(symbol)
            self.manager.on_price(symbol, last.price)
        return last

    def _tell(self, action: Submit, denial: Denial) -> None:
        """A denial as an event: once, and again after a minute."""
        self.last_denial = str(denial)
        now = self._clock.monotonic()
        key = f"{action.effect.value} {denial.code}"
        if self._told[0] == key and now - self._told[1] < DENIAL_AGAIN_SECONDS:
            return
        self._told = (key, now)
        self._notes("denied", bot_id=self.bot_id, ticker=action.symbol, code=denial.code, detail=denial.detail)


def moment(seconds: float) -> datetime:
    """Unix seconds as a time."""
    return datetime.fromtimestamp(seconds, UTC)
