"""What a start owes to figures that were lost by themselves: the day's counters and the statistics, from the book.

A key that somebody deleted, or that had to be deleted since it held another type, must not lift a limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import redis

from shared.clock import Clock, TradingCalendar, TradingDay
from shared.documents import dump_json
from shared.store import Store, translated_errors
from worker.core.orders import Order, micros
from worker.core.stats import Stats, outcome_of, read_stats
from worker.core.types import OrderState
from worker.trading.gate import COUNTERS_TTL_SECONDS
from worker.trading.records import read_order, read_position

_MANGLED = (KeyError, ValueError, ArithmeticError, UnicodeDecodeError)
_CHUNK = 500


class Mender:
    """Compares figures with the orders and positions that they sum up; run before trading, holding the lease."""

    def __init__(self, store: Store, clock: Clock, calendar: TradingCalendar) -> None:
        self._store, self._clock, self._calendar = store, clock, calendar
        self._shown_day = ""

    def run(self) -> None:
        """Raise counters that are below what today's orders say; sum the statistics anew where round trips are missing.

        Raises StoreError.
        """
        self._counters(self._calendar.day_of(self._clock.now()))
        self._stats()

    def show_day(self) -> None:
        """Once a day: ``today_pnl`` of the day that has begun, and empty figures where no order has made any yet.

        What cannot be read is left to the next start. Raises StoreError.
        """
        today = self._calendar.day_of(self._clock.now()).name
        if today == self._shown_day:
            return
        keys = self._store.keys

        def step(pipe: redis.client.Pipeline) -> None:
            found, stats = self._store.get_json(keys.stats), None
            if isinstance(found, dict) or not (pipe.exists(keys.stats) or pipe.zcard(keys.positions_closed)):
                stats = read_stats(found).document(today)
            pipe.multi()
            if stats is not None:
                pipe.set(keys.stats, dump_json(stats))
            pipe.setnx(keys.trades_log, b"[]")

        self._store.transact([keys.stats, keys.positions_closed], step)
        self._shown_day = today

    # -- counters -------------------------------------------------------------------------------------------------

    def _counters(self, day: TradingDay) -> None:
        keys = self._store.keys
        key, wanted, last = keys.risk_counters(day.name), dict[str, int](), dict[str, int]()
        for order in self._orders(day.start):
            if order.is_external or self._calendar.day_of(order.created_at).name != day.name:
                continue
            _count(order, wanted)
            if not order.never_worked:
                at = int(order.created_at.timestamp() * 1000)
                last[order.ticker] = max(last.get(order.ticker, 0), at)

        def step(pipe: redis.client.Pipeline) -> None:
            kept = cast("dict[bytes, bytes]", pipe.hgetall(key))
            low = {n: v for n, v in wanted.items() if _number(kept.get(n.encode())) < v}
            pipe.multi()
            for ticker, at in last.items():
                pipe.hsetnx(keys.risk_last_trade, ticker, str(at))
            if low:
                pipe.hset(key, mapping=cast("Any", low))
                pipe.expire(key, COUNTERS_TTL_SECONDS)

        self._store.transact([key], step)

    def _orders(self, since: float) -> Iterable[Order]:
        """Open orders and final ones created since then; what cannot be read is passed over here."""
        keys, client = self._store.keys, self._store.client
        with translated_errors():
            ids = cast("set[bytes]", client.smembers(keys.orders_open))
            ids |= set(cast("list[bytes]", client.zrangebyscore(keys.orders_history, since, "+inf")))
        for found in self._hashes([keys.order(i.decode()) for i in sorted(ids)]):
            try:
                yield read_order(found)
            except _MANGLED:
                continue

    def _hashes(self, names: list[str]) -> Iterable[Mapping[bytes, bytes]]:
        for at in range(0, len(names), _CHUNK):
            with translated_errors(), self._store.client.pipeline(transaction=False) as pipe:
                for name in names[at : at + _CHUNK]:
                    pipe.hgetall(name)
                rows = pipe.execute(raise_on_error=False)
            yield from (row for row in rows if isinstance(row, dict) and row)

    # -- statistics -----------------------------------------------------------------------------------------------

    def _stats(self) -> None:
        keys, client = self._store.keys, self._store.client
        with translated_errors():
            closed = client.zcard(keys.positions_closed)
        if read_stats(self._store.get_json(keys.stats)).total.trades >= closed:
            return
        today = self._calendar.day_of(self._clock.now()).name

        def step(pipe: redis.client.Pipeline) -> None:
            stats = self._summed()
            pipe.multi()
            pipe.set(keys.stats, dump_json(stats.document(today)))

        self._store.transact([keys.stats], step)

    def _summed(self) -> Stats:
        keys, client, stats = self._store.keys, self._store.client, Stats()
        with translated_errors():
            ids = cast("list[bytes]", client.zrange(keys.positions_closed, 0, -1))
            ids += sorted(cast("set[bytes]", client.smembers(keys.positions_open)))
        fees = stats.fees
        for found in self._hashes([keys.position(i.decode()) for i in ids]):
            try:
                position = read_position(found)
            except _MANGLED:
                continue
            fees += position.fees_paid
            outcome = outcome_of(position, lambda moment: self._calendar.day_of(moment).name)
            stats = stats if outcome is None else stats.with_outcome(outcome)
        refused = sum(o.state is OrderState.REJECTED and not o.is_external for o in self._orders(0))
        return Stats(stats.total, refused, fees, stats.best, stats.worst, stats.by_ticker, stats.by_day)


def _count(order: Order, wanted: dict[str, int]) -> None:
    """What one order adds to its day, as the gate and the book count it."""
    amounts = {
        "notional": order.reserved,
        f"notional:{order.ticker}": order.reserved,
        "filled_orders": int(bool(order.filled_qty)),
        "filled_notional": micros(order.filled_notional),
        "orders": int(not order.never_worked),
        f"orders:{order.ticker}": int(not order.never_worked),
    }
    for name, amount in amounts.items():
        wanted[name] = wanted.get(name, 0) + amount


def _number(raw: bytes | None) -> int:
    try:
        return int(raw or 0)
    except ValueError:
        return -1
