"""Enqueueing jobs by name: what a frontend may do with RQ.

RQ hard-codes its keys' prefix, so that one database holds one installation's jobs: ``queue_connection`` marks it as
ours and refuses another's. The client repeats nothing by itself; a job enqueued twice under one id is there once.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast

import redis

from shared.config import Config
from shared.errors import ConfigError
from shared.keys import JOBS, RQ_OWNER
from shared.store import Store, connect, translated_errors

QUEUE = "sixbot"
WAITING_KEY, SCHEDULED_KEY, RUNNING_KEY = f"rq:queue:{QUEUE}", f"rq:scheduled:{QUEUE}", f"rq:wip:{QUEUE}"
"""RQ's own names: a list of what waits, and sorted sets of what is scheduled (by its Unix time) and what runs."""
JOB_SECONDS = {"report": 60, "grok": 300, "validate_model": 60, "train_model": 6 * 3600}
"""How long a job may run."""
RETRIES = {"validate_model": 2}
"""How often a job begins anew whose worker died: what may be repeated, and what else would be left half done."""
KEPT_SECONDS = 7 * 86_400


def installation_id(store: Store) -> str:
    """A random id, made once, that lives in this installation's own keys. Raises StoreError."""
    with translated_errors():
        store.client.set(store.keys.installation, secrets.token_hex(16), nx=True)
        return cast("bytes", store.client.get(store.keys.installation) or b"").decode(errors="replace")


def queue_connection(config: Config, store: Store) -> redis.Redis:
    """A client of the database that holds the jobs, which is ours from now on.

    Raises ConfigError where it is another installation's, StoreError where either Redis does not do its part.
    """
    mine, client = installation_id(store), connect(config.queue_address())
    with translated_errors():
        client.set(RQ_OWNER, mine, nx=True)
        owner = cast("bytes", client.get(RQ_OWNER) or b"").decode(errors="replace")
    if owner == mine:
        return client
    client.close()
    raise ConfigError(
        "RQ_REDIS_URL: this database holds the jobs of another installation, and RQ cannot keep two apart: give each a "
        f"database number of its own (redis://…/1). If that installation is gone for good: DEL {RQ_OWNER}"
    )


@dataclass(frozen=True, slots=True)
class Backlog:
    """Jobs that wait or are due, and jobs that somebody has begun."""

    waiting: int = 0
    running: int = 0


def backlog(client: redis.Redis, store: Store, now: datetime) -> Backlog:
    """What there is to do for a jobs worker of this installation; nothing where the database is another's.

    Reads only. Raises StoreError.
    """
    with translated_errors(), client.pipeline(transaction=False) as pipe:
        pipe.get(RQ_OWNER)
        pipe.llen(WAITING_KEY)
        pipe.zcount(SCHEDULED_KEY, "-inf", now.timestamp())
        pipe.zcard(RUNNING_KEY)
        owner, waiting, due, running = cast("tuple[bytes | None, int, int, int]", tuple(pipe.execute()))
        if owner is not None and owner != store.client.get(store.keys.installation):
            return Backlog()
    return Backlog(waiting + due, running)


Attendance = Literal["running", "on_demand", "none"]


def attendance(store: Store) -> Attendance:
    """Who does the jobs: a worker that runs, one that `sixbot up` starts when a job waits, or nobody.

    Raises StoreError.
    """
    with translated_errors():
        found = list(store.client.scan_iter(match=store.keys.heartbeat("jobs", "*"), count=1000))
    beats = [store.get_json(key.decode()) for key in found]
    if any(isinstance(beat, dict) and not beat.get("stopping") for beat in beats):
        return "running"
    return "none" if store.get_json(store.keys.jobs_standby) is None else "on_demand"


def nobody_judges(model_id: int) -> str:
    """What to tell somebody whose model waits for a jobs worker where there is none."""
    return (
        "no jobs worker runs that would judge it: start `sixbot up` or `sixbot worker jobs`, or run "
        f"`sixbot model validate {model_id}`"
    )


def enqueue(connection: redis.Redis, name: str, *, job_id: str | None = None, **arguments: Any) -> str:
    """Enqueue the job ``name`` of ``JOBS`` with JSON arguments; returns its id. Raises StoreError.

    With a ``job_id`` that RQ still knows, nothing happens. Raises KeyError for a name that is no job's.
    """
    from rq import Queue, Retry
    from rq.exceptions import DuplicateJobError
    from rq.serializers import JSONSerializer

    queue = Queue(QUEUE, connection=connection, serializer=JSONSerializer)
    with translated_errors():
        try:
            job = queue.enqueue_call(
                JOBS[name],
                kwargs=arguments,
                timeout=JOB_SECONDS[name],
                result_ttl=KEPT_SECONDS,
                failure_ttl=KEPT_SECONDS,
                retry=Retry(max=RETRIES[name]) if name in RETRIES else None,
                description=name,
                job_id=job_id or f"{name}-{secrets.token_hex(8)}",
                unique=True,
            )
        except DuplicateJobError:
            return str(job_id)
    return str(job.id)
