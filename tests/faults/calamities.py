"""What befalls an installation beside a kill: frozen processes, a second trader, a Redis that dies, forgets or refuses.

Each calamity happens while trading, is cured as an operator would cure it, and the installation trades again before it
is stopped and judged. Where a stop must latch, nothing may resume before the operator says so.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from shared.clock import parse_rfc3339, rfc3339
from tests.faults.bench import Bench, Trial
from tests.faults.kills import meddler
from tests.support import eventually

LEASE_SECONDS, LOST_SECONDS = 10.0, 5.0
WATCH_SECONDS = 1.0


@dataclass(slots=True)
class Course:
    """How a calamity went. ``latch`` is the reason with which a stop must have latched; ``found`` what is wrong
    already; ``cure`` is done after it."""

    story: list[str]
    latch: str = ""
    found: list[str] = field(default_factory=list)
    cure: Callable[[], object] = lambda: None


Calamity = Callable[[Bench, random.Random], Course]


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
        f"a latch for {reason}: {made.stack.json('stop_latch')} {made.stack.json('trading_status')}",
    )
    since, end = datetime.now(UTC), time.monotonic() + WATCH_SECONDS
    found = []
    while time.monotonic() < end and not found:
        if made.stack.redis.get("trading_armed") is not None:
            found.append(f"armed although {reason} is latched")
        time.sleep(0.05)
    return found + [f"{reason} is latched, and {fact}" for fact in made.late(since)]


# -- frozen processes -------------------------------------------------------------------------------------------------


def _freeze(made: Bench, name: str, seconds: float) -> list[str]:
    """SIGSTOP, SIGCONT; returns orders that were decided before and reached the venue after."""
    made.stack.signal(name, signal.SIGSTOP)
    stopped_at = datetime.now(UTC)
    time.sleep(seconds)
    woken_at = datetime.now(UTC)
    made.stack.signal(name, signal.SIGCONT)
    made.await_cycle()
    aged = []
    for order in made.truth().orders:
        decided = made.stack.redis.hget(f"order:{order.client_order_id}", "created_at")
        if decided is not None and order.created_at > woken_at and parse_rfc3339(decided.decode()) < stopped_at:  # type: ignore[union-attr]
            aged.append(f"{order.client_order_id} was decided before a pause of {seconds:.1f} s and sent after it")
    return aged


def frozen_trader(made: Bench, rng: random.Random) -> Course:
    """Shorter than its lease."""
    seconds = rng.uniform(0.3, 3.0)
    return Course([f"trader stopped for {seconds:.2f} s"], found=_freeze(made, "trading", seconds))


def frozen_past_lease(made: Bench, rng: random.Random) -> Course:
    """Longer than its lease, shorter than what is silence."""
    seconds = LEASE_SECONDS + rng.uniform(0.3, 2.0)
    return Course([f"trader stopped for {seconds:.2f} s"], found=_freeze(made, "trading", seconds))


def frozen_at_stop(made: Bench, rng: random.Random) -> Course:
    """Frozen when the stop comes: killed by the emergency worker, or woken before that."""
    seconds = rng.uniform(0.1, 1.5)
    made.stack.signal("trading", signal.SIGSTOP)
    off_at = made.stop()
    time.sleep(seconds)
    made.stack.signal("trading", signal.SIGCONT)
    made.stack.await_stopped()
    return Course([f"trader stopped, off, woken after {seconds:.2f} s"], found=made.late(off_at))


def frozen_emergency(made: Bench, rng: random.Random) -> Course:
    """Nobody arms: trading ends within three seconds, and goes on when it wakes."""
    seconds = rng.uniform(3.5, 5.0)
    made.stack.signal("emergency", signal.SIGSTOP)
    time.sleep(3.3)
    unarmed = datetime.now(UTC)
    time.sleep(seconds - 3.3)
    late = made.late(unarmed)
    made.stack.signal("emergency", signal.SIGCONT)
    return Course([f"emergency stopped for {seconds:.2f} s"], found=[f"nobody armed, and {fact}" for fact in late])


# -- a second trader --------------------------------------------------------------------------------------------------


def second_same_folder(made: Bench, rng: random.Random) -> Course:
    """The same run folder: the kernel lock refuses it, and it takes over only when the first is dead."""
    made.stack.launch("trading", role="second")
    code = made.stack.processes["second"].wait(60)
    made.stack.kill("trading")
    time.sleep(rng.uniform(0.0, 1.0))
    made.revive("trading")
    return Course([f"second trader ended with {code}"], found=[] if code else ["two traders share an account"])


def _second_home(made: Bench) -> None:
    home = made.stack.home / "second"
    home.mkdir(exist_ok=True)
    made.stack.launch("trading", role="second", SIXBOT_HOME=str(home))
    eventually(
        lambda: "waiting_for_lease" in made.stack.output("second"),
        60,
        f"the second trader waits: {made.stack.output('second')[-1500:]}",
    )


def _owner(made: Bench) -> bytes | None:
    return made.stack.redis.get("lease:account:default")  # type: ignore[return-value]


def _second_takes_over(made: Bench, first: bytes | None) -> None:
    eventually(
        lambda: _owner(made) not in (None, first),
        60,
        f"the second trader has the lease: {made.stack.output('second')[-1500:]}",
    )
    eventually(lambda: made.stack.output("second").count('"event": "recovered"'), 60, "the second trader recovered")


def second_when_first_dies(made: Bench, rng: random.Random) -> Course:
    """Another folder: it waits for the lease and takes over when the first is killed; then the first comes back."""
    _second_home(made)
    first = _owner(made)
    time.sleep(rng.uniform(0.0, 1.0))
    made.stack.kill("trading")
    _second_takes_over(made, first)
    made.stack.launch("trading")
    time.sleep(rng.uniform(0.0, 2.0))
    return Course(["first killed, second took over, second killed"], cure=lambda: made.stack.kill("second"))


def second_when_first_sleeps(made: Bench, rng: random.Random) -> Course:
    """The first is frozen past its lease, the second takes over, the first wakes up beside it."""
    _second_home(made)
    first = _owner(made)
    time.sleep(rng.uniform(0.0, 1.0))
    made.stack.signal("trading", signal.SIGSTOP)
    _second_takes_over(made, first)
    now = rfc3339(datetime.now(UTC))
    made.stack.signal("trading", signal.SIGCONT)
    eventually(lambda: (made.stack.status("last_run") or "") > now, 60, "a cycle of the second trader")
    time.sleep(rng.uniform(0.0, 2.0))
    return Course(["first slept, second took over, first woke, second killed"], cure=lambda: made.stack.kill("second"))


# -- Redis dies and forgets -------------------------------------------------------------------------------------------


def _down(made: Bench, seconds: float, meanwhile: Callable[[], None] = lambda: None) -> None:
    made.stack.server.stop()
    meanwhile()
    time.sleep(seconds)
    made.stack.server.start()


def redis_restarted(made: Bench, rng: random.Random) -> Course:
    """Away for less than what is lost: it goes on by itself."""
    seconds = rng.uniform(0.1, 3.0)
    _down(made, seconds)
    made.await_cycle()
    return Course([f"Redis killed for {seconds:.2f} s"])


def redis_lost(made: Bench, rng: random.Random) -> Course:
    """Away for longer: a latching stop."""
    seconds = LOST_SECONDS + rng.uniform(2.0, 3.0)
    _down(made, seconds)
    return Course([f"Redis killed for {seconds:.2f} s"], latch="redis_lost")


def redis_hangs(made: Bench, rng: random.Random) -> Course:
    """It accepts and does not answer."""
    seconds = rng.uniform(0.2, 3.0)
    process = made.stack.server.process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    process.send_signal(signal.SIGCONT)
    made.await_cycle()
    return Course([f"Redis stopped for {seconds:.2f} s"])


def _append_only(made: Bench) -> Path:
    return made.stack.server.directory / "appendonlydir"


def _saved(made: Bench) -> Path:
    copy = made.stack.server.directory / "copy"
    shutil.copytree(_append_only(made), copy)
    return copy


def _restore(made: Bench, copy: Path) -> None:
    shutil.rmtree(_append_only(made))
    copy.rename(_append_only(made))


def redis_restored(made: Bench, rng: random.Random) -> Course:
    """An older copy, from the same epoch: what it forgot is learnt from the venue."""
    copy = _saved(made)
    made.await_cycle()
    time.sleep(rng.uniform(0.2, 1.5))
    _down(made, 0.0, lambda: _restore(made, copy))
    made.await_cycle()
    return Course(["Redis killed, restored from an older copy"])


def redis_restored_from_before_a_stop(made: Bench, rng: random.Random) -> Course:
    """An older copy, from before the last stop: its epoch betrays it, and it stays off."""
    copy = _saved(made)
    made.stop()
    made.stack.await_stopped()
    made.resume()
    made.await_cycle()
    time.sleep(rng.uniform(0.0, 0.5))
    _down(made, 0.0, lambda: _restore(made, copy))
    return Course(["Redis killed, restored from before the last stop"], latch="redis_lost")


def redis_truncated(made: Bench, rng: random.Random) -> Course:
    """The tail of the append-only file is gone, in the middle of a record."""
    size = rng.randint(1, 2000)

    def cut() -> None:
        path = max(_append_only(made).glob("*.incr.aof"))
        with path.open("r+b") as file:
            file.truncate(max(path.stat().st_size - size, 0))

    _down(made, 0.0, cut)
    made.await_cycle()
    return Course([f"Redis killed, {size} bytes of its file lost"])


def redis_flushed(made: Bench, rng: random.Random) -> Course:
    """FLUSHALL: everything is gone, and stays off."""
    made.stack.redis.flushall()
    time.sleep(rng.uniform(0.0, 1.0))
    return Course(["FLUSHALL"], latch="redis_lost")


# -- Redis refuses ----------------------------------------------------------------------------------------------------


def _refusing(made: Bench, rng: random.Random, refuse: tuple[str, ...], allow: tuple[str, ...]) -> Course:
    seconds = rng.uniform(0.5, 4.5)
    made.stack.redis.execute_command(*refuse)
    time.sleep(seconds)

    def cure() -> None:
        made.stack.redis.execute_command(*allow)
        made.await_cycle()

    return Course([f"{' '.join(refuse)} for {seconds:.2f} s"], cure=cure)


def redis_replica(made: Bench, rng: random.Random) -> Course:
    """Read-only: it follows a master that is not there."""
    return _refusing(made, rng, ("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"))


def redis_without_replicas(made: Bench, rng: random.Random) -> Course:
    """It wants a replica before it writes."""
    name = "min-replicas-to-write"
    return _refusing(made, rng, ("CONFIG", "SET", name, "1"), ("CONFIG", "SET", name, "0"))


def redis_full(made: Bench, rng: random.Random) -> Course:
    """No memory left, nothing evicted."""
    return _refusing(made, rng, ("CONFIG", "SET", "maxmemory", "1mb"), ("CONFIG", "SET", "maxmemory", "256mb"))


# -- keys of another type ---------------------------------------------------------------------------------------------


def _filled(made: Bench) -> str:
    """Some order of ours that has filled."""

    def find() -> str | None:
        names = [o.client_order_id for o in reversed(made.truth().orders) if o.filled.qty]
        return next((n for n in names if made.stack.redis.type(f"fills:{n}") == b"hash"), None)

    return str(eventually(find, 60, "a filled order"))


def _mangled(key: Callable[[Bench], str], kind: str) -> Calamity:
    """Put a value of another type into a key while trading; the operator deletes it and restarts the trader. What a log
    has lost, it has."""

    def happen(made: Bench, rng: random.Random) -> Course:
        name = key(made)
        with made.stack.redis.pipeline(transaction=True) as pipe:
            pipe.delete(name)
            pipe.set(name, "garbage") if kind == "string" else pipe.rpush(name, "garbage")
            pipe.execute()
        time.sleep(rng.uniform(0.5, 2.0))

        def cure() -> None:
            if made.stack.redis.type(name) == kind.encode():
                made.stack.redis.delete(name)
            if name == "trades_log":
                made.rules = replace(made.rules, log_since=datetime.now(UTC))
            if name.startswith("order:"):
                made.rules = replace(made.rules, counted_at_least=True)
            made.stack.kill("trading")
            made.revive("trading")

        return Course([f"{name} became a {kind}"], cure=cure)

    return happen


def order_of_another_type(made: Bench, rng: random.Random) -> Course:
    """An order is overwritten while trading; the operator puts it back from a copy."""
    name = f"order:{_filled(made)}"
    with made.stack.redis.pipeline(transaction=True) as pipe:
        pipe.rename(name, f"copy:{name}")
        pipe.set(name, "garbage")
        pipe.execute()
    time.sleep(rng.uniform(0.5, 2.0))
    return Course([f"{name} became a string"], cure=lambda: made.stack.redis.rename(f"copy:{name}", name))


def _day(_made: Bench) -> str:
    return f"risk_counters:{datetime.now(UTC):%Y-%m-%d}"


CALAMITIES: dict[str, Calamity] = {
    "frozen_trader": frozen_trader,
    "frozen_past_lease": frozen_past_lease,
    "frozen_at_stop": frozen_at_stop,
    "frozen_emergency": frozen_emergency,
    "second_same_folder": second_same_folder,
    "second_when_first_dies": second_when_first_dies,
    "second_when_first_sleeps": second_when_first_sleeps,
    "redis_restarted": redis_restarted,
    "redis_lost": redis_lost,
    "redis_hangs": redis_hangs,
    "redis_restored": redis_restored,
    "redis_restored_from_before_a_stop": redis_restored_from_before_a_stop,
    "redis_truncated": redis_truncated,
    "redis_flushed": redis_flushed,
    "redis_replica": redis_replica,
    "redis_without_replicas": redis_without_replicas,
    "redis_full": redis_full,
    "order_of_another_type": order_of_another_type,
    "order_lost": _mangled(lambda made: f"order:{_filled(made)}", "string"),
    "type_of_fills": _mangled(lambda made: f"fills:{_filled(made)}", "string"),
    "type_of_orders_open": _mangled(lambda _: "orders:open", "string"),
    "type_of_orders_history": _mangled(lambda _: "orders:history", "string"),
    "type_of_positions_open": _mangled(lambda _: "positions:open", "string"),
    "type_of_risk_counters": _mangled(_day, "list"),
    "type_of_risk_last_trade": _mangled(lambda _: "risk_last_trade", "list"),
    "type_of_trades_log": _mangled(lambda _: "trades_log", "list"),
    "type_of_stats": _mangled(lambda _: "stats", "list"),
}
