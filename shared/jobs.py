"""Enqueueing jobs by name: what a frontend may do with RQ.

RQ hard-codes its keys' prefix, so that one database holds one installation's jobs: ``queue_connection`` marks it as
ours and refuses another's. The client repeats nothing by itself; a job enqueued twice under one id is there once.
"""

from __future__ import annotations

import secrets
from typing import Any, cast

import redis

from shared.config import Config
from shared.errors import ConfigError
from shared.keys import JOBS, RQ_OWNER
from shared.store import Store, connect, translated_errors

QUEUE = "sixbot"
JOB_SECONDS = {"report": 60, "grok": 300, "validate_model": 60, "train_model": 6 * 3600}
"""How long a job may run."""
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


def enqueue(connection: redis.Redis, name: str, *, job_id: str | None = None, **arguments: Any) -> str:
    """Enqueue the job ``name`` of ``JOBS`` with JSON arguments; returns its id. Raises StoreError.

    With a ``job_id`` that RQ still knows, nothing happens. Raises KeyError for a name that is no job's.
    """
    from rq import Queue
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
                description=name,
                job_id=job_id or f"{name}-{secrets.token_hex(8)}",
                unique=True,
            )
        except DuplicateJobError:
            return str(job_id)
    return str(job.id)
