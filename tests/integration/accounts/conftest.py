"""One installation with three accounts: ``default`` and ``b`` on exchanges of their own, ``stocks`` on Alpaca.

It is shared by the tests of a module, since its workers take seconds to start; each test begins with ``turn_on``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.servers import alpaca
from tests.servers.alpaca import AlpacaServer, alpaca_server
from tests.servers.exchange import TOKEN, ExchangeServer, exchange_server, simulated_venue
from tests.servers.stack import FREE_RISK, ON, Stack, simulated_environment
from tests.support import RedisServer, eventually
from worker.core import ids
from worker.core.types import Effect, OrderRequest, OrderType, Side, TimeInForce

COUNT = 3
NAMES = ("default", "b", "stocks")


class Installation:
    """``exchange`` is the venue of ``default``, ``other`` of ``b``, ``broker`` of ``stocks``."""

    def __init__(self, root: Path, server: RedisServer, exchange: ExchangeServer, broker: AlpacaServer) -> None:
        self.exchange, self.broker, self._root, self._serial = exchange, broker, root, 0
        self._last: object = None
        self.other = ExchangeServer(root / "other")
        self.other.start()
        accounts = {
            "ACCOUNTS__B__VENUE": "simulated",
            "ACCOUNTS__B__URL": self.other.url,
            "ACCOUNTS__B__TOKEN": TOKEN,
            "ACCOUNTS__STOCKS__VENUE": "alpaca",
            "ACCOUNTS__STOCKS__API_KEY": alpaca.KEY,
            "ACCOUNTS__STOCKS__SECRET_KEY": alpaca.SECRET,
            "ACCOUNTS__STOCKS__URL": broker.trading_url,
            "ACCOUNTS__STOCKS__DATA_URL": broker.data_url,
            "ACCOUNTS__STOCKS__STREAM_URL": broker.stream_url,
        }
        quiet = {"TRADER_SILENT_STOP_SECONDS": "3600"}  # tests end traders and start them when they need them
        self.stack = Stack(root / "home", server, simulated_environment(exchange), **accounts, **quiet)

    def close(self) -> None:
        self.stack.close()
        if self.other.runs:
            self.other.stop()

    def break_other(self, fault: str) -> None:
        """Its venue is ``mute`` or ``dead``."""
        if fault == "mute":
            self.other.fail("mute")
        else:
            self.other.stop()

    def mend_other(self) -> None:
        """The same exchange again, with what stood in its ledger."""
        if self.other.runs:
            self.other.fail(None)
        else:
            self.other = ExchangeServer(self._root / "other", url=self.other.url)
            self.other.start()

    # -- trading --------------------------------------------------------------------------------------------------

    def turn_on(self, *workers: str) -> None:
        missing = [name for name in workers or ("emergency", "trading") if name not in self.stack.alive()]
        self.stack.start(*missing)
        self._serial += 1
        limits = {**json.loads(FREE_RISK), "emergency_stop_active": False, "test": self._serial}
        self.stack.set("risk_settings", json.dumps(limits))
        self.stack.set("trading_settings", ON)
        report = self.stack.json("stop_report")
        self._last = report["stop_id"] if isinstance(report, dict) else None
        eventually(self.armed, what=f"armed: {self.stack.json('trading_status')} {self.stack.json('stop_report')}")

    def armed(self) -> bool:
        found, epoch = self.stack.redis.mget("trading_armed", "trading_epoch")
        return found is not None and found == epoch

    def place(self, exchange: ExchangeServer, count: int = COUNT) -> None:
        """Orders of ours that rest."""
        with simulated_venue(exchange) as venue:
            for _ in range(count):
                self._serial += 1
                name, price = ids.mint(Effect.ENTRY, 1, f"{self._serial:012d}"), Decimal(1)
                side, kind, day = Side.BUY, OrderType.LIMIT, TimeInForce.DAY
                venue.submit(OrderRequest(name, "AAPL", side, Decimal(1), kind, day, limit_price=price), lambda: None)

    def working(self, *workers: str) -> None:
        """Trading is on, and orders rest at every venue."""
        self.turn_on(*workers)
        self.place(self.exchange)
        self.place(self.other)
        for _ in range(COUNT):
            self.broker.foreign_order()

    def left(self) -> int:
        """Orders that work at any venue."""
        return len(self.exchange.engine.working()) + len(self.other.engine.working()) + len(self.broker.open_ids())

    # -- the report -----------------------------------------------------------------------------------------------

    def rows(self) -> dict[str, Any]:
        """Of a stop since the last ``turn_on``."""
        report = self.stack.json("stop_report")
        if not isinstance(report, dict) or report["stop_id"] == self._last:
            return {}
        found: dict[str, Any] = report["accounts"]
        return found

    def states(self) -> dict[str, str]:
        return {name: row["state"] for name, row in self.rows().items()}


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    root = tmp_path_factory.mktemp("accounts")
    for name in ("home", "redis", "exchange", "other"):
        (root / name).mkdir()
    server = RedisServer(root / "redis")
    server.start()
    with exchange_server(root / "exchange") as exchange, alpaca_server() as broker:
        broker.set_price("AAPL", Decimal(100))
        found = Installation(root, server, exchange, broker)
        yield found
        found.close()
    server.stop()
