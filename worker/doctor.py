"""``sixbot doctor``: each thing that safety rests on, looked at, with how to mend it."""

from __future__ import annotations

import ctypes.util
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import redis

from shared.bots import read_strays
from shared.clock import SystemClock
from shared.config import Config
from shared.errors import ConfigError, StoreError
from shared.jobs import attendance, backlog
from shared.keys import RQ_OWNER, Keys
from shared.store import Store, connect
from worker.embedded import KEYSPACE_EVENTS
from worker.emergency.memory import read_memories
from worker.redis_safety import is_open_to_all, refuse_unsafe_server

LEAST_FREE_MB = 500
MOST_SKEW_SECONDS = 1.0
MEMORY_SHARE = 0.7


@dataclass(frozen=True, slots=True)
class Finding:
    """``ok``, ``warning`` or ``failed``."""

    name: str
    state: str
    detail: str
    remedy: str = ""


def examine(config: Config) -> list[Finding]:
    """All checks; one that cannot be made is a finding too."""
    findings = [_libgomp(), _disk(config), _stop_file(config), *_accounts(config)]
    try:
        client = connect(config.redis_address())
        client.ping()
    except (ConfigError, redis.RedisError, OSError) as error:
        return [*findings, Finding("redis", "failed", str(error), "start it with `sixbot up`, or set REDIS_URL")]
    return [
        *findings,
        Finding("redis", "ok", "answers"),
        *_redis(client),
        _jobs(config, client),
        _bots(Store(client, Keys(config.sixbot_key_prefix))),
    ]


def _bots(store: Store) -> Finding:
    """Nothing was written for a bot that then does not run."""
    try:
        strays = read_strays(store)
    except StoreError as error:
        return Finding("bots", "failed", str(error))
    if strays:
        return Finding("bots", "warning", "; ".join(strays), "as it says, or DEL what is not meant")
    return Finding("bots", "ok", "every document is in the set, and every name in it is a number")


def _libgomp() -> Finding:
    if ctypes.util.find_library("gomp"):
        return Finding("libgomp", "ok", "found")
    return Finding("libgomp", "failed", "LightGBM cannot be loaded", "apt-get install libgomp1")


def _disk(config: Config) -> Finding:
    config.sixbot_home.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(config.sixbot_home).free // 1_048_576
    if free < LEAST_FREE_MB:
        return Finding("disk", "failed", f"{free} MB free under {config.sixbot_home}", "free some space")
    return Finding("disk", "ok", f"{free} MB free")


def _accounts(config: Config) -> Iterator[Finding]:
    """Each account can be opened, and none that was left out still has something to be stopped."""
    for account in config.accounts:
        name, missing = f"account {account.name}", account.missing()
        if missing:
            yield Finding(
                name, "failed", f"{account.venue}, {account.mode}: {' and '.join(missing)} missing", "set them"
            )
        else:
            yield Finding(name, "ok", f"{account.venue}, {account.mode}")
    known = {account.name for account in config.accounts}
    for gone, memory in read_memories(config.run_dir).items():
        if gone not in known and (memory.latch is not None or not memory.proven):
            detail = "no longer in the settings, and its last stop is latched or was not proven"
            remedy = "name it again until it is stopped, or look at its venue yourself and remove its file in run/"
            yield Finding(f"account {gone}", "warning", detail, remedy)


def _stop_file(config: Config) -> Finding:
    if config.stop_path.exists():
        return Finding(
            "stop file", "warning", f"{config.stop_path} exists: trading is stopped", "`sixbot start` removes it"
        )
    return Finding("stop file", "ok", "absent")


def _jobs(config: Config, client: redis.Redis) -> Finding:
    """The database of RQ's jobs answers, is this installation's, and its jobs are done by somebody."""
    store = Store(client, Keys(config.sixbot_key_prefix))
    try:
        queue = connect(config.queue_address())
        try:
            owner = cast("bytes | None", queue.get(RQ_OWNER))
            if owner is not None and owner != client.get(store.keys.installation):
                remedy = f"give RQ_REDIS_URL a database number of its own; if that one is gone for good: DEL {RQ_OWNER}"
                return Finding("jobs", "failed", "their database belongs to another installation", remedy)
            found, who = backlog(queue, store, SystemClock().now()), attendance(store)
        finally:
            queue.close()
    except (ConfigError, StoreError, redis.RedisError, OSError) as error:
        return Finding("jobs", "failed", f"their database does not answer: {error}", "see RQ_REDIS_URL")
    detail = f"{found.waiting} waiting, {found.running} running, worker: {who.replace('_', ' ')}"
    if who == "none" and (found.waiting or config.needs_jobs):
        return Finding("jobs", "warning", detail, "start `sixbot up` or `sixbot worker jobs`")
    return Finding("jobs", "ok", detail)


def _redis(client: redis.Redis) -> Iterator[Finding]:
    try:
        if refuse_unsafe_server(client):
            yield Finding("redis safety", "ok", "does not evict and is not open to the network")
        else:
            yield Finding(
                "redis safety", "warning", "not looked at: the server refuses CONFIG GET", "run it as an admin"
            )
    except ConfigError as error:
        yield Finding("redis safety", "failed", str(error))
    if is_open_to_all(client):
        yield Finding("redis password", "warning", "none is asked for", "CONFIG SET requirepass A-LONG-RANDOM-PASSWORD")
    try:
        told: dict[Any, Any] = client.config_get(*(name for name, _, _ in _WANTED))
    except redis.ResponseError:
        yield Finding("redis configuration", "warning", "the server does not tell it")
        told = {}
    found = {_text(k): _text(v) for k, v in told.items()}
    for name, wanted, fits in _WANTED:
        if name in found:
            good = fits(found[name])
            remedy = "" if good else f"CONFIG SET {name} {wanted}, and the same in its configuration file"
            yield Finding(name, "ok" if good else "failed", found[name] or "empty", remedy)
    yield from _memory(client)
    seconds, micros = client.time()
    skew = abs(time.time() - (seconds + micros / 1e6))
    state = "ok" if skew <= MOST_SKEW_SECONDS else "failed"
    yield Finding("clock", state, f"{skew:.3f} s from Redis", "" if state == "ok" else "set both hosts' clocks by NTP")


_WANTED: tuple[tuple[str, str, Callable[[str], bool]], ...] = (
    ("appendonly", "yes", lambda v: v == "yes"),
    ("appendfsync", "always", lambda v: v == "always"),
    ("save", '""', lambda v: not v),
    ("notify-keyspace-events", KEYSPACE_EVENTS, lambda v: "K" in v and ("A" in v or {"$", "g"} <= set(v))),
)


def _memory(client: redis.Redis) -> Iterator[Finding]:
    info: Any = client.info("memory")
    used, limit = int(info["used_memory"]), int(info.get("maxmemory", 0))
    if not limit:
        yield Finding("redis memory", "warning", f"{used // 1024} kB, no maxmemory", "CONFIG SET maxmemory 256mb")
        return
    share = used / limit
    state = "ok" if share < MEMORY_SHARE else "warning"
    yield Finding(
        "redis memory", state, f"{share:.0%} of {limit // 1_048_576} MB", "" if state == "ok" else "raise maxmemory"
    )


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
