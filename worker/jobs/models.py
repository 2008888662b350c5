"""The RQ jobs of the model registry. Each builds what it needs from the configuration of the worker that runs it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rq import get_current_job
from rq.job import JobStatus

from shared.bots import BotControl
from shared.clock import SystemClock
from shared.config import Config, load_config
from shared.control import Actor
from shared.errors import ConfigError, SixbotError, shorten
from shared.keys import Keys
from shared.store import Store, connect

TIMEOUT_SECONDS = 30.0
MOST_FILES = 100
PROGRESS_SECONDS = 0.5


def validate_model(model_id: int) -> dict[str, Any]:
    """Judge an uploaded text; returns the model's status and the reason. May run twice."""
    from worker.models.judge import validate
    from worker.models.registry import ModelRegistry

    try:
        document = validate(ModelRegistry(_store(load_config()), SystemClock()), model_id)
    except SixbotError as error:
        return {"status": "failed", "reason": str(error)}
    return {"status": document.get("status"), "reason": document.get("reason")}


def train_model(symbol: str, data: Sequence[str], title: str, who: str = "", **options: Any) -> dict[str, Any]:
    """Train a stream model on recordings under ``SIXBOT_HOME`` and register it; progress is in the job's ``meta``.

    ``title`` names the model, ``who`` asked; ``options`` are the other fields of ``stream_job.Order``. Returns the
    model's id and figures, or why there is none.
    """
    from worker.feeds.contracts import read_contracts
    from worker.models.registry import ModelRegistry
    from worker.models.stream_job import Order, run_stream_job

    config = load_config()
    store, clock = _store(config), SystemClock()
    try:
        order = Order(symbol, title, **options)
        document = run_stream_job(
            order,
            _inside(config, data),
            ModelRegistry(store, clock),
            BotControl(store, clock),
            config.model_dir,
            Actor(who or "jobs", "jobs"),
            _Progress(),
            read_contracts(config.contract_sizes),
        )
    except (SixbotError, TypeError) as error:
        return {"status": "failed", "reason": str(error)}
    found = {name: document.get(name) for name in ("id", "metrics", "report", "warnings")}
    return {"status": "valid", **found}


class JobCancelled(SixbotError):
    """Somebody cancelled the job while it ran."""


class _Progress:
    """Tells the job's record what is being done, at most twice a second, and looks whether it was cancelled.

    Raises JobCancelled.
    """

    def __init__(self) -> None:
        self._job, self._next = get_current_job(), 0.0

    def __call__(self, step: str, done: int, total: int) -> None:
        now = time.monotonic()
        if self._job is not None and (now >= self._next or done == total):
            self._next = now + PROGRESS_SECONDS
            self._job.meta["progress"] = {"step": step, "done": done, "total": total}
            self._job.save_meta()  # type: ignore[no-untyped-call]
            if self._job.get_status(refresh=True) == JobStatus.CANCELED:
                raise JobCancelled("the job was cancelled: nothing was kept")


def _inside(config: Config, names: Sequence[str]) -> list[Path]:
    """Files of this installation: a job is no way to read others. Raises ConfigError."""
    home = config.sixbot_home.resolve()
    if not 1 <= len(names) <= MOST_FILES:
        raise ConfigError(f"data: must name 1 to {MOST_FILES} files (got {len(names)})")
    paths = [(home / str(name)).resolve() for name in names]
    for name, path in zip(names, paths, strict=True):
        if not path.is_relative_to(home):
            raise ConfigError(f"data: must lie under SIXBOT_HOME (got {shorten(name)})")
    return paths


def _store(config: Config) -> Store:
    return Store(connect(config.redis_address(), timeout_seconds=TIMEOUT_SECONDS), Keys(config.sixbot_key_prefix))
