"""A trader-like process for the stop bench: the real gate, called as fast as it answers, each call with its times.

Usage: ``python -m tests.bench.gate_load URL SETTINGS NAME OUT``. It judges the documents once, as a trader does that
decided before the stop, and goes on offering orders on that judgement, each in the epoch that it reads just before,
until its standard input is closed. OUT gets one line for every order that the gate let pass: start and end of the call
on the machine's monotonic clock.
"""

from __future__ import annotations

import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from shared.clock import SystemClock, TradingCalendar
from shared.documents import Reading, RiskSettings, TradingSettings
from shared.errors import StoreError
from shared.keys import Keys
from shared.store import Store, connect
from tests.builders import order
from worker.trading.fence import Fence
from worker.trading.gate import RedisGate
from worker.trading.ports import Switches, Ticket

OWNER = "bench"
RISK = (
    b'{"daily_notional_cap": 0, "max_position_per_ticker": 1000000000, "cooldown_minutes": 0, '
    b'"max_trades_per_run": 1000000, "max_open_positions": 1000000000}'
)


def offer(url: str, settings: bytes, name: int, out: Path) -> None:
    """Until standard input ends."""
    closed = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), closed.set()), daemon=True).start()
    gate = RedisGate(url, Keys(), "default")
    gate.owner = OWNER
    judged = Switches(
        Reading(settings, TradingSettings.parse(settings, TradingSettings())),
        Reading(RISK, RiskSettings.parse(RISK, RiskSettings())),
    )
    day = TradingCalendar(ZoneInfo("UTC")).day_of(datetime.now(UTC))
    fence = Fence(Store(connect(url)), "default", SystemClock())
    number = 0
    with out.open("w") as log:
        while not closed.is_set():
            number += 1
            epoch = fence.epoch()
            if epoch is None:
                continue
            entropy = f"{name}{number:013d}"
            offered = order(f"sbe1r{entropy}", trading_day=day.name, epoch=epoch, position_id=entropy, reserved=1)
            ticket = Ticket(offered, judged, day, entropy)
            began = time.monotonic()
            try:
                denial = gate.admit(ticket)
            except StoreError:
                continue
            if denial is None:
                log.write(f"{began!r} {time.monotonic()!r}\n")
    gate.close()


if __name__ == "__main__":
    offer(sys.argv[1], sys.argv[2].encode(), int(sys.argv[3]), Path(sys.argv[4]))
