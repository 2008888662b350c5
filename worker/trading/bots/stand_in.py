"""While a symbol's trades do not arrive, the venue's own last price stands in, so that a stop-loss is not blind."""

from __future__ import annotations

import structlog

from shared.clock import Clock
from shared.errors import VenueError
from worker.core.types import LastPrice
from worker.trading.bots.sender import OrderSender, too_old
from worker.trading.bots.sources import Sources

PRICE_SECONDS = 1.0
QUIET_PRICE_SECONDS = 5.0
"""Where the feed lives and a symbol is quiet, as thin ones are: venues count how often they are asked."""


class StandInPrices:
    """One question a symbol for all bots. A price that is too old is none, whether the feed lives or not: it lives on
    any symbol's trades, and on the server's answers."""

    def __init__(
        self, sender: OrderSender, sources: Sources, clock: Clock, logger: structlog.stdlib.BoundLogger
    ) -> None:
        self._sender, self._sources, self._clock, self._logger = sender, sources, clock, logger
        self._asked: dict[str, tuple[float, LastPrice | None]] = {}

    def of(self, symbol: str) -> LastPrice | None:
        """The venue's price; None where the feed has a fresh one, or the venue cannot be asked."""
        live = self._sources.live(symbol)
        if live and not self._quiet(symbol):
            return None
        now = self._clock.monotonic()
        asked, last = self._asked.get(symbol, (float("-inf"), None))
        if now >= asked + (QUIET_PRICE_SECONDS if live else PRICE_SECONDS):
            try:
                last = self._sender.venue_price(symbol)
            except VenueError as error:
                last = None
                self._logger.info("no_price", symbol=symbol, error=str(error))
            self._asked[symbol] = (now, last)
        return last

    def _quiet(self, symbol: str) -> bool:
        switches = self._sender.switches
        return switches is None or too_old(self._sources.last(symbol), self._clock.now(), switches.risk.value)
