"""The jobs worker as it runs: what it delivers, what it refuses to run, and what it survives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
from rq import Callback, Queue
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.serializers import DefaultSerializer, JSONSerializer

from shared.jobs import QUEUE, enqueue
from shared.keys import RQ_OWNER
from tests.integration.jobs.conftest import Office
from tests.servers import telegram, webhook
from tests.support import eventually


def test_report_when_an_order_fills_reaches_every_reporter(running: Office) -> None:
    running.fill("<b>HOSTILE&")
    running.await_told("FILLED BUY 1 <b>HOSTILE&")
    rows = [json.loads(line) for line in running.stack.output("jobs").splitlines() if line.startswith('{"event": "o')]
    assert [row["ticker"] for row in rows] == ["<b>HOSTILE&"]
    assert running.webhook.refused == []
    assert running.stack.json(f"heartbeat:jobs:{os.uname().nodename}")["worker"] == "jobs"


def test_report_when_telegram_asks_for_patience_is_not_sent_before(running: Office) -> None:
    """Sending on while limited is how a bot gets banned."""
    before = running.telegram.requests["sendMessage"]
    running.telegram.lie("sendMessage", telegram.too_many(2))
    running.fill("PATIENT")
    eventually(lambda: running.told("telegram:5")["problem"], what="the wait to be known")
    first, waited = running.telegram.arrivals[-1], running.telegram.requests["sendMessage"]
    running.await_told("PATIENT")
    assert (waited, running.telegram.requests["sendMessage"]) == (before + 1, before + 2)
    assert running.telegram.arrivals[-1] - first >= 2


def test_report_when_receivers_fail_in_many_ways_arrives_and_leaves_no_secret_in_redis(running: Office) -> None:
    running.webhook.lie(webhook.PATH, 500)
    running.telegram.lie("sendMessage", "reset")
    running.fill("STUBBORN")
    eventually(lambda: running.told("webhook")["problem"], what="the webhook's problem to be known")
    eventually(lambda: running.telegram.lies_left("sendMessage") == 0, what="Telegram to have hung up")
    client = running.stack.redis
    kept = b"".join(client.dump(key) or b"" for key in client.scan_iter("*"))
    for secret in (telegram.TOKEN, webhook.SECRET):
        assert secret.encode() not in kept
        assert secret not in running.stack.output("jobs")
    running.await_told("STUBBORN")
    assert running.chat().count("STUBBORN") == 1


@pytest.mark.parametrize("serializer", [JSONSerializer, DefaultSerializer])
def test_job_when_forged_is_not_run(running: Office, tmp_path: Path, serializer: Any) -> None:
    """Who may write to Redis must not thereby run programs on the host that has the venue's keys."""
    harm = tmp_path / "harm"
    queue = Queue(QUEUE, connection=running.stack.redis, serializer=serializer)
    job = queue.enqueue("os.system", f"touch {harm}")
    job = queue.enqueue("os.mkdir", str(harm), job_id=f"{job.id}-2")
    with_callback = queue.enqueue(
        "worker.tasks.report",
        kwargs={"target": "x", "report": {}},
        on_success=Callback("os.mkdir"),
        on_failure=Callback("os.mkdir"),
    )
    for name in (job.id, with_callback.id):
        eventually(lambda name=name: _ended(running, name, serializer), what=f"{name} to end")
    assert not harm.exists()
    assert running.stack.alive() == ["jobs"]


def _ended(office: Office, name: str, serializer: Any) -> bool:
    try:
        return Job.fetch(name, connection=office.stack.redis, serializer=serializer).get_status() in {
            "failed",
            "finished",
        }
    except NoSuchJobError:
        return True


def test_job_when_enqueued_twice_under_one_id_is_there_once(redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)
    assert enqueue(client, "grok", job_id="once") == enqueue(client, "grok", job_id="once") == "once"
    assert client.llen(f"rq:queue:{QUEUE}") == 1
    with pytest.raises(KeyError):
        enqueue(client, "os.system")
    client.close()


def test_worker_when_the_database_is_another_installations_refuses_to_start(running: Office) -> None:
    env = {**running.stack.environment, "SIXBOT_KEY_PREFIX": "paper:"}
    command = [sys.executable, "-m", "worker", "worker", "jobs"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "RQ_REDIS_URL" in done.stderr
    assert RQ_OWNER in done.stderr


def test_worker_when_redis_dies_and_comes_back_goes_on_and_when_told_to_stop_finishes_its_job(office: Office) -> None:
    office.start(RQ_REDIS_URL=office.stack.server.url.removesuffix("/0") + "/1")
    office.stack.server.stop()
    eventually(lambda: "paused" in office.stack.output("jobs"), what="the worker to notice")
    office.stack.server.start()
    office.webhook.pause_seconds = 1.5
    office.fill("BACK")
    eventually(lambda: office.webhook.requests[webhook.PATH], what="the job to run")
    assert office.stack.alive() == ["jobs"]
    office.stack.signal("jobs", signal.SIGTERM)
    assert office.stack.processes["jobs"].wait(30) == 0
    assert "BACK" in office.hook()
    assert not office.stack.redis.exists("jobs:leader")
    assert not office.stack.redis.exists(RQ_OWNER)


def test_worker_when_killed_while_delivering_loses_nothing(office: Office) -> None:
    """A job that dies with its worker is found abandoned and made again."""
    office.start()
    office.webhook.always = office.telegram.always = "slow"
    office.fill("KEPT-1")
    eventually(lambda: office.webhook.requests[webhook.PATH] or office.telegram.requests["sendMessage"], what="a job")
    office.stack.kill("jobs")
    office.fill("KEPT-2")
    office.webhook.always = office.telegram.always = None
    office.start()
    office.await_told("KEPT-1")
    office.await_told("KEPT-2")
