"""What Alpaca takes of a crypto trade: a fee in what is credited, so of a buy in the coin itself, which no fill tells.

The position is less at once, while the activity (CFEE) is posted at the day's end and names no order
(https://docs.alpaca.markets/docs/crypto-fees, https://alpaca.markets/docs/crypto/activities). So a fill is charged here
at the taker's rate of the account's tier, which is never too little, and the position corrects it (``trading.fees``).
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

from msgspec.structs import replace

from worker.core.types import Execution, Side

TAKER_RATES = {
    "1": Decimal("0.0025"),
    "2": Decimal("0.0022"),
    "3": Decimal("0.0020"),
    "4": Decimal("0.0018"),
    "5": Decimal("0.0015"),
    "6": Decimal("0.0013"),
    "7": Decimal("0.0012"),
    "8": Decimal("0.0010"),
}
"""By ``crypto_tier`` of the account (https://alpaca.markets/support/crypto-maker-taker-gmt-faq)."""
HIGHEST = TAKER_RATES["1"]
_PLACES = Decimal("1e-9")


class CryptoFees:
    """The rate in force, and fills charged with it. Stock fills pass as they are."""

    def __init__(self) -> None:
        self._rate = HIGHEST

    def learn(self, account: Mapping[str, Any]) -> None:
        """Take the rate from the account as the API tells it; without a tier that is known the rate is the highest."""
        self._rate = TAKER_RATES.get(str(account.get("crypto_tier")), HIGHEST)

    def charged(self, execution: Execution) -> Execution:
        """The execution with its fee, unless it tells one."""
        base, slash, _ = execution.ticker.partition("/")
        if not slash or execution.fee:
            return execution
        if execution.side is Side.SELL:
            return replace(execution, fee=execution.qty * execution.price * self._rate)
        fee = (execution.qty * self._rate).quantize(_PLACES, ROUND_CEILING)
        return replace(execution, fee=fee, fee_currency=base)
