"""What all runs of one account's cycle work with, and what is made once for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from shared.clock import Clock, TradingCalendar
from shared.documents import TradingSettings
from worker.core.decide import quiet_band, thresholds
from worker.core.types import Instrument, OrderType
from worker.trading.desk import OrderDesk
from worker.trading.ports import Book, Notes, Switches
from worker.venues.base import Venue


@dataclass(frozen=True, slots=True)
class CycleOptions:
    """What configuration says about the cycle's orders."""

    tickers: tuple[str, ...]
    order_type: OrderType = OrderType.MARKET
    limit_offset_pct: Decimal = Decimal("0.0005")


@dataclass(frozen=True, slots=True)
class Levels:
    """What one document of settings makes a signal; a change strictly between the ``quiet`` ones is surely none."""

    settings: TradingSettings
    buy_above: Decimal
    sell_below: Decimal
    quiet: tuple[float, float]


class Tools:
    """What all runs of one account's cycle work with."""

    def __init__(
        self,
        account: str,
        venue: Venue,
        desk: OrderDesk,
        book: Book,
        clock: Clock,
        calendar: TradingCalendar,
        notes: Notes,
        options: CycleOptions,
        entropy: Callable[[], str],
        read_switches: Callable[[], Switches],
    ) -> None:
        self.account, self.venue, self.desk, self.book = account, venue, desk, book
        self.clock, self.calendar, self.notes, self.options = clock, calendar, notes, options
        self.entropy, self.read_switches = entropy, read_switches
        self._instruments: dict[str, Instrument] = {}
        self._levels: Levels | None = None

    def levels(self, settings: TradingSettings) -> Levels:
        """Made anew only for other settings."""
        known = self._levels
        if known is None or known.settings is not settings:
            buy, sell = thresholds(settings)
            known = self._levels = Levels(settings, buy, sell, quiet_band(buy, sell))
        return known

    def instrument(self, ticker: str) -> Instrument:
        """Cached for the life of the process: lot and tick sizes do not change under an order."""
        found = self._instruments.get(ticker)
        if found is None:
            found = self._instruments[ticker] = self.venue.instrument(ticker)
        return found
