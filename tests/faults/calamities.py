"""What befalls an installation beside a kill: frozen processes, a second trader, a Redis that dies, forgets or refuses.

Each calamity happens while trading, is cured as an operator would cure it, and the installation trades again before it
is stopped and judged. Where a stop must latch, nothing may resume before the operator says so.
"""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime

from tests.faults import processes, redis_faults
from tests.faults.bench import Bench, Trial
from tests.faults.course import Calamity
from tests.faults.kills import meddler
from tests.support import eventually

WATCH_SECONDS = 1.0


def run_calamity(made: Bench, name: str, rng: random.Random) -> Trial:
    """One trial: trade, let it happen, cure it, watch that a latch holds, resume, trade, stop, judge."""
    before = len(made.truth().orders)
    if made.broker is not None:
        made.broker.fill_market_orders = rng.random() < 0.8
    made.trade(meddler(made, rng))
    made.await_cycle()
    time.sleep(rng.uniform(0.0, 1.0))
    course = CALAMITIES[name](made, rng)
    course.cure()
    if course.latch:
        course.found += _stays_off(made, course.latch)
    made.resume()
    made.await_cycle()
    time.sleep(rng.uniform(0.3, 1.0))
    findings = made.settle(made.stop(), before)
    findings.unintended_on += course.found
    return Trial(name, findings, story=course.story)


def _stays_off(made: Bench, reason: str) -> list[str]:
    """What resumed by itself although the stop had to latch."""
    eventually(
        lambda: (made.stack.json("stop_latch") or {}).get("reason") == reason,
        60,
        f"a latch for {reason}",
        lambda: f"{made.stack.json('stop_latch')} {made.stack.json('stop_report')} {made.stack.json('trading_status')}",
    )
    since, end = datetime.now(UTC), time.monotonic() + WATCH_SECONDS
    found = []
    while time.monotonic() < end and not found:
        if made.stack.redis.get("trading_armed") is not None:
            found.append(f"armed although {reason} is latched")
        time.sleep(0.05)
    return found + [f"{reason} is latched, and {fact}" for fact in made.late(since)]


CALAMITIES: dict[str, Calamity] = {
    "frozen_trader": processes.frozen_trader,
    "frozen_past_lease": processes.frozen_past_lease,
    "frozen_at_stop": processes.frozen_at_stop,
    "frozen_emergency": processes.frozen_emergency,
    "second_same_folder": processes.second_same_folder,
    "second_when_first_dies": processes.second_when_first_dies,
    "second_when_first_sleeps": processes.second_when_first_sleeps,
    "redis_restarted": redis_faults.redis_restarted,
    "redis_lost": redis_faults.redis_lost,
    "redis_hangs": redis_faults.redis_hangs,
    "redis_restored": redis_faults.redis_restored,
    "redis_restored_from_before_a_stop": redis_faults.redis_restored_from_before_a_stop,
    "redis_truncated": redis_faults.redis_truncated,
    "redis_flushed": redis_faults.redis_flushed,
    "redis_replica": redis_faults.redis_replica,
    "redis_without_replicas": redis_faults.redis_without_replicas,
    "redis_full": redis_faults.redis_full,
    "order_of_another_type": redis_faults.order_of_another_type,
    "order_lost": redis_faults.mangled(lambda made: f"order:{redis_faults.filled_order(made)}", "string"),
    "type_of_fills": redis_faults.mangled(lambda made: f"fills:{redis_faults.filled_order(made)}", "string"),
    "type_of_orders_open": redis_faults.mangled(lambda _: "orders:open", "string"),
    "type_of_orders_history": redis_faults.mangled(lambda _: "orders:history", "string"),
    "type_of_positions_open": redis_faults.mangled(lambda _: "positions:open", "string"),
    "type_of_risk_counters": redis_faults.mangled(redis_faults.todays_counters, "list"),
    "type_of_risk_last_trade": redis_faults.mangled(lambda _: "risk_last_trade", "list"),
    "type_of_trades_log": redis_faults.mangled(lambda _: "trades_log", "list"),
    "type_of_stats": redis_faults.mangled(lambda _: "stats", "list"),
}
