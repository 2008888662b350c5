"""The account's book in Redis: every change to an order is one transaction with all that follows from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

from msgspec.structs import replace

from shared.clock import TradingCalendar, rfc3339
from shared.errors import StoreRefused
from shared.keys import TERMINAL_ORDERS_KEPT
from shared.store import Store, translated_errors
from worker.core import ids
from worker.core.ledger import Bundle, Change
from worker.core.orders import GIVEN_UP, MICRO, Order, observe
from worker.core.positions import Position
from worker.core.risk import DayCounters
from worker.core.stats import Stats, read_stats
from worker.core.types import Execution, OrderState, VenueOrder
from worker.failpoints import failpoint
from worker.trading.change import MANGLED, BookChanges, own_order, write_index
from worker.trading.gate import COUNTERS_TTL_SECONDS
from worker.trading.ports import DayFigures
from worker.trading.records import (
    order_fields,
    read_execution,
    read_position,
)
from worker.trading.transaction import Writes, transact

_CHUNK = 500


class RedisBook:
    """See ``ports.Book``. One account's view; the keys are shared by all accounts."""

    def __init__(self, store: Store, account: str, calendar: TradingCalendar) -> None:
        self._store, self._account = store, account
        self._changes = BookChanges(store, account, calendar)

    # -- reading --------------------------------------------------------------------------------------------------

    def open_orders(self) -> list[Order]:
        keys = self._store.keys
        orders = (own_order(found, self._account) for found in self._hashes(keys.orders_open, keys.order))
        return [o for o in orders if o is not None]

    def open_positions(self) -> list[Position]:
        keys = self._store.keys
        found = [read_position(h) for h in self._hashes(keys.positions_open, keys.position) if h]
        return [p for p in found if p.account == self._account]

    def order(self, client_order_id: str) -> Order | None:
        with translated_errors():
            found = cast("Any", self._store.client.hgetall(self._store.keys.order(client_order_id)))
        return own_order(found, self._account)

    def names_of(self, venue_order_ids: Collection[str]) -> dict[str, str]:
        keys, client, found = self._store.keys, self._store.client, dict[str, str]()
        with translated_errors():
            for start in range(0, TERMINAL_ORDERS_KEPT, _CHUNK):
                chunk = cast("list[bytes]", client.zrevrange(keys.orders_history, start, start + _CHUNK - 1))
                with client.pipeline(transaction=False) as pipe:
                    for member in chunk:
                        pipe.hmget(keys.order(member.decode()), "account", "venue_order_id")
                    rows = cast("list[list[bytes | None]]", pipe.execute())
                    for member, (account, venue_id) in zip(chunk, rows, strict=True):
                        if account != self._account.encode() or venue_id is None:
                            continue
                        if venue_id.decode() in venue_order_ids:
                            found[venue_id.decode()] = member.decode()
                if len(chunk) < _CHUNK or len(found) == len(venue_order_ids):
                    break
        return found

    def given_up(self) -> frozenset[str]:
        keys, client = self._store.keys, self._store.client
        with translated_errors():
            newest = cast("list[bytes]", client.zrevrange(keys.orders_history, 0, _CHUNK - 1))
            with client.pipeline(transaction=False) as pipe:
                for member in newest:
                    pipe.hmget(keys.order(member.decode()), "ticker", "note", "state")
                rows = cast("list[list[bytes | None]]", pipe.execute())
        lost = [OrderState.NOT_SENT.value.encode(), GIVEN_UP.encode()]
        return frozenset(t.decode() for t, note, state in rows if t is not None and [state, note] == lost)

    def exposure(self) -> dict[str, Decimal]:
        return self._quantities(self._store.keys.external(self._account))

    def dust(self) -> dict[str, Decimal]:
        return self._quantities(self._store.keys.dust(self._account))

    def _quantities(self, key: str) -> dict[str, Decimal]:
        with translated_errors():
            found = cast("dict[bytes, bytes]", self._store.client.hgetall(key))
        try:
            return {ticker.decode(): Decimal(qty.decode()) for ticker, qty in found.items()}
        except MANGLED as error:
            raise StoreRefused(f"{key} holds what is no quantity: {error}") from error

    def settle_exposure(self, ticker: str, qty: Decimal) -> None:
        with translated_errors():
            self._store.client.hset(self._store.keys.external(self._account), ticker, str(qty))

    def day(self, trading_day: str) -> DayFigures:
        keys = self._store.keys
        with translated_errors():
            counted = cast("dict[bytes, bytes]", self._store.client.hgetall(keys.risk_counters(trading_day)))
            last = cast("dict[bytes, bytes]", self._store.client.hgetall(keys.risk_last_trade))
        try:
            return _day_figures(counted, last)
        except MANGLED as error:
            raise StoreRefused(f"{keys.risk_counters(trading_day)} holds what is no count: {error}") from error

    def stats(self) -> Stats:
        return read_stats(self._store.get_json(self._store.keys.stats))

    def _hashes(self, index: str, name: Callable[[str], str]) -> list[Mapping[bytes, bytes]]:
        client = self._store.client
        with translated_errors():
            ids = cast("set[bytes]", client.smembers(index))
            with client.pipeline(transaction=False) as pipe:
                for member in sorted(ids):
                    pipe.hgetall(name(member.decode()))
                return cast("list[Mapping[bytes, bytes]]", pipe.execute())

    # -- changing -------------------------------------------------------------------------------------------------

    def change(self, client_order_id: str, step: Callable[[Bundle], Bundle]) -> Change | None:
        return self._changes.change(client_order_id, step)

    def refused(self, order: Order) -> None:
        self._changes.refused(order)

    def adopt(self, order: Order) -> None:
        keys = self._store.keys
        known = self._known_fills(order) if ids.is_ours(order.client_order_id) else []
        if known:
            order = observe(self._placed(order), _unfilled(order), known, order.updated_at)
        writes = Writes()
        writes.hset(keys.order(order.client_order_id), order_fields(order))
        write_index(writes, keys, order)
        if not order.is_external and not known:
            self._count(writes, order)
        transact(self._store.client, lambda t: t.commit(writes), order.client_order_id)

    def _known_fills(self, order: Order) -> list[Execution]:
        """Fills that stand although the order's hash was lost: position, statistics and counters have them already."""
        with translated_errors():
            found = cast(
                "dict[bytes, bytes]", self._store.client.hgetall(self._store.keys.fills(order.client_order_id))
            )
        try:
            return [read_execution(raw) for raw in found.values()]
        except MANGLED as error:
            raise StoreRefused(f"fills of {order.client_order_id} cannot be read: {error!r}") from error

    def _placed(self, order: Order) -> Order:
        """The order in the position that it belonged to: its own, or one that names it as its exit."""
        keys, client, name = self._store.keys, self._store.client, order.client_order_id
        with translated_errors():
            open_ids = sorted(cast("set[bytes]", client.smembers(keys.positions_open)))
            closed_ids = cast("list[bytes]", client.zrevrange(keys.positions_closed, 0, _CHUNK - 1))
            with client.pipeline(transaction=False) as pipe:
                for member in [name.encode(), *open_ids, *closed_ids]:
                    pipe.hmget(keys.position(member.decode()), "id", "entry_order_id", "exit_order_id", "bot_id")
                rows = cast("list[list[bytes | None]]", pipe.execute())
        for found, entry, leave, bot in rows:
            if found is not None and bot is not None and name.encode() in (entry, leave):
                return replace(order, position_id=found.decode(), bot_id=bot.decode())
        return order

    def _count(self, writes: Writes, order: Order) -> None:
        """What the gate counts of an order that it let through."""
        keys = self._store.keys
        counters = keys.risk_counters(order.trading_day)
        writes.hincrby(counters, "orders", 1)
        writes.hincrby(counters, f"orders:{order.ticker}", 1)
        writes.expire(counters, COUNTERS_TTL_SECONDS)
        writes.hset(keys.risk_last_trade, {order.ticker: str(int(order.created_at.timestamp() * 1000))})

    def add_equity(self, time: datetime, equity: str) -> None:
        failpoint("log.equity")
        self._store.add_event(self._store.keys.equity, {"time": rfc3339(time), "equity": equity})

    def trim(self) -> int:
        """Remove the oldest final orders beyond the bound, hash and index entry together; returns how many."""
        failpoint("log.trim")
        keys, client = self._store.keys, self._store.client
        with translated_errors():
            surplus = client.zcard(keys.orders_history) - TERMINAL_ORDERS_KEPT
            if surplus <= 0:
                return 0
            oldest = cast("list[bytes]", client.zrange(keys.orders_history, 0, surplus - 1))
            with client.pipeline(transaction=True) as pipe:
                for member in oldest:
                    pipe.delete(keys.order(member.decode()), keys.fills(member.decode()))
                    pipe.zrem(keys.orders_history, member)
                pipe.execute()
            return len(oldest)


def _unfilled(order: Order) -> VenueOrder:
    """The order as a venue would tell it that says nothing of fills."""
    return VenueOrder(
        venue_order_id=order.venue_order_id,
        client_order_id=order.client_order_id,
        ticker=order.ticker,
        side=order.side,
        qty=order.qty,
        state=order.state,
        stop_price=order.stop_price,
    )


def _day_figures(counted: Mapping[bytes, bytes], last: Mapping[bytes, bytes]) -> DayFigures:
    per_ticker = {
        name.decode().removeprefix("orders:"): int(value)
        for name, value in counted.items()
        if name.startswith(b"orders:")
    }
    return DayFigures(
        counters=DayCounters(Decimal(int(counted.get(b"notional", 0))) / MICRO, per_ticker),
        last_trade={name.decode(): datetime.fromtimestamp(int(at) / 1000, UTC) for name, at in last.items()},
        filled_orders=int(counted.get(b"filled_orders", 0)),
        filled_notional=Decimal(int(counted.get(b"filled_notional", 0))) / MICRO,
    )
