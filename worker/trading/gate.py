"""The gate in Redis: one atomic script, one round trip, after which no crash can forget the order."""

from __future__ import annotations

import hashlib
import threading
from importlib.resources import files
from itertools import chain
from typing import Any

import redis

from shared.clock import Clock, SystemClock
from shared.keys import Keys
from shared.store import connect, translated_errors
from worker.core.orders import micros
from worker.core.risk import Denial
from worker.failpoints import failpoint
from worker.line import Line, Word
from worker.trading.ports import Ticket
from worker.trading.records import order_fields

GATE_SECONDS = 0.25
"""The gate's timeout, counted from the start of the call, and the age past which an intent is not sent."""

COUNTERS_TTL_SECONDS = 604_800

_KEYS = 10


class RedisGate:
    """Admits orders of one account for the owner of its lease."""

    def __init__(
        self,
        url: str,
        keys: Keys,
        account: str,
        timeout_seconds: float = GATE_SECONDS,
        clock: Clock | None = None,
    ) -> None:
        self._client = connect(url, timeout_seconds=timeout_seconds)
        self._keys, self._account = keys, account
        self._timeout, self._clock = timeout_seconds, clock or SystemClock()
        self._line, self._asking = Line(self._client), threading.Lock()
        self._script = files("worker.trading").joinpath("gate.lua").read_text()
        self._sha = hashlib.sha1(self._script.encode(), usedforsecurity=False).hexdigest()
        self.owner = ""

    def admit(self, ticket: Ticket) -> Denial | None:
        """See ``ports.Gate``. Raises StoreUnreachable (the intent may be written) or StoreRefused (it is not)."""
        deadline = self._clock.monotonic() + self._timeout
        words: list[Word] = [*self._names(ticket), *self._arguments(ticket)]
        failpoint("gate.asking")
        with self._asking, translated_errors():
            try:
                answer = self._ask(words, deadline)
            except redis.ResponseError:
                raise
            except BaseException:
                self._line.close()  # an answer that is still to come must not be taken for that of the next order
                raise
        failpoint("gate.answered")
        if answer == b"ADMITTED":
            return None
        code, detail = answer
        return Denial(code.decode(), detail.decode())

    def _ask(self, words: list[Word], deadline: float) -> Any:
        """One round trip where the line stands and the server knows the script."""
        if self._line.is_up:
            self._line.send(self._line.pack([("EVALSHA", self._sha, _KEYS, *words)]))
            (answer,) = self._line.read(1)
            if not isinstance(answer, Exception):
                return answer
            if not isinstance(answer, redis.exceptions.NoScriptError):
                raise answer
        return self._ask_anew(words, deadline)

    def _ask_anew(self, words: list[Word], deadline: float) -> Any:
        """With a new line, or with the script's text: several round trips, for which there is one deadline."""
        left = deadline - self._clock.monotonic()
        if left <= 0:
            raise redis.TimeoutError("the time for the gate was over before it was asked")
        watch = threading.Timer(left, self._line.cut)
        watch.daemon = True
        watch.start()
        try:
            self._line.open()
            if self._clock.monotonic() >= deadline:
                raise redis.TimeoutError("the time for the gate was over before it was asked")
            self._line.send(self._line.pack([("EVAL", self._script, _KEYS, *words)]))
            (answer,) = self._line.read(1)
        finally:
            watch.cancel()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _names(self, ticket: Ticket) -> list[str]:
        keys, order = self._keys, ticket.order
        return [
            keys.trading_settings,
            keys.risk_settings,
            keys.trading_armed,
            keys.trading_epoch,
            keys.lease(self._account),
            keys.order(order.client_order_id),
            keys.orders_open,
            keys.risk_counters(ticket.day.name),
            keys.risk_last_trade,
            keys.positions_open,
        ]

    def _arguments(self, ticket: Ticket) -> list[Word]:
        order, limits, risk_raw = ticket.order, ticket.switches.risk.value, ticket.switches.risk.raw
        return [
            ticket.switches.settings.raw or b"",
            "0" if risk_raw is None else "1",
            risk_raw or b"",
            order.epoch,
            self.owner,
            order.client_order_id,
            order.ticker,
            order.effect.value,
            order.reserved,
            ticket.day.start,
            ticket.day.end,
            micros(limits.daily_notional_cap),
            limits.max_position_per_ticker,
            int(limits.cooldown_minutes * 60_000),
            limits.max_trades_per_run,
            ticket.run_id,
            limits.max_open_positions,
            self._keys.order(""),
            self._keys.position(""),
            COUNTERS_TTL_SECONDS,
            *chain.from_iterable(order_fields(order).items()),
        ]

    def close(self) -> None:
        self._line.close()
        self._client.close()
