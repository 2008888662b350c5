"""An installation under test: real worker processes over a Redis and a venue of the test's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis

from shared.clock import rfc3339
from shared.store import connect
from tests.servers import alpaca, exchange
from tests.servers.forked import ForkedWorker, fork
from tests.support import RedisServer, eventually, free_port

ON = (
    '{"enabled": true, "buy_threshold_pct": 0.05, "sell_threshold_pct": 0.05, '
    '"max_position_per_trade": 1, "strategy": "CONSERVATIVE"}'
)
OFF = '{"enabled": false}'
FREE_RISK = (
    '{"daily_notional_cap": 0, "max_position_per_ticker": 1000, "cooldown_minutes": 0, "max_trades_per_run": 100}'
)


class Stack:
    """Workers by name. ``redis`` is a plain client: what any frontend could be."""

    def __init__(self, home: Path, server: RedisServer, venue_environment: dict[str, str], **settings: str) -> None:
        self.home, self.server = home, server
        self.redis: redis.Redis = connect(server.url, timeout_seconds=5)
        self.processes: dict[str, subprocess.Popen[bytes] | ForkedWorker] = {}
        self.program: tuple[str, ...] = ("-m", "worker")
        self.forked = True
        """Whether workers are forked with their imports done, instead of started by the interpreter."""
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("SIXBOT_", "ALPACA_", "REDIS_", "ACCOUNTS__"))},
            "SIXBOT_HOME": str(home),
            "REDIS_URL": server.url,
            "PREDICTOR": "document",
            "CYCLE_SECONDS": "0.5",
            "TRADING_DAY_TZ": "UTC",
            **venue_environment,
            **settings,
        }

    # -- processes ------------------------------------------------------------------------------------------------

    def start(self, *names: str, **settings: str) -> None:
        """Start workers and wait for their first heartbeat."""
        for name in names:
            self.launch(name, **settings)
        for name in names:
            eventually(lambda name=name: self.beats(name), 90, f"a heartbeat of {name}: {self.output(name)[-2000:]}")

    def launch(self, name: str, *, role: str = "", **settings: str) -> None:
        """Start one worker and do not wait for it; ``trading-b`` is the one for account ``b`` only, and a second one of
        a kind is known by its ``role``."""
        role = role or name
        if role in self.processes:
            self.processes[role].wait(30)
        worker, _, account = name.partition("-")
        arguments = ["worker", worker, *(["--account", account] if account else [])]
        environment, printed = {**self.environment, **settings}, self.home / f"{role}.out"
        if self.forked:
            self.processes[role] = fork(arguments, environment, printed)
            return
        with printed.open("ab") as output:
            self.processes[role] = subprocess.Popen(
                [sys.executable, *self.program, *arguments],
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C ends the tests, which end what they have started
            )

    def beats(self, name: str) -> bool:
        """Whether the process that was started last gives signs of life."""
        found = self.json(f"heartbeat:{name}:{os.uname().nodename}")
        return isinstance(found, dict) and found["pid"] == self.processes[name].pid

    def output(self, name: str) -> str:
        path = self.home / f"{name}.out"
        return path.read_text(errors="replace") if path.exists() else ""

    def signal(self, name: str, number: int) -> None:
        self.processes[name].send_signal(number)

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait(30)

    def alive(self) -> list[str]:
        return [name for name, process in self.processes.items() if process.poll() is None]

    def close(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait(30)
        self.redis.close()

    # -- keys -----------------------------------------------------------------------------------------------------

    def set(self, key: str, value: str | bytes) -> None:
        self.redis.set(key, value)

    def json(self, key: str) -> Any:
        try:
            raw = self.redis.get(key)
            return None if raw is None else json.loads(raw)  # type: ignore[arg-type]
        except (redis.RedisError, ValueError, RecursionError):
            return None

    def status(self, field: str) -> Any:
        found = self.json("trading_status")
        return found.get(field) if isinstance(found, dict) else None

    def await_status(self, field: str, value: object) -> None:
        eventually(
            lambda: self.status(field) == value, what=f"{field} to be {value!r}, it is {self.json('trading_status')}"
        )

    def await_stopped(self, reason: str | None = None) -> dict[str, Any]:
        """The report of a stop that is proven."""

        def stopped() -> bool:
            report = self.json("stop_report")
            return isinstance(report, dict) and report["state"] == "STOPPED" and reason in (None, report["reason"])

        eventually(stopped, what=f"a proven stop for {reason}: {self.json('stop_report')}")
        report: dict[str, Any] = self.json("stop_report")
        return report

    def predict(self, **changes: float) -> None:
        """Write ``predictions``, fresh as of now."""
        now = rfc3339(datetime.now(UTC))
        self.set(
            "predictions",
            json.dumps({t: {"change_pct": c, "confidence": 0.7, "time": now} for t, c in changes.items()}),
        )

    def trades(self, *statuses: str) -> list[dict[str, Any]]:
        """Entries of ``trades_log`` with one of the statuses, or all."""
        found = self.json("trades_log")
        return [t for t in found or [] if not statuses or t["status"] in statuses]

    def trade_until(self, count: int, *statuses: str, **changes: float) -> list[dict[str, Any]]:
        """Keep the predictions fresh until that many orders stand in the log."""

        def done() -> bool:
            self.predict(**changes)
            return len(self.trades(*statuses)) >= count

        eventually(done, what=f"{count} orders {statuses}: {self.json('trades_log')} {self.json('trading_status')}")
        return self.trades(*statuses)


def simulated_environment(server: exchange.ExchangeServer) -> dict[str, str]:
    """What points the workers at the test's exchange."""
    return {
        "VENUE": "simulated",
        "SIM_VENUE_URL": server.url,
        "SIM_VENUE_TOKEN": exchange.TOKEN,
        "ACTIVE_TICKERS": ",".join(exchange.TICKERS),
        "WEB_BIND": f"127.0.0.1:{free_port()}",
    }


def alpaca_environment(server: alpaca.AlpacaServer) -> dict[str, str]:
    """What points the workers at the test's Alpaca."""
    return {
        "VENUE": "alpaca",
        "ALPACA_API_KEY": alpaca.KEY,
        "ALPACA_SECRET_KEY": alpaca.SECRET,
        "ALPACA_TRADING_URL": server.trading_url,
        "ALPACA_DATA_URL": server.data_url,
        "ALPACA_STREAM_URL": server.stream_url,
        "ACTIVE_TICKERS": "AAPL,MSFT",
    }
