"""Which stock trades make a price: the sale conditions of the consolidated tapes, as Alpaca hands them on.

The rules are those of the two tape plans (CTS for tapes A and B, UTP for C): which conditions update the last price,
the high and low, the volume. They were written for the day's figures; a candle of a second wants the market of that
second, so that what updates high and low only (late, derived or prior prices: 4, G, P, Z) makes no price here either: a
print marked P has been seen at a fifth of the market's price. What tells a price once more (9, M, Q) is no trade.

Sources: https://polygon.io/glossary/us/stocks/conditions-indicators (the plans' table),
https://alpaca.markets/learn/stock-minute-bars (Alpaca's bars follow it),
https://forum.alpaca.markets/t/bar-calculation-cts-guidance-and-alpaca-article-discrepancy/18440 (less for minutes),
https://massive.com/knowledge-base/article/does-a-form-t-trade-update-a-pre-market-minute-bars-high-low-open-and-close
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import time
from zoneinfo import ZoneInfo

from worker.core.trades import moment_of

NO_PRICE = {
    "4": "derivatively priced",
    "7": "qualified contingent trade",
    "C": "cash sale",
    "G": "bunched sold trade",
    "H": "price variation trade",
    "I": "odd lot",
    "N": "next day",
    "P": "prior reference price",
    "R": "seller",
    "U": "extended hours, sold out of sequence",
    "V": "contingent trade",
    "W": "average price trade",
    "Z": "sold out of sequence",
}
"""Volume, but no price."""
NO_PRICE_ON_TAPE = {"A": {"B": "average price trade"}, "B": {"B": "average price trade"}, "C": {"E": "placeholder"}}
"""The same, where a letter means different things on the tapes: on C, B is a bunched trade, which is regular."""
NO_TRADE = {
    "9": "corrected consolidated close",
    "M": "market center official close",
    "Q": "market center official open",
}
"""Told once more for the record: neither price nor volume."""
FORM_T = "T"
"""Extended hours: the market outside the session, and a late report within it."""
OPENS, CLOSES = time(9, 30), time(16, 0)
_NEW_YORK = ZoneInfo("America/New_York")


def is_trade(conditions: Iterable[object]) -> bool:
    """Whether the volume counts."""
    return NO_TRADE.keys().isdisjoint(map(str, conditions))


def makes_price(conditions: Iterable[object], tape: object, venue_time: int) -> bool:
    """Whether the price is the market's at ``venue_time`` (microseconds). Letters that nobody knows are regular."""
    own = NO_PRICE_ON_TAPE.get(str(tape), {})
    for condition in map(str, conditions):
        if condition in NO_PRICE or condition in own or condition in NO_TRADE:
            return False
        if condition == FORM_T and _in_session(venue_time):
            return False
    return True


def _in_session(venue_time: int) -> bool:
    return OPENS <= moment_of(venue_time).astimezone(_NEW_YORK).time() < CLOSES
