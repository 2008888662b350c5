"""What an entry of a stream bot is: a post-only limit buy at the bid for ``capital_per_trade``, with its levels."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from shared.bots import BotSettings
from worker.core.bot_position import Submit
from worker.core.grid import Grid, plain
from worker.core.types import Effect, Instrument

ZERO = Decimal(0)
_ENTRY = Effect.ENTRY


class EntryTerms:
    """What entries take from a bot's document and its instrument, made when one of the two changes."""

    __slots__ = ("above", "below", "capital", "instrument", "lots", "settings", "ticks", "timeout")

    def __init__(self, settings: BotSettings, instrument: Instrument) -> None:
        self.settings, self.instrument = settings, instrument
        self.ticks, self.lots = Grid(instrument.tick_size), Grid(instrument.lot_size)
        self.capital, self.timeout = settings.capital_per_trade, float(settings.maker_order_timeout)
        self.above, self.below = 1 + settings.profit_target_pct, 1 - settings.stop_loss_pct

    def order(self, bid: Decimal, confidence: str, mint: Callable[[Effect], str]) -> Submit | str:
        """The order at ``bid``, whose id is that of its position too; else why there is none."""
        ticks = self.ticks
        price = ticks.floor(bid)
        qty = self.lots.floor(self.capital / price) if price > ZERO else ZERO
        if qty <= ZERO:
            return f"{self.capital} buys less than one lot of {self.instrument.lot_size} at {price}"
        name = mint(_ENTRY)
        target, stop = ticks.ceiling(price * self.above), price * self.below
        return Submit(name, name, self.settings.symbol, _ENTRY, qty, price, "", confidence, str(target), plain(stop))
