"""The fault bench: a real trader and emergency worker that trade, die at any point, and are judged afterwards."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import redis

from shared.clock import SystemClock, rfc3339
from shared.control import Actor, Control
from shared.store import Store
from tests.faults.oracle import Findings, Rules, judge, late_orders
from tests.faults.venues import TICKERS, FaultyBroker, Truth, exchange_truth
from tests.servers.exchange import exchange_server
from tests.servers.proxy import FaultProxy, fault_proxy
from tests.servers.stack import OFF, Stack, alpaca_environment, simulated_environment
from tests.support import PASSWORD, RedisServer, eventually

SETTINGS = (
    '{"enabled": true, "buy_threshold_pct": 0.05, "sell_threshold_pct": 0.05, '
    '"max_position_per_trade": 6, "strategy": "CONSERVATIVE"}'
)
RISK = (
    '{"daily_notional_cap": 0, "max_position_per_ticker": %d, "cooldown_minutes": 0, "max_trades_per_run": 100, '
    '"emergency_stop_active": false}'
)
RULES = Rules(most_held=Decimal(6), orders_per_ticker=1000)
QUIET_SECONDS = 75.0
SPEED = {"CYCLE_SECONDS": "0.2", "UNKNOWN_RESOLVE_SECONDS": "2"}
Hand = Callable[[], None]


def idle() -> None:
    """A hand that does nothing."""


@dataclass(slots=True)
class Trial:
    """One trial: what was done to whom, and what was found. ``reached`` where a failpoint ended the process."""

    name: str
    findings: Findings
    reached: bool = True
    story: list[str] = field(default_factory=list)


class Bench:
    """One installation over one venue, for as many trials as one likes. ``proxy`` stands before Redis or the venue."""

    def __init__(
        self,
        stack: Stack,
        truth: Callable[[], Truth],
        broker: FaultyBroker | None,
        proxy: FaultProxy | None = None,
    ) -> None:
        self.stack, self.truth, self.broker, self.proxy = stack, truth, broker, proxy
        self.rules, self.quiet_seconds = RULES, QUIET_SECONDS
        self._act = threading.Event()
        self._end = threading.Event()
        self._hand: Hand = idle
        self._thread = threading.Thread(target=self._actor, daemon=True)
        self._turn = 0
        self._handing = threading.Lock()

    def start(self) -> None:
        self.stack.set("risk_settings", RISK % RULES.orders_per_ticker)
        self.stack.start("emergency", "trading")
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(30)

    # -- the market, and whoever else has a hand in it -----------------------------------------------------------

    def _actor(self) -> None:
        """Keeps predictions fresh and turns them, so that every ticker is bought and sold again and again."""
        while not self._end.wait(0.08):
            self._turn += 1
            ups = (self._turn // 5) % 2
            try:
                self.stack.predict(**{t: 0.2 if (i + ups) % 2 else -0.2 for i, t in enumerate(TICKERS)})
                with self._handing:
                    if self._act.is_set():
                        self._hand()
            except redis.RedisError:
                continue  # it is away, full or read-only, which is what the trial is about

    def trade(self, hand: Hand = idle) -> None:
        """Switch on and let ``hand`` meddle now and then."""
        self._hand = hand
        self._act.set()
        self.stack.set("trading_settings", SETTINGS)

    def resume(self) -> None:
        """What an operator does after a calamity: write both documents as they should be, then ``sixbot start``."""
        self.stack.set("risk_settings", RISK % RULES.orders_per_ticker)
        self.stack.set("trading_settings", SETTINGS.replace("true", "false", 1))
        self._act.set()
        Control(Store(self.stack.redis), SystemClock()).start(Actor("operator", "bench"))

    def rest(self) -> None:
        """No hand meddles any more."""
        with self._handing:
            self._act.clear()

    def await_cycle(self) -> None:
        """Until a cycle has run since now. A trader that a stop has killed is started again."""
        now = rfc3339(datetime.now(UTC))

        def ran() -> bool:
            self.revive()
            return (self.stack.status("last_run") or "") > now

        eventually(ran, 90, f"a cycle: {self.stack.json('trading_status')} {self.stack.output('trading')[-1500:]}")

    def stop(self) -> datetime:
        """Switch off; returns when that was acknowledged."""
        self.stack.set("trading_settings", OFF)
        return datetime.now(UTC)

    # -- the verdict ----------------------------------------------------------------------------------------------

    def settle(self, off_at: datetime, before: int) -> Findings:
        """Wait until all is quiet, then judge. What is wrong must be right within the time to heal."""
        self.rest()
        if self.broker is not None:
            self.broker.be_honest()
        if self.proxy is not None:
            self.proxy.heal()
        end = time.monotonic() + self.quiet_seconds
        while True:
            self.revive()
            report = self.stack.json("stop_report") or {}
            findings = judge(self.stack.redis, self.truth(), self.rules)
            proven = report.get("state") == "STOPPED" and self.stack.status("active") is False
            proven = proven and not [n for n in ("emergency", "trading") if not self.stack.beats(n)]
            if (findings.clean() and proven) or time.monotonic() > end:
                break
            time.sleep(0.1)
        if not proven:
            findings.pending.append(f"no proven stop: {report.get('state')}, active {self.stack.status('active')}")
        if self.stack.status("active") is not False:
            findings.unintended_on.append(f"trading_status: {self.stack.json('trading_status')}")
        findings.stuck += findings.pending
        findings.unintended_on += self.late(off_at, before)
        return findings

    def late(self, off_at: datetime, before: int = 0) -> list[str]:
        """Orders that were let through although trading was off from then on."""
        return late_orders(self.stack.redis, self.truth().orders[before:], off_at)

    def revive(self, *names: str) -> None:
        """What a supervisor does: start what is dead. A starting trader may be killed by a stop that it is too slow to
        acknowledge."""
        for name in names or ("emergency", "trading"):
            if self.stack.processes[name].poll() is not None:
                self.stack.launch(name)

    def frozen(self) -> int:
        """Tickers that an absent order keeps from trading: then a fresh installation is worth its time."""
        orders = self.stack.redis.smembers("orders:open")
        return len({self.stack.redis.hget(f"order:{o.decode()}", "ticker") for o in orders})  # type: ignore[union-attr]


@contextmanager
def bench(venue: str, seed: int, proxied: str = "", program: tuple[str, ...] = ()) -> Iterator[Bench]:
    """A fresh installation over ``alpaca`` or ``simulated`` in a folder of its own; ``proxied`` is ``redis``,
    ``venue`` or empty: what the workers reach through a proxy only. ``program`` starts other workers than ours."""
    with ExitStack() as held:
        root = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="sixbot-faults-")))
        (root / "home").mkdir()
        (root / "redis").mkdir()
        server, broker = RedisServer(root / "redis"), None
        server.start()
        held.callback(server.stop)
        if venue == "alpaca":
            broker = FaultyBroker(random.Random(seed))
            broker.start()
            held.callback(broker.stop)
            for ticker in TICKERS:
                broker.set_price(ticker, "100.00")
            environment = {**alpaca_environment(broker), "ACTIVE_TICKERS": ",".join(TICKERS)}
            truth = broker.truth
        else:
            exchange = held.enter_context(exchange_server(root / "exchange"))
            environment = simulated_environment(exchange)
            truth = partial(exchange_truth, exchange)
        proxy = None
        if proxied:
            port = server.port if proxied == "redis" else _port_of(environment)
            proxy = held.enter_context(fault_proxy(port, random.Random(seed)))
            environment |= _through(proxy, proxied, environment)
        stack = Stack(root / "home", server, environment, **SPEED)
        stack.program, stack.forked = program or stack.program, not program
        held.callback(stack.close)
        made = Bench(stack, truth, broker, proxy)
        held.callback(made.close)
        made.start()
        eventually(lambda: stack.json("trading_status"), 90, "the first status")
        yield made


def _port_of(environment: dict[str, str]) -> int:
    port = urlsplit(environment.get("ALPACA_TRADING_URL") or environment["SIM_VENUE_URL"]).port
    assert port is not None
    return port


def _through(proxy: FaultProxy, proxied: str, environment: dict[str, str]) -> dict[str, str]:
    """The addresses of what is behind the proxy."""
    if proxied == "redis":
        return {"REDIS_URL": f"redis://:{PASSWORD}@127.0.0.1:{proxy.port}/0"}
    port = str(_port_of(environment))
    return {n: v.replace(f":{port}", f":{proxy.port}") for n, v in environment.items() if n.endswith("_URL")}
