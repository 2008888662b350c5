"""The fault bench: a real trader and emergency worker that trade, die at any point, and are judged afterwards."""

from __future__ import annotations

import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from shared.clock import rfc3339
from tests.faults.oracle import Findings, Rules, judge, late_orders
from tests.faults.venues import TICKERS, FaultyBroker, Truth, exchange_truth
from tests.servers.exchange import exchange_server
from tests.servers.stack import OFF, Stack, alpaca_environment, simulated_environment
from tests.support import RedisServer, eventually

SETTINGS = (
    '{"enabled": true, "buy_threshold_pct": 0.05, "sell_threshold_pct": 0.05, '
    '"max_position_per_trade": 6, "strategy": "CONSERVATIVE"}'
)
RISK = (
    '{"daily_notional_cap": 0, "max_position_per_ticker": %d, "cooldown_minutes": 0, "max_trades_per_run": 100, '
    '"emergency_stop_active": false}'
)
RULES = Rules(most_held=Decimal(6), orders_per_ticker=1000)
QUIET_SECONDS = 40.0
IN_FLIGHT_SECONDS = 0.35
POST, LIST, BY_ID = "POST /v2/orders", "GET /v2/orders", "GET /v2/orders:by_client_order_id"
LIES: tuple[tuple[str, Any], ...] = (
    (POST, "slow"),
    (POST, "reset"),
    (POST, 500),
    (POST, 504),
    (POST, "!?"),
    (POST, "{}"),
    (POST, (429, '{"message": "rate limit exceeded"}')),
    (POST, (403, '{"code": 40310000, "message": "insufficient buying power"}')),
    (LIST, 502),
    (LIST, "reset"),
    (LIST, "[{]"),
    (BY_ID, 500),
    (BY_ID, "reset"),
    ("GET /v2/positions", 500),
    ("DELETE /v2/orders", 500),
    ("DELETE /v2/orders", (500, "")),
)


@dataclass(slots=True)
class Trial:
    """One trial: what was done to whom, and what was found. ``reached`` where a failpoint ended the process."""

    name: str
    findings: Findings
    reached: bool = True
    story: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Scenario:
    """How a failpoint is reached: in which process, what happens first, and whose hand meddles meanwhile."""

    victim: str = "trading"
    first: str = ""
    prepare: Callable[[Bench], None] = lambda bench: None
    hand: Callable[[Bench], Callable[[], None]] = lambda bench: lambda: None


class Bench:
    """One installation over one venue, for as many trials as one likes."""

    def __init__(self, stack: Stack, truth: Callable[[], Truth], broker: FaultyBroker | None) -> None:
        self.stack, self.truth, self.broker = stack, truth, broker
        self._act = threading.Event()
        self._end = threading.Event()
        self._hand: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._actor, daemon=True)
        self._turn = 0
        self._handing = threading.Lock()

    def start(self) -> None:
        self.stack.set("risk_settings", RISK % RULES.orders_per_ticker)
        self.stack.start("emergency", "trading")
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        self._thread.join(30)

    # -- the market, and whoever else has a hand in it -----------------------------------------------------------

    def _actor(self) -> None:
        """Keeps predictions fresh and turns them, so that every ticker is bought and sold again and again."""
        while not self._end.wait(0.08):
            self._turn += 1
            ups = (self._turn // 5) % 2
            self.stack.predict(**{t: 0.2 if (i + ups) % 2 else -0.2 for i, t in enumerate(TICKERS)})
            with self._handing:
                if self._act.is_set():
                    self._hand()

    def trade(self, hand: Callable[[], None]) -> None:
        """Switch on and let ``hand`` meddle now and then."""
        self._hand = hand
        self._act.set()
        self.stack.set("trading_settings", SETTINGS)

    def await_cycle(self) -> None:
        """Until a cycle has run since now."""
        now = rfc3339(datetime.now(UTC))
        eventually(
            lambda: (self.stack.status("last_run") or "") > now,
            what=f"a cycle: {self.stack.json('trading_status')} {self.stack.output('trading')[-1500:]}",
        )

    def stop(self) -> datetime:
        """Switch off; returns when that was acknowledged."""
        self.stack.set("trading_settings", OFF)
        return datetime.now(UTC)

    # -- the verdict ----------------------------------------------------------------------------------------------

    def settle(self, off_at: datetime, before: int) -> Findings:
        """Wait until all is quiet, then judge. What is wrong must be right within the time to heal."""
        self._act.clear()
        if self.broker is not None:
            self.broker.hidden.clear()
            self.broker.stream_faults = False
            self.broker._lies.clear()
        end = time.monotonic() + QUIET_SECONDS
        while True:
            self.revive()
            report = self.stack.json("stop_report") or {}
            findings = judge(self.stack.redis, self.truth(), RULES)
            proven = report.get("state") == "STOPPED" and self.stack.status("active") is False
            proven = proven and not [n for n in ("emergency", "trading") if not self.stack.beats(n)]
            if (findings.clean() and proven) or time.monotonic() > end:
                break
            time.sleep(0.2)
        if not proven:
            findings.pending.append(f"no proven stop: {report.get('state')}, active {self.stack.status('active')}")
        if self.stack.status("active") is not False:
            findings.unintended_on.append(f"trading_status: {self.stack.json('trading_status')}")
        findings.figures += [f"never settled: {fact}" for fact in findings.pending]
        fresh = Truth(self.truth().orders[before:], {}, {})
        findings.unintended_on += late_orders(fresh, off_at, IN_FLIGHT_SECONDS)
        return findings

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

    # -- trials ---------------------------------------------------------------------------------------------------

    def random_kill(self, rng: random.Random) -> Trial:
        """Kill one process, or both, at any time during a session full of lies; restart; stop; judge."""
        before = len(self.truth().orders)
        victims = rng.choice((("trading",), ("trading",), ("emergency",), ("trading", "emergency")))
        story = self._lies(rng)
        self.trade(self._meddler(rng))
        if rng.random() < 0.85:
            self.await_cycle()
        delay = rng.uniform(0.0, 2.0)
        time.sleep(delay)
        for name in victims:
            self.stack.kill(name)
        off_first = rng.random() < 0.5
        off_at = self.stop() if off_first else None
        again = ("emergency", "trading") if len(victims) == 2 else victims
        self.revive(*again)
        if off_at is None:
            time.sleep(rng.uniform(0.0, 1.5))
            off_at = self.stop()
        story.append(
            f"killed {'+'.join(victims)} after {delay:.3f} s, {'off, on again' if off_first else 'restart, off'}"
        )
        return Trial("random", self.settle(off_at, before), story=story)

    def _lies(self, rng: random.Random) -> list[str]:
        broker = self.broker
        if broker is None:
            return []
        broker.fill_market_orders = rng.random() < 0.6
        broker.stream_faults = rng.random() < 0.4
        broker.hide_next = rng.choice((0, 0, 1, 2))
        lies = rng.sample(LIES, rng.choice((0, 1, 2, 3)))
        for route, lie in lies:
            broker.lie(route, lie)
        told = [f"{route} -> {lie!r}" for route, lie in lies]
        return [
            *told,
            f"fills {broker.fill_market_orders}, stream faults {broker.stream_faults}, hidden {broker.hide_next}",
        ]

    def _meddler(self, rng: random.Random) -> Callable[[], None]:
        broker, own = self.broker, random.Random(rng.random())
        if broker is None:
            return lambda: None

        def meddle() -> None:
            roll = own.random()
            if roll < 0.4:
                broker.fill_some(own, also_canceled=own.random() < 0.3)
            elif roll < 0.6:
                broker.set_price(own.choice(TICKERS), Decimal(own.randint(9980, 10020)) / 100)
            elif roll < 0.63:
                broker.drop_streams()

        return meddle

    def at_failpoint(self, setting: str, scenario: Scenario) -> Trial:
        """Run until the failpoint ends its process; restart it without; stop; judge."""
        before, victim = len(self.truth().orders), scenario.victim
        if scenario.first:
            self._restart(victim, scenario.first)
            self.trade(lambda: None)
            self._await_end(victim)
        self._restart(victim, setting)
        self.trade(scenario.hand(self))
        scenario.prepare(self)
        reached = self._await_end(victim)
        if not reached:
            self.stack.kill(victim)
        with self._handing:  # a hand that writes the settings must not be the one that switches on again
            self._act.clear()
        off_at = self.stop()
        self.revive(victim)
        return Trial(setting, self.settle(off_at, before), reached, [f"{victim} at {setting}", scenario.first])

    def _restart(self, name: str, failpoint: str) -> None:
        """Start armed. It may be dead before its first heartbeat, which is what it is for."""
        self.stack.kill(name)
        self.stack.launch(name, SIXBOT_FAILPOINT=failpoint)

    def _await_end(self, name: str, seconds: float = 15.0) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.stack.processes[name].poll() is not None:
                return self.stack.processes[name].returncode == -signal.SIGKILL
            time.sleep(0.02)
        return False


@contextmanager
def bench(venue: str, seed: int) -> Iterator[Bench]:
    """A fresh installation over ``alpaca`` or ``simulated`` in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="sixbot-faults-") as folder:
        root = Path(folder)
        (root / "home").mkdir()
        (root / "redis").mkdir()
        server = RedisServer(root / "redis")
        server.start()
        try:
            if venue == "alpaca":
                broker = FaultyBroker(random.Random(seed))
                broker.start()
                for ticker in TICKERS:
                    broker.set_price(ticker, "100.00")
                try:
                    environment = {**alpaca_environment(broker), "ACTIVE_TICKERS": ",".join(TICKERS)}
                    yield from _run(Stack(root / "home", server, environment, **SPEED), broker.truth, broker)
                finally:
                    broker.stop()
            else:
                with exchange_server(root / "exchange") as exchange:
                    environment = simulated_environment(exchange)
                    yield from _run(
                        Stack(root / "home", server, environment, **SPEED), lambda: exchange_truth(exchange), None
                    )
        finally:
            server.stop()


SPEED = {"CYCLE_SECONDS": "0.2", "UNKNOWN_RESOLVE_SECONDS": "2"}


def _run(stack: Stack, truth: Callable[[], Truth], broker: FaultyBroker | None) -> Iterator[Bench]:
    made = Bench(stack, truth, broker)
    try:
        made.start()
        eventually(lambda: stack.json("trading_status"), what="the first status")
        yield made
    finally:
        made.close()
        stack.close()
