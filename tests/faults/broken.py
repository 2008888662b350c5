"""Traders that are broken on purpose: what the bench must find, or it proves nothing.

``python -m tests.faults.broken intent_after_submit`` (or ``sent_again``) shows one being found. The product knows
nothing of this: a launcher of the test's replaces a method and then starts the worker as ever.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.faults.oracle import Findings

ROOT = Path(__file__).parents[2]


def _intent_after_submit() -> None:
    """The order is sent first; only then the gate is asked, which makes it durable."""
    from worker.failpoints import failpoint
    from worker.trading.desk import OrderDesk

    def submit(self: Any, ticket: Any) -> Any:
        with self._in_flight(ticket.order.client_order_id):
            told = self._venue.submit(ticket.order.request(), lambda: None)
            failpoint("submit.answered")
            denial = self._gate.admit(ticket)
            if denial is not None:
                return denial
            self.take(told, ())
            return self._book.order(ticket.order.client_order_id) or ticket.order

    OrderDesk.submit = submit  # type: ignore[method-assign]


def _sent_again() -> None:
    """An order whose answer was cut off is sent once more."""
    from shared.errors import VenueAmbiguous
    from worker.venues.alpaca import AlpacaVenue

    once = AlpacaVenue.submit

    def submit(self: Any, request: Any, guard: Any) -> Any:
        try:
            return once(self, request, guard)
        except VenueAmbiguous:
            return once(self, request, guard)

    AlpacaVenue.submit = submit  # type: ignore[method-assign]


BREAKS = {"intent_after_submit": _intent_after_submit, "sent_again": _sent_again}


def program(kind: str) -> tuple[str, ...]:
    """What starts a broken worker, after the interpreter."""
    return ("-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); import tests.faults.broken as b; b.worker({kind!r})")


def worker(kind: str) -> None:
    """The worker's process: break it, then run it as ever."""
    from worker.cli import main

    BREAKS[kind]()
    main()


def demonstrate(kind: str) -> Findings:
    """One trial with a broken trader; what the oracle says of it."""
    from tests.faults.bench import bench
    from tests.faults.kills import POST
    from tests.support import eventually

    with bench("alpaca", 1, program=program(kind)) as made:
        made.quiet_seconds = 2.0
        assert made.broker is not None
        before = 0
        if kind == "sent_again":
            made.broker.lie(POST, "reset")
        else:
            made.broker.hide_next = 1
            made.stack.kill("trading")
            made.stack.launch("trading", SIXBOT_FAILPOINT="submit.answered")
        made.trade()
        if kind == "intent_after_submit":
            made.stack.processes["trading"].wait(60)
        else:
            posts = made.broker.posts
            eventually(lambda: max(posts.values(), default=0) > 1, 60, what="an order is sent again")
        made.await_cycle()
        return made.settle(made.stop(), before)


if __name__ == "__main__":
    print(demonstrate(sys.argv[1]).bad())
