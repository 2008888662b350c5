"""The first row of the stop bench: after a SET that turns trading off was acknowledged, does any gate call pass?

Two processes offer orders to the real gate without a pause while the switch is turned off and on again. The emergency
worker does not run and no stop raises the epoch: what is measured is the gate alone, with every other process dead. The
epoch rises just before trading is turned on again, so that a call begun while it was off cannot pass because of that.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shared.store import connect
from tests.bench.gate_load import OWNER, RISK
from tests.servers.stack import OFF, ON
from tests.support import RedisServer, eventually

PROCESSES = 2
FLUSH_EVERY = 250


@dataclass(frozen=True, slots=True)
class GateFigures:
    """``lateness_ms``: of each order in flight, from the SET's acknowledgement to the end of its gate call."""

    trials: int
    under_load: int
    escapes: int
    in_flight: int
    lateness_ms: list[float]
    set_ms: list[float]
    admitted: int


def measure(trials: int, advance: Callable[[], None]) -> GateFigures:
    """Turn off and on ``trials`` times."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        server.start()
        logs = [Path(folder) / f"gate-{number}.log" for number in range(PROCESSES)]
        load = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.bench.gate_load", server.url, ON, str(number), str(log)],
                stdin=subprocess.PIPE,
            )
            for number, log in enumerate(logs, 1)
        ]
        try:
            windows = _switch(server, trials, advance)
        finally:
            for process in load:
                process.communicate()
            server.stop()
        calls = sorted(
            (float(began), float(ended))
            for log in logs
            for began, ended in map(str.split, log.read_text().splitlines())
        )
    return _judge(windows, calls)


def _switch(server: RedisServer, trials: int, advance: Callable[[], None]) -> list[tuple[float, float, float]]:
    """Per trial: before the SET that turns off, after its acknowledgement, before the SET that turns on again."""
    client = connect(server.url, timeout_seconds=10)
    chance = random.Random(6)
    windows = []
    for trial in range(trials):
        if trial % FLUSH_EVERY == 0:
            client.flushdb()
        client.mset(
            {
                "risk_settings": RISK,
                "trading_epoch": trial + 1,
                "trading_armed": trial + 1,
                "lease:account:default": OWNER,
            }
        )
        client.set("trading_settings", ON)
        if trial == 0:
            eventually(lambda: client.scard("orders:open") >= 10, what="the load to offer orders")
        time.sleep(chance.uniform(0.003, 0.008))
        before = time.monotonic()
        client.set("trading_settings", OFF)
        acknowledged = time.monotonic()
        time.sleep(chance.uniform(0.002, 0.005))
        windows.append((before, acknowledged, time.monotonic()))
        advance()
    client.close()
    return windows


def _judge(windows: list[tuple[float, float, float]], calls: list[tuple[float, float]]) -> GateFigures:
    starts = [began for began, _ in calls]
    escapes = under_load = 0
    lateness: list[float] = []
    for before, acknowledged, until in windows:
        escapes += bisect_right(starts, until) - bisect_right(starts, acknowledged)
        under_load += bisect_right(starts, before) > bisect_right(starts, before - 0.003)
        first = bisect_right(starts, acknowledged - 0.3)
        for began, ended in calls[first : bisect_right(starts, acknowledged)]:
            if began <= acknowledged and ended > before:
                lateness.append(max(0.0, ended - acknowledged) * 1000)
    set_ms = [(acknowledged - before) * 1000 for before, acknowledged, _ in windows]
    return GateFigures(len(windows), under_load, escapes, len(lateness), lateness or [0.0], set_ms, len(calls))
