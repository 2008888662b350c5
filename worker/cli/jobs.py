"""What ``sixbot status`` says about the jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.clock import SystemClock
from shared.config import Config
from shared.errors import StoreError
from shared.jobs import attendance, backlog
from shared.store import Store, connect


def jobs_state(config: Config, store: Store) -> dict[str, Any]:
    """Who does the jobs, and how many wait; null where their database does not answer."""
    try:
        client = connect(config.queue_address())
        try:
            found = backlog(client, store, SystemClock().now())
        finally:
            client.close()
    except StoreError:
        return {"worker": attendance(store), "waiting": None, "running": None}
    return {"worker": attendance(store), "waiting": found.waiting, "running": found.running}


def jobs_line(jobs: Mapping[str, Any]) -> str:
    """One line of it."""
    said = {"running": "worker runs", "on_demand": "worker starts when a job waits", "none": "no worker"}
    if jobs["waiting"] is None:
        return f"{said[jobs['worker']]}; their database (RQ_REDIS_URL) does not answer"
    line = f"{said[jobs['worker']]}; {jobs['waiting']} waiting, {jobs['running']} running"
    starve = jobs["worker"] == "none" and jobs["waiting"]
    return line + (": start `sixbot worker jobs`" if starve else "")
