"""The jobs worker as it runs: what it delivers, what it refuses to run, and what it survives."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import redis
from rq import Callback, Queue
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.serializers import DefaultSerializer, JSONSerializer

from shared.config import Config
from shared.errors import ConfigError
from shared.jobs import QUEUE, enqueue, queue_connection
from shared.keys import RQ_OWNER, Keys
from shared.store import Store
from tests.integration.jobs.conftest import Office
from tests.servers import telegram, webhook
from tests.support import eventually


def test_report_when_an_order_fills_reaches_every_reporter(running: Office) -> None:
    running.fill("<b>HOSTILE&")
    running.await_told("FILLED BUY 1 <b>HOSTILE&")

    def printed() -> list[str]:
        lines = running.stack.output("jobs").splitlines()
        return [json.loads(line)["ticker"] for line in lines if line.startswith('{"event": "o')]

    eventually(lambda: printed() == ["<b>HOSTILE&"], what="its line on standard output")
    assert running.webhook.refused == []
    assert running.stack.json(f"heartbeat:jobs:{os.uname().nodename}")["worker"] == "jobs"


def test_report_when_telegram_asks_for_patience_is_not_sent_before(running: Office) -> None:
    """Sending on while limited is how a bot gets banned."""
    before = running.telegram.requests["sendMessage"]
    running.telegram.lie("sendMessage", telegram.too_many(2))
    running.fill("PATIENT")
    eventually(lambda: running.told("telegram:5")["problem"], what="the wait to be known")
    running.await_told("PATIENT")
    assert running.telegram.requests["sendMessage"] == before + 2
    assert running.telegram.arrivals[-1] - running.telegram.arrivals[-2] >= 2


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


def test_database_when_it_is_another_installations_is_refused(redis_url: str, store: Store) -> None:
    """RQ cannot keep two apart: a live installation would run a paper one's jobs."""
    paper, live = Store(store.client, Keys("paper:")), Store(store.client, Keys("live:"))
    config = Config(_env_file=None, redis_url=redis_url)
    queue_connection(config, live).close()
    queue_connection(config, live).close()
    with pytest.raises(ConfigError, match=f"RQ_REDIS_URL.*{RQ_OWNER}"):
        queue_connection(config, paper)
    elsewhere = Config(_env_file=None, redis_url=redis_url, rq_redis_url=redis_url.removesuffix("/0") + "/1")
    queue_connection(elsewhere, paper).close()


def test_worker_when_killed_while_delivering_loses_nothing(running: Office) -> None:
    """A job that dies with its worker is found abandoned and made again."""
    running.webhook.always = running.telegram.always = "slow"
    before = running.webhook.requests[webhook.PATH] + running.telegram.requests["sendMessage"]
    running.fill("KEPT-1")
    eventually(
        lambda: running.webhook.requests[webhook.PATH] + running.telegram.requests["sendMessage"] > before, what="a job"
    )
    running.stack.kill("jobs")
    running.fill("KEPT-2")
    running.webhook.always = running.telegram.always = None
    running.start()
    running.await_told("KEPT-1")
    running.await_told("KEPT-2")


def test_worker_when_redis_dies_and_comes_back_goes_on_and_when_told_to_stop_finishes_its_job(running: Office) -> None:
    targets = ("webhook", "telegram:5")
    eventually(lambda: all(running.told(t)["report"] is None for t in targets), what="nothing to be on its way")
    running.stack.server.stop()
    eventually(lambda: "paused" in running.stack.output("jobs"), what="the worker to notice")
    running.stack.server.start()
    running.webhook.pause_seconds = 1.5
    before = running.webhook.requests[webhook.PATH]
    running.fill("BACK")
    eventually(lambda: running.webhook.requests[webhook.PATH] > before, what="the job to run")
    assert running.stack.alive() == ["jobs"]
    running.stack.signal("jobs", signal.SIGTERM)
    assert running.stack.processes["jobs"].wait(30) == 0
    assert "BACK" in running.hook()
    assert not running.stack.redis.exists("jobs:leader")
