"""The jobs of the registry in a real jobs worker: hostile files, training, and a job that is cancelled as it runs."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from rq.job import Job
from rq.serializers import JSONSerializer

from shared.clock import SystemClock
from shared.config import Config
from shared.control import Actor
from shared.jobs import JOB_SECONDS, enqueue
from shared.keys import JOBS, Keys
from shared.models import ModelRegistry
from shared.store import Store
from tests.market_files import write_trades
from tests.servers.stack import Stack
from tests.support import RedisServer, eventually
from worker.jobs import models as jobs

ACTOR = Actor("test", "web")
OPTIONS: dict[str, Any] = {
    "holding_time": 20,
    "profit_target_pct": 0.002,
    "stop_loss_pct": 0.002,
    "taker_fee": 0.0001,
    "folds": 2,
}


def test_jobs_when_declared_are_functions_with_a_time_limit_each() -> None:
    for name, path in JOBS.items():
        module, _, function = path.rpartition(".")
        assert callable(getattr(import_module(module), function)), name
    assert set(JOB_SECONDS) == set(JOBS)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A jobs worker over a Redis of its own, with a recording under its home."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    home = tmp_path_factory.mktemp("home")
    write_trades(home / "btcusdc.csv", 3000)
    found = Stack(home, server, {})
    found.start("jobs")
    yield found
    for process in found.processes.values():
        process.kill()
        process.wait()
    found.redis.close()
    server.stop()


def registry(stack: Stack) -> ModelRegistry:
    return ModelRegistry(Store(stack.redis, Keys()), SystemClock())


def job_of(stack: Stack, job_id: str) -> Job:
    return Job.fetch(job_id, connection=stack.redis, serializer=JSONSerializer)


def test_uploads_when_malformed_are_judged_by_a_worker_that_lives_on(stack: Stack, data: Path) -> None:
    models, ids = registry(stack), {}
    for file in sorted((data / "lightgbm" / "malformed").glob("*.txt")):
        number = models.upload(file.read_bytes(), file.name, "*", ACTOR)["id"]
        ids[number] = file.stem
        enqueue(stack.redis, "validate_model", model_id=number)
    wanted = {n: "valid" if stem == "valid_control" else "invalid" for n, stem in ids.items()}
    done = {"valid", "invalid"}
    eventually(lambda: all(models.get(n)["status"] in done for n in ids), 90, "every upload is judged")
    assert {n: models.get(n)["status"] for n in ids} == wanted
    assert all(models.get(n)["reason"] for n, status in wanted.items() if status == "invalid")
    assert stack.processes["jobs"].poll() is None


def test_training_when_enqueued_registers_a_model_and_tells_its_progress(stack: Stack) -> None:
    job_id = enqueue(
        stack.redis, "train_model", symbol="BTCUSDC", data=["btcusdc.csv"], title="trained", rounds=5, **OPTIONS
    )
    eventually(lambda: job_of(stack, job_id).is_finished, 60, "the job ends")
    job = job_of(stack, job_id)
    result = job.return_value()
    assert result["status"] == "valid", result
    assert job.meta["progress"] == {"step": "training", "done": 15, "total": 15}
    assert registry(stack).get(result["id"])["name"] == "trained"
    assert (stack.home / "models" / result["report"]).is_file()


def test_training_when_cancelled_as_it_runs_keeps_nothing(stack: Stack) -> None:
    before = {d["id"] for d in registry(stack).documents()}, sorted((stack.home / "models").glob("*"))
    job_id = enqueue(
        stack.redis, "train_model", symbol="BTCUSDC", data=["btcusdc.csv"], title="m", rounds=5000, **OPTIONS
    )
    eventually(lambda: job_of(stack, job_id).meta.get("progress", {}).get("step") == "training", 60, "it trains")
    job_of(stack, job_id).cancel()
    eventually(lambda: job_of(stack, job_id).return_value() is not None, 60, "the job ends")
    assert "cancelled" in job_of(stack, job_id).return_value()["reason"]
    assert before == ({d["id"] for d in registry(stack).documents()}, sorted((stack.home / "models").glob("*")))


@pytest.mark.parametrize("name", ["../secret.csv", "/etc/passwd", "link.csv"])
def test_training_when_told_to_read_elsewhere_is_refused(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A job can be enqueued by whoever may write to Redis; files are read with the worker's rights."""
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "secret.csv").write_text("secret")
    (home / "link.csv").symlink_to(tmp_path / "secret.csv")
    config = Config(_env_file=None, sixbot_home=home, redis_url=redis_url)
    monkeypatch.setattr(jobs, "load_config", lambda: config)
    found = jobs.train_model("BTCUSDC", [name], "m")
    assert found["status"] == "failed"
    assert "must lie under SIXBOT_HOME" in found["reason"]


def test_jobs_when_given_nonsense_answer_with_a_reason(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(_env_file=None, sixbot_home=tmp_path, redis_url=redis_url)
    monkeypatch.setattr(jobs, "load_config", lambda: config)
    assert jobs.validate_model(99) == {"status": "failed", "reason": "model 99 has no text"}
    assert "data: must name 1 to 100 files" in jobs.train_model("BTCUSDC", [], "m")["reason"]
    assert "unexpected keyword" in jobs.train_model("BTCUSDC", ["x"], "m", colour="red")["reason"]
    assert "there is no such file" in jobs.train_model("BTCUSDC", ["x"], "m")["reason"]
