"""The cancel rows of the stop bench: fifty working orders, a stop, and what the venue saw of it.

Real ``emergency`` and ``trading`` processes over a real Redis; the venue is the simulated exchange in a thread here,
and its record of arrivals, on the same monotonic clock as the SET, is the only witness.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import psutil

from shared.clock import SystemClock
from tests.servers.exchange import TICKERS, TOKEN, ExchangeServer
from tests.servers.stack import Stack, simulated_environment
from tests.support import RedisServer, eventually
from worker.core import ids
from worker.core.types import Effect, OrderRequest, OrderType, Side, TimeInForce
from worker.runtime import lock_is_held
from worker.venues.simulated.client import SimulatedVenue

ORDERS = 50
HUNG_SECONDS = 1.0
MAXMEMORY = 256 * 2**20
SPINNER = """
import sys
from pathlib import Path
from worker.runtime import AccountLock
AccountLock(Path(sys.argv[1]), "default").acquire()
while True:
    pass
"""


@dataclass(frozen=True, slots=True)
class Row:
    """How one row stops, and what is broken while it does. ``slow`` rows are measured less often."""

    name: str
    stop: Callable[[Bench], None]
    prepare: Callable[[Bench], None] | None = None
    slow: bool = False
    broken: str = ""
    counts: bool = True
    """Whether the report of this very process must count all fifty."""


@dataclass(slots=True)
class Sample:
    """Milliseconds from the stop: to the first cancel request at the venue, to the reading that proved it empty."""

    first_cancel: float
    proven: float


class Bench:
    """The installation under test."""

    def __init__(self, home: Path, server: RedisServer, exchange: ExchangeServer) -> None:
        self.stack = Stack(home, server, simulated_environment(exchange), CYCLE_SECONDS="600")
        self.stack.forked = False  # measured as they are started by a user
        self.exchange, self.home = exchange, home
        self._venue = SimulatedVenue(exchange.url, TOKEN, SystemClock())
        self._pool = ThreadPoolExecutor(10)
        self._serial = 0
        self._last: object = None

    def close(self) -> None:
        self._pool.shutdown()
        self._venue.close()
        self.stack.close()

    def delete_settings(self) -> None:
        self.stack.redis.delete("trading_settings")

    def flush(self) -> None:
        self.stack.redis.flushall()

    def set_off(self) -> None:
        self.stack.redis.set("trading_settings", '{"enabled": false}')

    def touch_stop_file(self) -> None:
        (self.home / "run" / "STOP").touch()

    def send_signal(self) -> None:
        self.stack.signal("emergency", signal.SIGUSR1)

    # -- what is broken -------------------------------------------------------------------------------------------

    def mute_notifications(self) -> None:
        self.stack.redis.config_set("notify-keyspace-events", "")

    def freeze_trader(self) -> None:
        self.stack.signal("trading", signal.SIGSTOP)

    def kill_redis(self) -> None:
        self.stack.server.stop()

    def freeze_redis(self) -> None:
        assert self.stack.server.process is not None
        self.stack.server.process.send_signal(signal.SIGSTOP)

    def hang_venue(self) -> None:
        """Mute from now on, and well again a while after the stop came in."""
        self.break_venue("mute")

    def break_venue(self, fault: tuple[int, str] | str) -> None:
        """What listing and cancelling gets for ``HUNG_SECONDS``; nothing is done meanwhile."""
        self.exchange.fail(fault)
        threading.Timer(HUNG_SECONDS, self.exchange.fail, [None]).start()

    def kill_trader(self) -> None:
        self.stack.kill("trading")

    def spin_trader(self) -> None:
        """A process that holds the account's lock, computes without end and answers nothing."""
        self.stack.kill("trading")
        folder = str(self.home / "run")
        self.stack.processes["trading"] = subprocess.Popen([sys.executable, "-c", SPINNER, folder])
        eventually(lambda: lock_is_held(Path(folder) / "account-default.lock"), what="the spinner holds the lock")

    def fill_redis(self) -> None:
        self.stack.redis.config_set("maxmemory", 1)

    def make_redis_read_only(self) -> None:
        self.stack.redis.execute_command("REPLICAOF", "127.0.0.1", "1")

    def kill_emergency_soon(self) -> None:
        """Killed in the middle of the stop, and started again as its supervisor would."""

        def restart() -> None:
            self.stack.kill("emergency")
            self.stack.launch("emergency")

        threading.Timer(0.02, restart).start()

    # -- one trial ------------------------------------------------------------------------------------------------

    def trial(self, row: Row) -> Sample:
        """From trading armed with fifty orders at the venue to the proof, then everything back as it was."""
        self._turn_on()
        self._place()
        if row.prepare is not None:
            row.prepare(self)
        before = len(self.exchange.exchange.arrivals)
        began = time.monotonic()
        row.stop(self)
        eventually(lambda: self._first_and_proof(before) is not None, what=f"{row.name}: proven empty at the venue")
        found = self._first_and_proof(before)
        assert found is not None
        self._mend_redis()
        self._await_report(row)
        return Sample((found[0] - began) * 1000, (found[1] - began) * 1000)

    def _first_and_proof(self, before: int) -> tuple[float, float] | None:
        """When the first cancel came in, and the last listing before emergency asked for the positions.

        It asks for them once, after the proof. Its requests are told from the trader's by their connections.
        """
        seen = self.exchange.exchange.arrivals[before:]  # a slice: the witness shares this process and must stay quick
        if not any(a.path == "/positions" for a in seen):
            return None
        ports = self._emergency_ports()
        asked = next((a.at for a in seen if a.path == "/positions" and a.port in ports), None)
        if asked is None:
            return None
        empty = [a.at for a in seen if a.lists and a.working == 0 and a.port in ports and a.at < asked]
        return next(a.at for a in seen if a.cancels), empty[-1]

    def _emergency_ports(self) -> set[int]:
        process = psutil.Process(self.stack.processes["emergency"].pid)
        return {c.laddr.port for c in process.net_connections("tcp") if c.raddr}

    def _await_report(self, row: Row) -> None:
        """The stop's own report must agree that all fifty were found and cancelled."""

        def reported() -> bool:
            report = self.stack.json("stop_report")
            return isinstance(report, dict) and report["state"] == "STOPPED" and report["stop_id"] != self._last

        eventually(reported, what=f"{row.name}: a report, it is {self.stack.json('stop_report')}")
        report = self.stack.json("stop_report")
        assert report["orders_found"] == ORDERS or not row.counts, report
        assert not self.exchange.engine.working()
        if report["source"] not in {
            "trading_settings",
            "restart",
        }:  # a latch that is shown late would undo the next trial's start
            eventually(lambda: self.stack.json("stop_latch"), what=f"{row.name}: the latch")
        self.stack.await_status("active", False)

    def _turn_on(self) -> None:
        """Whatever the trial before left behind is mended first: the server, the venue, the trader, the latch."""
        self.exchange.fail(None)
        self._mend_redis()
        (self.home / "run" / "STOP").unlink(missing_ok=True)
        missing = [n for n in ("emergency", "trading") if n not in self.stack.alive()]
        if missing:
            self.stack.start(*missing)
        self._serial += 1
        note = {"bench": self._serial}
        self.stack.set("risk_settings", json.dumps({"emergency_stop_active": False, "cooldown_minutes": 0, **note}))
        self.stack.set("trading_settings", json.dumps({"enabled": True, **note}))
        eventually(self._armed, what=f"armed: {self.stack.json('trading_status')}")
        report = self.stack.json("stop_report")
        self._last = report["stop_id"] if isinstance(report, dict) else None

    def _mend_redis(self) -> None:
        process = self.stack.server.process
        if process is None:
            self.stack.server.start()
        else:
            process.send_signal(signal.SIGCONT)
            self.stack.redis.config_set("maxmemory", MAXMEMORY)
            self.stack.redis.execute_command("REPLICAOF", "NO", "ONE")

    def _armed(self) -> bool:
        if self.stack.status("active") is not True:
            return False
        armed, epoch = self.stack.redis.mget("trading_armed", "trading_epoch")
        return armed is not None and armed == epoch

    def _place(self) -> None:
        requests = [
            OrderRequest(
                ids.mint(Effect.ENTRY, 1, f"{self._serial:06d}{number:06d}"),
                TICKERS[number % len(TICKERS)],
                Side.BUY,
                Decimal(1),
                OrderType.LIMIT,
                TimeInForce.DAY,
                limit_price=Decimal(1),
            )
            for number in range(ORDERS)
        ]
        list(self._pool.map(lambda r: self._venue.submit(r, lambda: None), requests))
        eventually(lambda: len(self.exchange.engine.working()) == ORDERS, what="fifty working orders")


# -- the rows ---------------------------------------------------------------------------------------------------------


def rows() -> list[Row]:
    """All rows, each its own way of stopping."""
    return [
        Row("SET trading_settings, everything well", Bench.set_off),
        Row("SET trading_settings, notifications off", Bench.set_off, prepare=Bench.mute_notifications),
        Row("STOP_FILE", Bench.touch_stop_file),
        Row("SIGUSR1 to emergency", Bench.send_signal),
        Row("SET trading_settings, trader SIGSTOPped", Bench.set_off, prepare=Bench.freeze_trader, slow=True),
        Row("STOP_FILE, Redis down", Bench.touch_stop_file, prepare=Bench.kill_redis, slow=True),
        Row("STOP_FILE, Redis hung (SIGSTOP)", Bench.touch_stop_file, prepare=Bench.freeze_redis, slow=True),
        Row(
            f"SET trading_settings, venue mute for {HUNG_SECONDS:g} s",
            Bench.set_off,
            prepare=Bench.hang_venue,
            slow=True,
        ),
    ]


def matrix() -> list[Row]:
    """Stops with something else broken: what counts is that each ends in a proof."""
    set_off, stop_file = Bench.set_off, Bench.touch_stop_file
    faults: dict[str, tuple[int, str] | str] = {
        "429": (429, '{"message": "slow down"}'),
        "500": (500, "<html>upstream</html>"),
        "200 with garbage": (200, "!?"),
    }
    return [
        Row("SET", set_off, prepare=Bench.kill_trader, broken="trader dead"),
        Row("SET", set_off, prepare=Bench.spin_trader, broken="trader spinning at 100 %"),
        Row(
            "SET",
            set_off,
            prepare=Bench.kill_emergency_soon,
            broken="emergency killed in the middle of the stop",
            counts=False,
        ),
        Row("DEL trading_settings", Bench.delete_settings, prepare=Bench.fill_redis, broken="Redis full"),
        Row("STOP_FILE", stop_file, prepare=Bench.fill_redis, broken="Redis full"),
        Row("STOP_FILE", stop_file, prepare=Bench.make_redis_read_only, broken="Redis read-only"),
        Row("FLUSHALL itself", Bench.flush, broken="Redis flushed"),
        *(
            Row(
                "SET",
                set_off,
                prepare=lambda bench, fault=fault: bench.break_venue(fault),
                broken=f"venue answers {name} for {HUNG_SECONDS:g} s",
            )
            for name, fault in faults.items()
        ),
    ]


@contextmanager
def installation() -> Iterator[Bench]:
    """A fresh one, with its two workers."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("redis", "home", "exchange"):
            (root / name).mkdir()
        server, exchange = RedisServer(root / "redis"), ExchangeServer(root / "exchange")
        server.start()
        exchange.start()
        bench = Bench(root / "home", server, exchange)
        try:
            bench.stack.start("emergency", "trading")
            yield bench
        finally:
            bench.close()
            exchange.stop()
            server.stop()


def measure(row: Row, trials: int, advance: Callable[[], None]) -> list[Sample]:
    """One row, in an installation of its own."""
    samples = []
    with installation() as bench:
        for _ in range(trials):
            samples.append(bench.trial(row))
            advance()
    return samples
