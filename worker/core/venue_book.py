"""What the simulated venue keeps: cash, holdings, orders and executions, exact. Long only."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from worker.core.types import Execution, Side, VenueOrder

ZERO = Decimal(0)


@dataclass(slots=True)
class Holding:
    """What is held of one ticker and what it cost."""

    qty: Decimal = ZERO
    cost: Decimal = ZERO

    @property
    def average(self) -> Decimal:
        return self.cost / self.qty if self.qty else ZERO


@dataclass(slots=True)
class Book:
    """The venue's whole state, which its ledger keeps."""

    cash: Decimal
    holdings: dict[str, Holding] = field(default_factory=dict)
    orders: dict[str, VenueOrder] = field(default_factory=dict)
    executions: list[Execution] = field(default_factory=list)

    def account(self, execution: Execution) -> None:
        """Take a fill in: the money it moved and what is held after it."""
        self.executions.append(execution)
        notional = execution.qty * execution.price
        self.cash -= notional * execution.side.sign + execution.quote_fee
        holding = self.holdings.setdefault(execution.ticker, Holding())
        if execution.side is Side.BUY:
            credited = execution.qty - execution.base_fee
            holding.qty, holding.cost = holding.qty + credited, holding.cost + notional
        else:
            average = holding.average
            holding.qty -= execution.qty
            holding.cost = holding.cost - average * execution.qty if holding.qty else ZERO
