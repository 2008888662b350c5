"""The ledger against a model venue: whatever arrives, in any order and any number of times, the sums end exact."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.builders import NOW, order
from worker.core.ledger import Bundle, take_act, take_in
from worker.core.orders import micros
from worker.core.types import Execution, OrderState, OrderUpdate, Side, VenueOrder

ZERO = Decimal(0)
PRICES = st.decimals("0.01", "999.99", places=2)
FEES = st.decimals("0", "1", places=6)


class LedgerMachine(RuleBasedStateMachine):
    """One order of ten. The venue pushes every change; its REST tells the same fills under other ids.

    The bundle is what Redis keeps, so that a crash of the trader forgets nothing but messages, which are lost, told
    late and told again here anyway.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bundle = Bundle(order("sbe1r0123456789"), {}, None)
        self.fills: list[Execution] = []
        self.state = OrderState.ACCEPTED
        self.pushed: list[OrderUpdate] = []
        self.seen = ZERO
        self.step = 0

    # -- the venue ------------------------------------------------------------------------------------------------

    def _total(self) -> Decimal:
        return sum((f.qty for f in self.fills), ZERO)

    def _told(self) -> VenueOrder:
        total = self._total()
        paid = sum((f.qty * f.price for f in self.fills), ZERO)
        return VenueOrder(
            venue_order_id="v1",
            client_order_id="sbe1r0123456789",
            ticker="AAPL",
            side=Side.BUY,
            qty=Decimal(10),
            state=self.state,
            filled_qty=total,
            avg_fill_price=round(paid / total, 4) if total else None,  # venues round what they tell
        )

    @rule(qty=st.integers(1, 12), price=PRICES, fee=FEES)
    @precondition(lambda self: self._total() < 10)
    def fill(self, qty: int, price: Decimal, fee: Decimal) -> None:
        """Also after a cancel, and also more than was ordered."""
        name = f"p{len(self.fills) + 1}"
        at = NOW + timedelta(seconds=len(self.fills))
        fill = Execution(name, "v1", "sbe1r0123456789", "AAPL", Side.BUY, Decimal(qty), price, fee, at)
        self.fills.append(fill)
        if self.state is not OrderState.CANCELED:
            self.state = OrderState.FILLED if self._total() >= 10 else OrderState.PARTIALLY_FILLED
        self.pushed.append(OrderUpdate(self._told(), fill))

    @rule()
    @precondition(lambda self: self.state in {OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED})
    def cancel(self) -> None:
        self.state = OrderState.CANCELED
        self.pushed.append(OrderUpdate(self._told()))

    # -- what arrives ---------------------------------------------------------------------------------------------

    def _take(self, told: VenueOrder, executions: list[Execution]) -> None:
        self.step += 1
        self.bundle = take_in(self.bundle, told, executions, NOW + timedelta(minutes=self.step), venue="model")

    def _derived(self) -> list[Execution]:
        return [
            Execution(f"d{f.execution_id}", "v1", None, "AAPL", Side.BUY, f.qty, f.price, f.fee, f.time, derived=True)
            for f in self.fills
        ]

    @rule(data=st.data())
    @precondition(lambda self: self.pushed)
    def deliver(self, data: st.DataObject) -> None:
        update = data.draw(st.sampled_from(self.pushed))
        self._take(update.order, [] if update.execution is None else [update.execution])

    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        """The order as it stands, with a page of its fills that may be old."""
        derived = self._derived()
        self._take(self._told(), derived[: data.draw(st.integers(0, len(derived)))])

    @rule()
    @precondition(lambda self: self.bundle.order.state is OrderState.INTENT)
    def ambiguous(self) -> None:
        self.bundle = take_act(self.bundle, OrderState.UNKNOWN, NOW, "no usable answer")

    # -- what must hold -------------------------------------------------------------------------------------------

    @invariant()
    def quantity_only_grows_and_never_beyond_the_venue(self) -> None:
        assert self.seen <= self.bundle.order.filled_qty <= self._total()
        self.seen = self.bundle.order.filled_qty

    @invariant()
    def position_is_the_order(self) -> None:
        told, position = self.bundle.order, self.bundle.position
        kept = (position.bought_qty, position.bought_notional, position.fees_paid) if position else (ZERO, ZERO, ZERO)
        assert kept == (told.filled_qty, told.filled_notional, told.fees)

    def teardown(self) -> None:
        """The reconciliation that always comes."""
        self._take(self._told(), self._derived())
        told = self.bundle.order
        assert told.filled_qty == self._total()
        assert told.filled_notional == sum((f.qty * f.price for f in self.fills), ZERO)
        assert told.fees == sum((f.fee for f in self.fills), ZERO)
        final = self.state in {OrderState.FILLED, OrderState.CANCELED}
        assert told.is_final == final
        assert told.reserved == micros(told.filled_notional + told.open_qty * told.ref_price)
        self.position_is_the_order()


LedgerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
TestLedger = LedgerMachine.TestCase
