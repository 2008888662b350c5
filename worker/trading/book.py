"""The account's book in Redis: every change to an order is one transaction with all that follows from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import redis
from msgspec.structs import replace

from shared.clock import TradingCalendar, rfc3339
from shared.documents import dump_json, parse_json
from shared.errors import DocumentError, StoreRefused
from shared.keys import STREAM_LIMITS, TERMINAL_ORDERS_KEPT
from shared.logs import event_fields
from shared.store import MAX_RECORD_BYTES, Store, translated_errors
from worker.core import ids
from worker.core.foreign import Holdings
from worker.core.ledger import Bundle, Change, update_log, update_stats
from worker.core.orders import GIVEN_UP, MICRO, Order, micros, observe
from worker.core.positions import Position
from worker.core.risk import DayCounters
from worker.core.stats import Stats, read_stats
from worker.core.types import Execution, OrderState, VenueOrder
from worker.failpoints import failpoint
from worker.trading.gate import COUNTERS_TTL_SECONDS
from worker.trading.ports import DayFigures
from worker.trading.records import (
    execution_text,
    order_fields,
    position_fields,
    read_execution,
    read_order,
    read_position,
)

_MANGLED = (KeyError, ValueError, ArithmeticError, UnicodeDecodeError)

_CHUNK = 500


class RedisBook:
    """See ``ports.Book``. One account's view; the keys are shared by all accounts."""

    def __init__(self, store: Store, account: str, calendar: TradingCalendar) -> None:
        self._store, self._account, self._calendar = store, account, calendar

    # -- reading --------------------------------------------------------------------------------------------------

    def open_orders(self) -> list[Order]:
        keys = self._store.keys
        orders = (self._read_order(found) for found in self._hashes(keys.orders_open, keys.order))
        return [o for o in orders if o is not None and o.account == self._account]

    def open_positions(self) -> list[Position]:
        keys = self._store.keys
        found = [read_position(h) for h in self._hashes(keys.positions_open, keys.position) if h]
        return [p for p in found if p.account == self._account]

    def order(self, client_order_id: str) -> Order | None:
        with translated_errors():
            return self._own(cast("Any", self._store.client.hgetall(self._store.keys.order(client_order_id))))

    def _own(self, found: Mapping[bytes, bytes]) -> Order | None:
        """None for another account's order too: venues give ids without regard to each other."""
        order = self._read_order(found)
        return order if order is not None and order.account == self._account else None

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
        except _MANGLED as error:
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
        except _MANGLED as error:
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

    @staticmethod
    def _read_order(found: Mapping[bytes, bytes]) -> Order | None:
        try:
            return read_order(found) if found else None
        except _MANGLED as error:
            raise StoreRefused(f"order hash cannot be read: {error!r}") from error

    # -- changing -------------------------------------------------------------------------------------------------

    def change(self, client_order_id: str, step: Callable[[Bundle], Bundle]) -> Change | None:
        keys = self._store.keys
        order_key, fills_key = keys.order(client_order_id), keys.fills(client_order_id)

        def apply(pipe: redis.client.Pipeline) -> Change | None:
            found = cast("dict[bytes, bytes]", pipe.hgetall(order_key))
            order = self._own(found)
            if order is None:
                pipe.multi()
                return None
            fills = cast("Any", pipe.hgetall(fills_key))
            executions = {name.decode(): read_execution(raw) for name, raw in fills.items()}
            if order.is_external:
                before = Bundle(order, executions, None, self._holdings(pipe, order))
            else:
                before = Bundle(order, executions, self._positions(pipe, [order.position_id]).get(order.position_id))
            failpoint("apply.read")
            change = Change(before, step(before))
            figures = self._figures(pipe) if change.changed else ([], Stats())
            dust = self._dust(pipe, change)
            gives_back = change.released_count and self._is_last_trade(pipe, order.ticker, found)
            pipe.multi()
            if change.changed:
                self._write(pipe, change, *figures)
                if dust is not None:
                    pipe.hset(keys.dust(self._account), order.ticker, str(dust))
                if gives_back:
                    self._give_back(pipe, order.ticker, found)
                failpoint("apply.queued")
            return change

        watched = [order_key, fills_key, keys.stats, keys.trades_log]
        changed = self._store.transact(watched, apply)
        failpoint("apply.written")
        return changed

    def _positions(self, pipe: redis.client.Pipeline, names: Collection[str]) -> dict[str, Position]:
        """Positions by id, watched."""
        found: dict[str, Position] = {}
        for name in names:
            key = self._store.keys.position(name)
            pipe.watch(key)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
            fields = cast("Any", pipe.hgetall(key))
            if fields:
                found[name] = read_position(fields)
        return found

    def _holdings(self, pipe: redis.client.Pipeline, order: Order) -> Holdings:
        """What a foreign order may touch, watched."""
        keys = self._store.keys
        pipe.watch(keys.positions_open, keys.external(self._account))  # type: ignore[no-untyped-call]
        open_now = {m.decode() for m in cast("set[bytes]", pipe.smembers(keys.positions_open))}
        claimed = {c.position_id for c in order.claims if c.position_id}
        found = self._positions(pipe, sorted(open_now | claimed))
        held = {n: p for n, p in found.items() if p.account == self._account and p.symbol == order.ticker}
        others = cast("bytes | None", pipe.hget(keys.external(self._account), order.ticker))
        return Holdings(held, None if others is None else Decimal(others.decode()))

    def _dust(self, pipe: redis.client.Pipeline, change: Change) -> Decimal | None:
        """What is left below a lot in the order's ticker after the change, watched; None where it stays as it is."""
        delta, key = change.dust_delta, self._store.keys.dust(self._account)
        if not delta:
            return None
        pipe.watch(key)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        found = cast("bytes | None", pipe.hget(key, change.after.order.ticker))
        return delta + (Decimal(0) if found is None else Decimal(found.decode()))

    def _figures(self, pipe: redis.client.Pipeline) -> tuple[object, Stats]:
        keys = self._store.keys
        return _json(pipe, keys.trades_log), read_stats(_json(pipe, keys.stats))

    def _write(self, pipe: redis.client.Pipeline, change: Change, log: object, stats: Stats) -> None:
        keys, order = self._store.keys, change.after.order
        today = self._calendar.day_of(order.updated_at).name
        fields = order_fields(order) | {"version": str(order.version + 1)}
        pipe.hset(keys.order(order.client_order_id), mapping=cast("Any", fields))
        for name, execution in change.after.executions.items():
            if name not in change.before.executions:
                pipe.hset(keys.fills(order.client_order_id), name, execution_text(execution))
        self._write_index(pipe, change)
        self._write_positions(pipe, change)
        self._write_counters(pipe, change)
        new_stats = update_stats(stats, change, lambda moment: self._calendar.day_of(moment).name)
        pipe.set(keys.stats, dump_json(new_stats.document(today)))
        pipe.set(keys.trades_log, dump_json(update_log(log, order)))
        self._write_event(pipe, change)

    def _write_index(self, pipe: redis.client.Pipeline, change: Change) -> None:
        keys, order = self._store.keys, change.after.order
        if order.is_final:
            pipe.srem(keys.orders_open, order.client_order_id)
            pipe.zadd(keys.orders_history, {order.client_order_id: order.created_at.timestamp()})
        else:
            pipe.sadd(keys.orders_open, order.client_order_id)

    def _write_positions(self, pipe: redis.client.Pipeline, change: Change) -> None:
        keys = self._store.keys
        for _, position in change.moved:
            pipe.hset(keys.position(position.id), mapping=cast("Any", position_fields(position)))
            if position.is_closed and position.exit_time is not None:
                pipe.srem(keys.positions_open, position.id)
                pipe.zadd(keys.positions_closed, {position.id: position.exit_time.timestamp()})
            else:
                pipe.sadd(keys.positions_open, position.id)
                pipe.zrem(keys.positions_closed, position.id)
        others = change.after.holdings.exposure
        if others is not None and others != change.before.holdings.exposure:
            pipe.hset(keys.external(self._account), change.after.order.ticker, str(others))

    def _write_counters(self, pipe: redis.client.Pipeline, change: Change) -> None:
        before, after = change.before.order, change.after.order
        counters = self._store.keys.risk_counters(after.trading_day)
        taken = change.taken_from_day
        if taken:
            pipe.hincrby(counters, "notional", taken)
            pipe.hincrby(counters, f"notional:{after.ticker}", taken)
        if after.is_external:
            return
        # Each total is rounded, not the step: the counter stays the sum of its orders however many steps they took.
        filled = micros(after.filled_notional) - micros(before.filled_notional)
        if filled:
            pipe.hincrby(counters, "filled_notional", filled)
        if after.filled_qty and not before.filled_qty:
            pipe.hincrby(counters, "filled_orders", 1)
        if taken or filled:
            pipe.expire(counters, COUNTERS_TTL_SECONDS)
        if change.released_count:
            pipe.hincrby(counters, "orders", -1)
            pipe.hincrby(counters, f"orders:{after.ticker}", -1)

    def _is_last_trade(self, pipe: redis.client.Pipeline, ticker: str, found: Mapping[bytes, bytes]) -> bool:
        """Whether the ticker's cooldown still runs from the order that turned out never to have worked."""
        key = self._store.keys.risk_last_trade
        pipe.watch(key)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        return cast("bytes | None", pipe.hget(key, ticker)) == found.get(b"cooldown_at", b"")

    def _give_back(self, pipe: redis.client.Pipeline, ticker: str, found: Mapping[bytes, bytes]) -> None:
        key, before = self._store.keys.risk_last_trade, found[b"cooldown_before"]
        if before:
            pipe.hset(key, ticker, before)
        else:
            pipe.hdel(key, ticker)

    def _write_event(self, pipe: redis.client.Pipeline, change: Change) -> None:
        order = change.after.order
        fields = event_fields(
            "order",
            {
                "time": rfc3339(order.updated_at),
                "account": order.account,
                "client_order_id": order.client_order_id,
                "ticker": order.ticker,
                "side": order.side,
                "state": order.state,
                "filled_qty": order.filled_qty,
                "avg_fill_price": order.avg_fill_price,
                "note": order.note or None,
            },
        )
        pipe.xadd(self._store.keys.events, cast("Any", fields), maxlen=STREAM_LIMITS["events"], approximate=True)

    def adopt(self, order: Order) -> None:
        keys = self._store.keys
        known = self._known_fills(order) if ids.is_ours(order.client_order_id) else []
        if known:
            order = observe(self._placed(order), _unfilled(order), known, order.updated_at)
        with translated_errors(), self._store.client.pipeline(transaction=True) as pipe:
            pipe.hset(keys.order(order.client_order_id), mapping=cast("Any", order_fields(order)))
            if order.is_final:
                pipe.srem(keys.orders_open, order.client_order_id)
                pipe.zadd(keys.orders_history, {order.client_order_id: order.created_at.timestamp()})
            else:
                pipe.sadd(keys.orders_open, order.client_order_id)
            if not order.is_external and not known:
                self._count(pipe, order)
            pipe.execute()

    def _known_fills(self, order: Order) -> list[Execution]:
        """Fills that stand although the order's hash was lost: position, statistics and counters have them already."""
        with translated_errors():
            found = cast(
                "dict[bytes, bytes]", self._store.client.hgetall(self._store.keys.fills(order.client_order_id))
            )
        try:
            return [read_execution(raw) for raw in found.values()]
        except _MANGLED as error:
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

    def _count(self, pipe: redis.client.Pipeline, order: Order) -> None:
        """What the gate counts of an order that it let through."""
        keys = self._store.keys
        counters = keys.risk_counters(order.trading_day)
        pipe.hincrby(counters, "orders", 1)
        pipe.hincrby(counters, f"orders:{order.ticker}", 1)
        pipe.expire(counters, COUNTERS_TTL_SECONDS)
        pipe.hset(keys.risk_last_trade, order.ticker, str(int(order.created_at.timestamp() * 1000)))

    def refused(self, order: Order) -> None:
        key = self._store.keys.trades_log

        def apply(pipe: redis.client.Pipeline) -> None:
            log = _json(pipe, key)
            pipe.multi()
            pipe.set(key, dump_json(update_log(log, order)))

        self._store.transact([key], apply)

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


def _json(pipe: redis.client.Pipeline, key: str) -> object:
    try:
        raw = cast("bytes | None", pipe.get(key))
        return None if raw is None else parse_json(raw, MAX_RECORD_BYTES)
    except (DocumentError, redis.ResponseError):
        return None


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
