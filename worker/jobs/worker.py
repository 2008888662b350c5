"""The jobs worker: RQ jobs, one at a time in a forked child each, and between them what must happen every second.

The loop is ours and not ``rq.Worker.work``, which sleeps through a lost Redis for up to a minute, listens for commands
in a thread, and runs its scheduler as one more process; jobs, their records, retries and registries are RQ's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import redis
import structlog
from rq import Queue, Worker
from rq.exceptions import DequeueTimeout
from rq.executions import Execution
from rq.job import Job
from rq.scheduler import RQScheduler
from rq.serializers import JSONSerializer
from rq.suspension import is_suspended

from shared.errors import SixbotError, StoreError
from shared.jobs import QUEUE
from worker.jobs.allowed import AllowedJob
from worker.runtime import Heartbeat, StopSignals, end_with_parent

TURN_SECONDS = 1
RETRY_SECONDS = 1.0
MONITOR_SECONDS = 2
MAINTENANCE_SECONDS = 3
LOST_SECONDS = 7
"""A job whose worker gave no sign of life for so long counts as abandoned; RQ's own figure is a minute more."""

Chore = Callable[[], None]
"""Something to do every turn. It may raise SixbotError, which costs this turn only."""


class Horses(Worker):
    """RQ's forking worker with short waits, our list of functions, and a sign of life while a job runs."""

    def __init__(self, connection: redis.Redis, leads: Callable[[], bool], alive: Callable[[], None]) -> None:
        self._leads, self._alive = leads, alive
        queue = Queue(QUEUE, connection=connection, job_class=AllowedJob, serializer=JSONSerializer)
        super().__init__(
            [queue],
            connection=connection,
            job_class=AllowedJob,
            serializer="json",
            job_monitoring_interval=MONITOR_SECONDS,
            maintenance_interval=MAINTENANCE_SECONDS,
            worker_ttl=60,
            log_job_description=False,
        )
        self.log_result_lifespan = False
        # Not ``self.scheduler``, which RQ starts as a process. One name for all: of several workers only the leader
        # schedules, and it waits for no lock of a dead one.
        self._due = RQScheduler([queue], connection=connection, serializer=JSONSerializer, name=QUEUE)

    @property
    def dequeue_timeout(self) -> int:
        return TURN_SECONDS

    @property
    def connection_timeout(self) -> int:
        return TURN_SECONDS + 2

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:
        return LOST_SECONDS

    def maintain_heartbeats(self, job: Job, execution: Execution) -> None:
        self._alive()
        try:
            super().maintain_heartbeats(job, execution)
        except redis.RedisError as error:  # the job is not to blame: it goes on, and so do we
            self.log.warning("heartbeat of job %s not written: %s", job.id, error)

    def setup_work_horse_signals(self) -> None:
        super().setup_work_horse_signals()  # type: ignore[no-untyped-call]
        end_with_parent()

    def turn(self) -> str | None:
        """Move what is due to the queue, tidy up, run one job or wait a second for one; the id of what ran.

        Raises redis' errors.
        """
        self._tidy()
        if is_suspended(self.connection, self):
            time.sleep(TURN_SECONDS)
            return None
        self.heartbeat()
        try:
            found = self.queue_class.dequeue_any(
                self._ordered_queues,
                TURN_SECONDS,
                connection=self.connection,
                job_class=self.job_class,
                serializer=self.serializer,
                death_penalty_class=self.death_penalty_class,
            )
        except DequeueTimeout:
            return None
        if found is None:
            return None
        job, queue = found
        job.redis_server_version = self.get_redis_server_version()  # type: ignore[no-untyped-call]
        self.execute_job(job, queue)
        return str(job.id)

    def _tidy(self) -> None:
        scheduler: Any = self._due
        if self._leads() and scheduler.acquire_locks():
            scheduler.enqueue_scheduled_jobs()
        if self.should_run_maintenance_tasks:
            self.run_maintenance_tasks()  # type: ignore[no-untyped-call]


class JobsWorker:
    """Runs until the signals say stop; a job that runs then is waited for.

    ``keep`` is the one chore (the lease) that is done while a job runs, too.
    """

    def __init__(
        self,
        connect_horses: Callable[[Callable[[], None]], Horses],
        keep: Chore,
        chores: Sequence[Chore],
        heartbeat: Heartbeat,
        signals: StopSignals,
        logger: structlog.stdlib.BoundLogger,
    ) -> None:
        self._connect, self._keep, self._chores = connect_horses, keep, tuple(chores)
        self._heartbeat, self._signals, self._logger = heartbeat, signals, logger
        self._horses: Horses | None = None
        self._problems: dict[Any, str] = {}

    def run(self) -> None:
        while not self._signals.stopping.is_set():
            self._alive()
            for chore in self._chores:
                self._heartbeat.beat()  # each may wait for a Redis that hangs
                self._guarded(chore, chore)
            if not self._guarded(self, self._turn):
                self._signals.stopping.wait(RETRY_SECONDS)
        if self._horses is not None:
            self._guarded(self, self._horses.register_death)
        self._heartbeat.farewell()

    def _alive(self) -> None:
        self._heartbeat.beat()
        self._guarded(self._keep, self._keep)

    def _turn(self) -> None:
        if self._horses is None:
            horses = self._connect(self._alive)
            horses.register_birth()  # type: ignore[no-untyped-call]
            self._horses = horses
        ran = self._horses.turn()
        if ran is not None:
            self._logger.info("job_ran", job=ran)
            self._heartbeat.active()

    def _guarded(self, name: object, step: Callable[[], None]) -> bool:
        """Whether it went well. A problem is told once, until it is over or another one."""
        try:
            step()
        except (SixbotError, redis.RedisError, OSError) as error:
            problem = type(error).__name__ if isinstance(error, StoreError) else f"{type(error).__name__}: {error}"
            if self._problems.get(name) != problem:
                self._logger.warning("paused", step=getattr(step, "__qualname__", str(step)), why=problem)
            self._problems[name] = problem
            return False
        except Exception:  # the last net: one turn is lost, the worker goes on
            self._logger.exception("turn_failed", step=getattr(step, "__qualname__", str(step)))
            return False
        self._problems.pop(name, None)
        return True
