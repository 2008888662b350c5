"""Where what happens is told."""

from __future__ import annotations

import structlog

from shared.clock import Clock, rfc3339
from shared.errors import StoreError
from shared.logs import event_fields
from shared.store import Store
from worker.trading.ports import Notes


def event_notes(
    store: Store, account: str, clock: Clock, logger: structlog.stdlib.BoundLogger, tell: Notes | None = None
) -> Notes:
    """Into the log and the ``events`` stream, and to ``tell``; the book writes orders itself, with their change."""

    def notes(kind: str, /, **fields: object) -> None:
        logger.info(kind, **fields)
        if tell is not None:
            tell(kind, **fields)
        if kind == "order":
            return
        told = {"time": rfc3339(clock.now()), "account": account, **fields}
        try:
            store.add_event(store.keys.events, event_fields(kind, told))
        except StoreError as error:
            logger.warning("event_lost", kind=kind, error=str(error))

    return notes
