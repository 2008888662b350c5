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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import psutil

from shared.clock import SystemClock
from tests.servers.bystanders import MuteReceiver, kill_all_of, start_busy_jobs, start_web
from tests.servers.exchange import TICKERS, TOKEN, ExchangeServer
from tests.servers.stack import Stack, simulated_environment
from tests.support import RedisServer, eventually
from worker.core import ids
from worker.core.types import Effect, OrderRequest, OrderType, Side, TimeInForce
from worker.runtime import lock_is_held
from worker.venues.simulated.client import SimulatedVenue

ORDERS = 50
HUNG_SECONDS = 1.0
CHUNK, LEAST = 250, 4
"""The most trials of an installation, and the fewest for which one is worth its start."""
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
    """How one row stops, and what is broken while it does. ``slow`` rows are measured less often.

    ``at_once`` installations measure a row that waits most of its time; one account of ``accounts`` has a dead venue.
    """

    name: str
    stop: Callable[[Bench], None]
    prepare: Callable[[Bench], None] | None = None
    slow: bool = False
    broken: str = ""
    at_once: int = 1
    accounts: int = 1
    counts: bool = True
    """Whether the report of this very process must count all fifty."""


@dataclass(slots=True)
class Sample:
    """Milliseconds from the stop: to the first cancel request at the venue, to the reading that proved it empty."""

    first_cancel: float
    proven: float


class Bench:
    """The installation under test."""

    def __init__(
        self, home: Path, server: RedisServer, exchanges: Sequence[ExchangeServer], turn: threading.Lock
    ) -> None:
        self.exchanges, self.exchange, self.home = list(exchanges), exchanges[0], home
        others = {f"b{number}": exchange for number, exchange in enumerate(exchanges[1:])}
        accounts = {
            f"ACCOUNTS__{name}__{field}".upper(): value
            for name, exchange in others.items()
            for field, value in (("venue", "simulated"), ("url", exchange.url), ("token", TOKEN))
        }
        self.stack = Stack(home, server, simulated_environment(self.exchange), CYCLE_SECONDS="600", **accounts)
        self.stack.forked = False  # measured as they are started by a user
        self._turn = turn
        self._venues = [SimulatedVenue(exchange.url, TOKEN, SystemClock()) for exchange in exchanges]
        self._pool = ThreadPoolExecutor(10)
        self._receiver: MuteReceiver | None = None
        self._serial = 0
        self._last: object = None

    def close(self) -> None:
        self._pool.shutdown()
        for venue in self._venues:
            venue.close()
        self.stack.close()
        for exchange in self.exchanges:
            if exchange.runs:
                exchange.stop()
        if self._receiver is not None:
            self._receiver.close()

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

    def kill_jobs(self) -> None:
        """Killed in the middle of a job."""
        self._receiver = self._receiver or MuteReceiver()
        start_busy_jobs(self.stack, self._receiver)
        self.stack.kill("jobs")

    def kill_web(self) -> None:
        start_web(self.stack)
        kill_all_of(self.stack, "web")

    def kill_last_venue(self) -> None:
        self.exchanges[-1].stop()

    def revive_last_venue(self) -> None:
        """The same exchange again, with what stood in its ledger."""
        dead = self.exchanges[-1]
        if not dead.runs:
            self.exchanges[-1] = ExchangeServer(dead.directory, url=dead.url)
            self.exchanges[-1].start()

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
        """From trading armed with fifty orders at each venue to the proof, then everything back as it was.

        Until the first cancel has come in, no other installation does more than wait.
        """
        with self._turn:
            self._turn_on()
            self._place()
            if row.prepare is not None:
                row.prepare(self)
            seen = [(e, len(e.gateway.arrivals)) for e in self.exchanges if e.runs]
            began = time.monotonic()
            row.stop(self)
            eventually(lambda: all(self._first(*s) for s in seen), what=f"{row.name}: the first cancel")
        eventually(lambda: all(self._proof(*s) for s in seen), what=f"{row.name}: proven empty at the venue")
        first = max(self._first(*s) for s in seen)
        proof = max(self._proof(*s) for s in seen)
        self._mend_redis()
        if row.accounts > 1:
            self._await_others_proven()
            self.revive_last_venue()
        self._await_report(row)
        return Sample((first - began) * 1000, (proof - began) * 1000)

    @staticmethod
    def _first(exchange: ExchangeServer, before: int) -> float:
        """When the first cancel came in; 0 as long as none did."""
        return next((a.at for a in exchange.gateway.arrivals[before:] if a.cancels), 0.0)

    def _proof(self, exchange: ExchangeServer, before: int) -> float:
        """When the last listing came in before emergency asked for the positions; 0 as long as it did not.

        It asks for them once, after the proof. Its requests are told from the trader's by their connections.
        """
        seen = exchange.gateway.arrivals[before:]  # a slice: the witness shares this process and must stay quick
        if not any(a.path == "/positions" for a in seen):
            return 0.0
        ports = self._emergency_ports()
        asked = next((a.at for a in seen if a.path == "/positions" and a.port in ports), None)
        if asked is None:
            return 0.0
        return [a.at for a in seen if a.lists and a.working == 0 and a.port in ports and a.at < asked][-1]

    def _await_others_proven(self) -> None:
        """With one venue dead the report goes on with that account only."""

        def proven() -> bool:
            report = self.stack.json("stop_report")
            states = [row["state"] for row in report["accounts"].values()] if isinstance(report, dict) else []
            return sorted(states) == ["STOPPED"] * (len(self.exchanges) - 1) + ["STOPPING"]

        eventually(proven, what=f"the other accounts proven: {self.stack.json('stop_report')}")

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
        assert report["orders_found"] == ORDERS * row.accounts or not row.counts, report
        assert not any(exchange.engine.working() for exchange in self.exchanges)
        if report["source"] not in {
            "trading_settings",
            "restart",
        }:  # a latch that is shown late would undo the next trial's start
            eventually(lambda: self.stack.json("stop_latch"), what=f"{row.name}: the latch")
        self.stack.await_status("active", False)

    def _turn_on(self) -> None:
        """Whatever the trial before left behind is mended first: the server, the venue, the trader, the latch."""
        self.exchange.fail(None)
        self.revive_last_venue()
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
        for venue in self._venues:
            list(self._pool.map(lambda r, venue=venue: venue.submit(r, lambda: None), requests))
        for exchange in self.exchanges:
            eventually(lambda e=exchange: len(e.engine.working()) == ORDERS, what="fifty working orders")


@contextmanager
def installation(turn: threading.Lock, accounts: int = 1) -> Iterator[Bench]:
    """A fresh one, with its two workers and a venue per account."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("redis", "home"):
            (root / name).mkdir()
        server, exchanges = RedisServer(root / "redis"), []
        server.start()
        for number in range(accounts):
            (root / f"exchange{number}").mkdir()
            exchanges.append(ExchangeServer(root / f"exchange{number}"))
            exchanges[-1].start()
        bench = Bench(root / "home", server, exchanges, turn)
        try:
            bench.stack.start("emergency", "trading")
            yield bench
        finally:
            bench.close()
            server.stop()


def measure(row: Row, trials: int, advance: Callable[[], None]) -> list[Sample]:
    """One row, in fresh installations, since a venue that keeps every order gets slower.

    Where a row waits most of its time, several of them work at once; what must be undisturbed takes turns.
    """
    turn, failed = threading.Lock(), threading.Event()
    sizes = [len(range(first, trials, -(-trials // CHUNK))) for first in range(-(-trials // CHUNK))]
    sizes = [
        len(range(part, size, parts))
        for size in sizes
        for parts in (min(row.at_once, max(1, size // LEAST)),)
        for part in range(parts)
    ]

    def some(count: int) -> list[Sample]:
        samples: list[Sample] = []
        if failed.is_set():
            return samples
        try:
            with installation(turn, row.accounts) as bench:
                while len(samples) < count and not failed.is_set():
                    samples.append(bench.trial(row))
                    advance()
        except BaseException:
            failed.set()
            raise
        return samples

    with ThreadPoolExecutor(row.at_once) as pool:
        return [sample for samples in pool.map(some, sizes) for sample in samples]
