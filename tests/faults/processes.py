"""Frozen processes, and a second trader of one account."""

from __future__ import annotations

import random
import signal
import time
from datetime import UTC, datetime

from shared.clock import parse_rfc3339, rfc3339
from tests.faults.bench import Bench
from tests.faults.course import Course
from tests.support import eventually

LEASE_SECONDS = 10.0


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
