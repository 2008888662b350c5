"""The jobs worker on demand, by a clock of the test's, over a real Redis and with a process that only waits."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rq import Queue
from rq.job import Job, JobStatus
from rq.registry import ScheduledJobRegistry, StartedJobRegistry
from rq.serializers import JSONSerializer

from shared.clock import ManualClock
from shared.jobs import QUEUE, RUNNING_KEY, SCHEDULED_KEY, WAITING_KEY, Backlog, attendance, backlog, enqueue
from shared.keys import RQ_OWNER, Keys
from shared.store import Store
from tests.support import eventually
from worker.cli.jobs import jobs_line
from worker.supervisor.demand import JobsOnDemand
from worker.supervisor.process import Child, Spec

NOW = datetime(2026, 10, 5, 12, 0, tzinfo=UTC)
WAITS = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\nprint('ready', flush=True)\n"
IDLE = 60.0


class Office:
    """A store that holds the queue too, and what was started and told."""

    def __init__(self, store: Store, directory: Path) -> None:
        self.store, self.directory, self.clock = store, directory, ManualClock(NOW)
        self.started: list[Child] = []
        self.told: list[str] = []
        self.demand = JobsOnDemand(store, store.client, self.clock, self._start, self.told.append, IDLE)

    def _start(self) -> Child:
        spec = Spec("jobs", (sys.executable, "-c", f"{WAITS}while True: time.sleep(0.05)"))
        child = Child(spec, os.environ, self.directory, self.clock)
        child.start()
        self.started.append(child)
        eventually(lambda: child.last_words() == "ready", what="the child to listen")
        return child

    def after(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.demand.tick()

    def enqueue(self) -> str:
        return enqueue(self.store.client, "validate_model", model_id=1)

    def close(self) -> None:
        for child in self.started:
            child.terminate()
            child.finish()


@pytest.fixture
def office(store: Store, tmp_path: Path) -> Iterator[Office]:
    found = Office(store, tmp_path)
    yield found
    found.close()


def test_names_of_rq_when_compared_with_rq_are_its_own(store: Store) -> None:
    queue = Queue(QUEUE, connection=store.client, serializer=JSONSerializer)
    names = (queue.key, ScheduledJobRegistry(queue=queue).key, StartedJobRegistry(queue=queue).key)
    assert names == (WAITING_KEY, SCHEDULED_KEY, RUNNING_KEY)


def test_backlog_when_jobs_wait_or_are_due_counts_them_and_no_later_ones(store: Store) -> None:
    assert backlog(store.client, store, NOW) == Backlog()
    enqueue(store.client, "validate_model", model_id=1)
    store.client.zadd(SCHEDULED_KEY, {"due": NOW.timestamp(), "later": NOW.timestamp() + 60})
    store.client.zadd(RUNNING_KEY, {"begun": 1.0})
    assert backlog(store.client, store, NOW) == Backlog(2, 1)
    store.client.set(RQ_OWNER, "another installation")
    assert backlog(store.client, store, NOW) == Backlog()


def test_worker_when_a_job_waits_is_started_once_and_ended_when_idle(office: Office) -> None:
    office.after(1)
    assert (office.started, office.demand.state) == ([], "jobs on demand")
    assert attendance(office.store) == "on_demand"
    office.enqueue()
    office.after(1)
    office.after(1)
    assert len(office.started) == 1
    assert office.demand.state == "jobs ready, 1 waiting"
    office.after(10 * IDLE)
    assert office.started[0].pid is not None, "it waits as long as the job does"
    office.store.client.delete(WAITING_KEY)
    office.store.client.zadd(RUNNING_KEY, {"begun": 1.0})
    office.after(IDLE + 1)
    assert (office.started[0].pid is not None, office.demand.state) == (True, "jobs working")
    office.store.client.delete(RUNNING_KEY)
    office.after(IDLE - 1)
    assert office.started[0].pid is not None
    office.after(2)
    eventually(lambda: office.started[0].pid is None, what="the end")
    assert office.started[0].process is not None
    assert office.started[0].process.returncode == 0
    assert office.started[0].tend() == "", "an end that was asked for is no crash"
    office.after(1)
    assert office.demand.state == "jobs on demand"
    office.enqueue()
    office.after(1)
    assert len(office.started) == 2


def test_worker_when_another_one_lives_is_not_started_but_for_one_that_has_said_farewell(office: Office) -> None:
    key = Keys().heartbeat("jobs", "elsewhere")
    office.store.put_json(key, {"worker": "jobs", "stopping": False})
    office.enqueue()
    office.after(1)
    assert (office.started, attendance(office.store)) == ([], "running")
    office.store.put_json(key, {"worker": "jobs", "stopping": True})
    office.after(1)
    assert len(office.started) == 1


def test_look_when_redis_is_away_is_repeated(office: Office) -> None:
    client = office.store.client
    client.set(WAITING_KEY, "no list")
    office.after(1)
    client.delete(WAITING_KEY)
    office.enqueue()
    office.after(1)
    assert len(office.started) == 1


def test_validation_when_its_worker_was_killed_begins_anew(store: Store) -> None:
    """Else the model would be ``validating`` for ever."""
    job_id = enqueue(store.client, "validate_model", model_id=1)
    queue = Queue(QUEUE, connection=store.client, serializer=JSONSerializer)
    Job.fetch(job_id, connection=store.client, serializer=JSONSerializer).set_status(JobStatus.STARTED)
    store.client.delete(WAITING_KEY)
    store.client.zadd(RUNNING_KEY, {f"{job_id}:1": 1.0})
    StartedJobRegistry(queue=queue).cleanup()
    assert store.client.lrange(WAITING_KEY, 0, -1) == [job_id.encode()]


@pytest.mark.parametrize(
    ("jobs", "told"),
    [
        ({"worker": "on_demand", "waiting": 0, "running": 0}, "worker starts when a job waits; 0 waiting, 0 running"),
        ({"worker": "running", "waiting": 2, "running": 1}, "worker runs; 2 waiting, 1 running"),
        ({"worker": "none", "waiting": 1, "running": 0}, "no worker; 1 waiting, 0 running: start `sixbot worker jobs`"),
        (
            {"worker": "none", "waiting": None, "running": None},
            "no worker; their database (RQ_REDIS_URL) does not answer",
        ),
    ],
)
def test_status_when_asked_tells_who_does_the_jobs(jobs: dict[str, object], told: str) -> None:
    assert jobs_line(jobs) == told


def test_attendance_when_nobody_is_there_says_so(store: Store) -> None:
    assert attendance(store) == "none"
