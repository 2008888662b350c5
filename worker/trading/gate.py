"""The gate in Redis: one atomic script, one round trip, after which no crash can forget the order."""

from __future__ import annotations

from importlib.resources import files
from itertools import chain

from shared.keys import Keys
from shared.store import connect, translated_errors
from worker.core.orders import micros
from worker.core.risk import Denial
from worker.failpoints import failpoint
from worker.trading.ports import Ticket
from worker.trading.records import order_fields

GATE_SECONDS = 0.25
"""The gate's timeout, counted from the start of the call, and the age past which an intent is not sent."""

COUNTERS_TTL_SECONDS = 604_800


class RedisGate:
    """Admits orders of one account for the owner of its lease."""

    def __init__(self, url: str, keys: Keys, account: str, timeout_seconds: float = GATE_SECONDS) -> None:
        self._client = connect(url, timeout_seconds=timeout_seconds)
        self._keys, self._account = keys, account
        self._script = self._client.register_script(files("worker.trading").joinpath("gate.lua").read_text())
        self.owner = ""

    def admit(self, ticket: Ticket) -> Denial | None:
        """See ``ports.Gate``. Raises StoreUnreachable (the intent may be written) or StoreRefused (it is not)."""
        keys, order = self._keys, ticket.order
        failpoint("gate.asking")
        with translated_errors():
            code, detail = self._script(
                keys=[
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
                ],
                args=self._arguments(ticket),
            )
        failpoint("gate.answered")
        return None if code == b"ADMITTED" else Denial(code.decode(), detail.decode())

    def _arguments(self, ticket: Ticket) -> list[bytes | str | int]:
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
        self._client.close()
