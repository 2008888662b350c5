"""Derivatives count contracts: how many base units one is, so that volumes are in base units everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from msgspec.structs import replace

from shared.errors import ConfigError
from worker.core.trades import LARGEST, SMALLEST, Trade

_PER_PRICE = "/price"


class Contract(msgspec.Struct, frozen=True, gc=False):
    """``size`` base units a contract; ``inverse``: quote units, so that it is fewer base units the higher the price."""

    size: float
    inverse: bool = False

    def base_units(self, contracts: float, price: float) -> float:
        return contracts * self.size / price if self.inverse else contracts * self.size


Contracts = Mapping[str, Contract]
"""By the symbol as the feed or the file spells it. What is not in it is in base units already."""


def read_contracts(texts: Iterable[str]) -> dict[str, Contract]:
    """``SYMBOL=SIZE``, and ``SYMBOL=SIZE/price`` for inverse contracts. Raises ConfigError."""
    found: dict[str, Contract] = {}
    for text in texts:
        symbol, _, size = text.partition("=")
        try:
            value = float(size.removesuffix(_PER_PRICE))
        except ValueError:
            value = 0.0
        if not symbol.strip() or not SMALLEST <= value < LARGEST:
            raise ConfigError(f"CONTRACT_SIZES: {text!r} is not SYMBOL=SIZE or SYMBOL=SIZE/price")
        found[symbol.strip()] = Contract(value, size.endswith(_PER_PRICE))
    return found


def in_base_units(trade: Trade, contracts: Contracts) -> Trade:
    """The trade with its quantity in base units."""
    contract = contracts.get(trade.symbol)
    if contract is None:
        return trade
    return replace(trade, quantity=contract.base_units(trade.quantity, trade.price))
