"""What all that decides for one account shares."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from shared.accounts import AccountConfig
from shared.clock import Clock, TradingCalendar
from shared.config import Config
from shared.store import Store
from worker.trading.desk import OrderDesk
from worker.trading.ports import Book, Notes
from worker.trading.switches import SwitchReader
from worker.venues.base import Venue


@dataclass(frozen=True, slots=True)
class TradingAccount:
    """One account's venue, desk and book, with the switches that they obey; the cycle and the bots are built on it."""

    config: Config
    settings: AccountConfig
    store: Store
    venue: Venue
    desk: OrderDesk
    book: Book
    switches: SwitchReader
    clock: Clock
    calendar: TradingCalendar
    notes: Notes
    logger: structlog.stdlib.BoundLogger

    @property
    def name(self) -> str:
        return self.settings.name
