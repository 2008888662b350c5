"""A Redis that dies, forgets, refuses or holds another type."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.bench import Bench
from tests.faults.course import Calamity, Course
from tests.support import eventually

LOST_SECONDS = 5.0


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


def filled_order(made: Bench) -> str:
    """Some order of ours that has filled."""

    def find() -> str | None:
        names = [o.client_order_id for o in reversed(made.truth().orders) if o.filled.qty]
        return next((n for n in names if made.stack.redis.type(f"fills:{n}") == b"hash"), None)

    return str(eventually(find, 60, "a filled order"))


def mangled(key: Callable[[Bench], str], kind: str) -> Calamity:
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
    name = f"order:{filled_order(made)}"
    with made.stack.redis.pipeline(transaction=True) as pipe:
        pipe.rename(name, f"copy:{name}")
        pipe.set(name, "garbage")
        pipe.execute()
    time.sleep(rng.uniform(0.5, 2.0))
    return Course([f"{name} became a string"], cure=lambda: made.stack.redis.rename(f"copy:{name}", name))


def todays_counters(_made: Bench) -> str:
    return f"risk_counters:{datetime.now(UTC):%Y-%m-%d}"
