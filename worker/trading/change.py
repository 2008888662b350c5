"""A change to an order is one transaction with all that follows from it: fills, position, statistics, counters, log."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from decimal import Decimal

from shared.clock import TradingCalendar, rfc3339
from shared.errors import StoreRefused
from shared.keys import STREAM_LIMITS, Keys
from shared.logs import event_fields
from shared.store import Store
from worker.core.foreign import Holdings
from worker.core.ledger import Bundle, Change, update_log, update_stats
from worker.core.orders import Order, micros
from worker.core.positions import Position
from worker.failpoints import failpoint
from worker.trading.figures import Figures
from worker.trading.gate import COUNTERS_TTL_SECONDS
from worker.trading.records import (
    Hash,
    execution_text,
    order_fields,
    position_fields,
    read_execution,
    read_order,
    read_position,
)
from worker.trading.transaction import Transaction, Writes, answered, mapping, transact

MANGLED = (KeyError, TypeError, ValueError, ArithmeticError, UnicodeDecodeError)
_REMEMBERED = 1000
_SAME_PRICE = {"avg_fill_price": None}
ROUNDING = Decimal("0.0001")
"""The share of a price by which a venue's average may be rounded."""


def own_order(found: Hash, account: str) -> Order | None:
    """The account's order in a hash; None for another account's too: venues give ids without regard to each other.

    Raises StoreRefused.
    """
    try:
        order = read_order(found) if found else None
    except MANGLED as error:
        raise StoreRefused(f"order hash cannot be read: {error!r}") from error
    return order if order is not None and order.account == account else None


def write_index(writes: Writes, keys: Keys, order: Order) -> None:
    """In ``orders:open`` while it may still work, in ``orders:history`` after."""
    if order.is_final:
        writes.srem(keys.orders_open, order.client_order_id)
        writes.zadd(keys.orders_history, order.client_order_id, order.created_at.timestamp())
    else:
        writes.sadd(keys.orders_open, order.client_order_id)


class BookChanges:
    """One account's. What it has read or written last is not parsed again while it stands in Redis byte by byte."""

    def __init__(self, store: Store, account: str, calendar: TradingCalendar) -> None:
        self._store, self._keys, self._account, self._calendar = store, store.keys, account, calendar
        self._figures = Figures()
        self._position_of: dict[str, str] = {}

    def change(self, client_order_id: str, step: Callable[[Bundle], Bundle]) -> Change | None:
        """See ``ports.Book``. Raises StoreRefused, with nothing written, where a key holds what it must not."""
        change = transact(self._store.client, lambda t: self._attempt(t, client_order_id, step), client_order_id)
        failpoint("apply.written")
        return change

    def refused(self, order: Order) -> None:
        """See ``ports.Book``."""
        key = self._keys.trades_log

        def attempt(transaction: Transaction) -> None:
            (log,) = transaction.read([key], ("GET", key))
            writes = Writes()
            writes.set(key, self._figures.dump_log(update_log(self._figures.log(log), order)))
            transaction.commit(writes)

        transact(self._store.client, attempt, key)

    def _attempt(self, transaction: Transaction, name: str, step: Callable[[Bundle], Bundle]) -> Change | None:
        keys, guess = self._keys, self._position_of.get(name, name)
        order_key, fills_key, position_key = keys.order(name), keys.fills(name), keys.position(guess)
        told, fills, stats, log, position = transaction.read(
            [order_key, fills_key, keys.stats, keys.trades_log, position_key],
            ("HGETALL", order_key),
            ("HGETALL", fills_key),
            ("GET", keys.stats),
            ("GET", keys.trades_log),
            ("HGETALL", position_key),
        )
        found = mapping(told)
        order = own_order(found, self._account)
        if order is None:
            return None
        hashes: dict[str, Hash] = {order_key: found}
        try:
            before = self._bundle(transaction, order, mapping(fills), {guess: position}, hashes)
        except MANGLED as error:
            raise StoreRefused(f"what belongs to order {name} cannot be read: {error!r}") from error
        failpoint("apply.read")
        change = Change(before, step(before))
        if change.changed:
            writes = Writes()
            last_trade = self._last_trade(transaction, change, found)
            dust = self._dust(transaction, change)
            self._write(writes, change, hashes, stats, log)
            if dust is not None:
                writes.hset(keys.dust(self._account), {order.ticker: str(dust)})
            if last_trade is not None:
                self._write_last_trade(writes, order.ticker, last_trade)
            failpoint("apply.queued")
            transaction.commit(writes)
        return change

    # -- reading --------------------------------------------------------------------------------------------------

    def _bundle(
        self,
        transaction: Transaction,
        order: Order,
        fills: Hash,
        read: Mapping[str, object],
        hashes: dict[str, Hash],
    ) -> Bundle:
        executions = {name.decode(): read_execution(raw) for name, raw in fills.items()}
        if order.is_external:
            return Bundle(order, executions, None, self._holdings(transaction, order, hashes))
        name = order.position_id
        if name not in read:
            if len(self._position_of) >= _REMEMBERED:
                self._position_of.clear()
            self._position_of[order.client_order_id] = name
            key = self._keys.position(name)
            read = {name: transaction.read([key], ("HGETALL", key))[0]}
        return Bundle(order, executions, self._position(name, read[name], hashes))

    def _position(self, name: str, answer: object, hashes: dict[str, Hash]) -> Position | None:
        found = hashes[self._keys.position(name)] = mapping(answer)
        return read_position(found) if found else None

    def _positions(
        self, transaction: Transaction, names: Collection[str], hashes: dict[str, Hash]
    ) -> dict[str, Position]:
        """Positions by id, watched."""
        if not names:
            return {}
        wanted = [self._keys.position(name) for name in names]
        answers = transaction.read(wanted, *(("HGETALL", key) for key in wanted))
        read = {name: self._position(name, answer, hashes) for name, answer in zip(names, answers, strict=True)}
        return {name: position for name, position in read.items() if position is not None}

    def _holdings(self, transaction: Transaction, order: Order, hashes: dict[str, Hash]) -> Holdings:
        """What a foreign order may touch, watched."""
        index, external = self._keys.positions_open, self._keys.external(self._account)
        members, others = transaction.read([index, external], ("SMEMBERS", index), ("HGET", external, order.ticker))
        open_now = {member.decode() for member in answered(members)}
        claimed = {c.position_id for c in order.claims if c.position_id}
        found = self._positions(transaction, sorted(open_now | claimed), hashes)
        held = {n: p for n, p in found.items() if p.account == self._account and p.symbol == order.ticker}
        return Holdings(held, None if answered(others) is None else Decimal(others.decode()))

    def _dust(self, transaction: Transaction, change: Change) -> Decimal | None:
        """What is left below a lot in the order's ticker after the change, watched; None where it stays as it is."""
        delta, key = change.dust_delta, self._keys.dust(self._account)
        if not delta:
            return None
        (found,) = transaction.read([key], ("HGET", key, change.after.order.ticker))
        return delta + (Decimal(0) if answered(found) is None else Decimal(found.decode()))

    def _last_trade(self, transaction: Transaction, change: Change, found: Hash) -> bytes | None:
        """When the ticker's cooldown runs from after the change, watched; None where it stays as it is.

        An order that turned out never to have worked gives it back as it was (empty: none), unless another one came
        since; one that worked after all takes it again.
        """
        at = found.get(b"cooldown_at")
        if at is None or not (change.released_count or change.retaken_count):
            return None
        key = self._keys.risk_last_trade
        (read,) = transaction.read([key], ("HGET", key, change.after.order.ticker))
        last = answered(read)
        if change.released_count:
            return found[b"cooldown_before"] if last == at else None
        return at if last is None or not last.isdigit() or int(last) < int(at) else None

    # -- writing --------------------------------------------------------------------------------------------------

    def _write(
        self,
        writes: Writes,
        change: Change,
        hashes: Mapping[str, Hash],
        stats: object,
        log: object,
    ) -> None:
        keys, order = self._keys, change.after.order
        self._write_event(writes, change.before.order, order)
        fields = order_fields(order) | {"version": str(order.version + 1)}
        writes.hset(keys.order(order.client_order_id), _news(hashes[keys.order(order.client_order_id)], fields))
        executions = {
            n: execution_text(e) for n, e in change.after.executions.items() if n not in change.before.executions
        }
        writes.hset(keys.fills(order.client_order_id), executions)
        write_index(writes, keys, order)
        self._write_positions(writes, change, hashes)
        self._write_counters(writes, change)
        today = self._calendar.day_of(order.updated_at).name
        was = self._figures.stats(stats)
        new = update_stats(was, change, lambda moment: self._calendar.day_of(moment).name)
        if (raw := self._figures.dump_stats(new, today)) != stats:
            writes.set(keys.stats, raw)
        writes.set(keys.trades_log, self._figures.dump_log(update_log(self._figures.log(log), order)))

    def _write_positions(self, writes: Writes, change: Change, hashes: Mapping[str, Hash]) -> None:
        keys = self._keys
        for _, position in change.moved:
            key = keys.position(position.id)
            writes.hset(key, _news(hashes.get(key, {}), position_fields(position)))
            if position.is_closed and position.exit_time is not None:
                writes.srem(keys.positions_open, position.id)
                writes.zadd(keys.positions_closed, position.id, position.exit_time.timestamp())
            else:
                writes.sadd(keys.positions_open, position.id)
                writes.zrem(keys.positions_closed, position.id)
        others = change.after.holdings.exposure
        if others is not None and others != change.before.holdings.exposure:
            writes.hset(keys.external(self._account), {change.after.order.ticker: str(others)})

    def _write_counters(self, writes: Writes, change: Change) -> None:
        before, after = change.before.order, change.after.order
        counters = self._keys.risk_counters(after.trading_day)
        taken = change.taken_from_day
        if taken:
            writes.hincrby(counters, "notional", taken)
            writes.hincrby(counters, f"notional:{after.ticker}", taken)
        if after.is_external:
            return
        # Each total is rounded, not the step: the counter stays the sum of its orders however many steps they took.
        filled = micros(after.filled_notional) - micros(before.filled_notional)
        if filled:
            writes.hincrby(counters, "filled_notional", filled)
        if change.first_fill(lambda moment: self._calendar.day_of(moment).name):
            writes.hincrby(counters, "filled_orders", 1)
        if taken or filled:
            writes.expire(counters, COUNTERS_TTL_SECONDS)
        if counted := change.retaken_count - change.released_count:
            writes.hincrby(counters, "orders", counted)
            writes.hincrby(counters, f"orders:{after.ticker}", counted)

    def _write_last_trade(self, writes: Writes, ticker: str, at: bytes) -> None:
        if at:
            writes.hset(self._keys.risk_last_trade, {ticker: at.decode()})
        else:
            writes.hdel(self._keys.risk_last_trade, ticker)

    def _write_event(self, writes: Writes, before: Order, order: Order) -> None:
        """Where there is something to tell: a fill that is heard of once more, by REST, is no second one, nor is one
        whose average loses the venue's rounding."""
        if _shown(before) | _SAME_PRICE == _shown(order) | _SAME_PRICE and _is_same_price(before, order):
            return
        fields = event_fields(
            "order",
            {
                "time": rfc3339(order.updated_at),
                "account": order.account,
                "client_order_id": order.client_order_id,
                "ticker": order.ticker,
                "side": order.side,
                **_shown(order),
            },
        )
        writes.xadd(self._keys.events, fields, STREAM_LIMITS["events"])


def _is_same_price(before: Order, order: Order) -> bool:
    was, now = before.avg_fill_price, order.avg_fill_price
    return was == now or (was is not None and now is not None and abs(was - now) <= abs(now) * ROUNDING)


def _shown(order: Order) -> dict[str, object]:
    return {
        "state": order.state,
        "filled_qty": order.filled_qty,
        "avg_fill_price": order.avg_fill_price,
        "note": order.note or None,
    }


def _news(found: Hash, fields: Mapping[str, str]) -> dict[str, str]:
    """The fields of a hash that are to change."""
    return {name: value for name, value in fields.items() if found.get(name.encode()) != value.encode()}
