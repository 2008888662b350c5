"""What the traders' book tells a stop. Nothing here holds one up: without an answer there is none."""

from __future__ import annotations

from typing import cast

from shared.clock import Clock
from shared.errors import StoreError, StoreUnreachable
from shared.store import Store, translated_errors

ASK_AGAIN_SECONDS = 2.0


class BookReader:
    """Reads orders of the book, by account or by name."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._ask_again_at = float("-inf")

    def ask_later(self) -> None:
        """Redis did not answer: it is not asked for a while, for fifty timeouts would stand before fifty cancels."""
        self._ask_again_at = self._clock.monotonic() + ASK_AGAIN_SECONDS

    def has_open_orders(self, account: str) -> bool:
        """Whether the book has any order of the account that is not final. Raises StoreError."""
        client, keys = self._store.client, self._store.keys
        with translated_errors(), client.pipeline(transaction=False) as pipe:
            for name in cast("set[bytes]", client.smembers(keys.orders_open)):
                pipe.hget(keys.order(name.decode()), "account")
            # one that says nothing of its account may be anybody's
            return any(found in {None, account.encode()} for found in pipe.execute())

    def working(self, account: str) -> dict[str, str]:
        """The venue's ids, by ours, of the account's orders that are not final; none where Redis has no answer."""
        if self._clock.monotonic() < self._ask_again_at:
            return {}
        client, keys = self._store.client, self._store.keys
        try:
            with translated_errors(), client.pipeline(transaction=False) as pipe:
                names = [name.decode() for name in sorted(cast("set[bytes]", client.smembers(keys.orders_open)))]
                for name in names:
                    pipe.hmget(keys.order(name), "account", "venue_order_id")
                found = zip(names, cast("list[list[bytes | None]]", pipe.execute()), strict=True)
                return {name: at.decode() for name, (whose, at) in found if at and whose == account.encode()}
        except (StoreError, UnicodeDecodeError):
            return {}

    def effect_of(self, client_order_id: str) -> str | None:
        """What the book says of an order; None where it or Redis has no answer."""
        if self._clock.monotonic() < self._ask_again_at:
            return None
        try:
            with translated_errors():
                raw = self._store.client.hget(self._store.keys.order(client_order_id), "effect")
            return None if raw is None else cast("bytes", raw).decode()
        except StoreUnreachable:
            self.ask_later()
            return None
        except (StoreError, UnicodeDecodeError):
            return None
