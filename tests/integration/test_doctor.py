"""``sixbot doctor`` on the jobs: their database, whose it is, and whether anybody does them."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from shared.config import Config
from shared.jobs import enqueue, installation_id
from shared.keys import RQ_OWNER
from shared.store import Store
from tests.support import free_port
from worker.doctor import Finding, examine


def jobs(home: Path, redis_url: str, **settings: object) -> Finding:
    config = Config(_env_file=None, sixbot_home=home, redis_url=SecretStr(redis_url), **settings)
    return next(f for f in examine(config) if f.name == "jobs")


def test_doctor_when_jobs_wait_and_nobody_does_them_warns(store: Store, redis_url: str, tmp_path: Path) -> None:
    assert jobs(tmp_path, redis_url).state == "ok"
    enqueue(store.client, "validate_model", model_id=1)
    found = jobs(tmp_path, redis_url)
    assert (found.state, found.detail) == ("warning", "1 waiting, 0 running, worker: none")
    assert "sixbot worker jobs" in found.remedy
    store.put_json(store.keys.jobs_standby, {"waiting": 1}, ttl_seconds=10)
    assert jobs(tmp_path, redis_url).state == "ok"


def test_doctor_when_the_jobs_are_anothers_or_away_fails(store: Store, redis_url: str, tmp_path: Path) -> None:
    store.client.set(RQ_OWNER, installation_id(store))
    assert jobs(tmp_path, redis_url).state == "ok"
    store.client.set(RQ_OWNER, "another")
    found = jobs(tmp_path, redis_url)
    assert (found.state, "another installation" in found.detail) == ("failed", True)
    away = SecretStr(f"redis://127.0.0.1:{free_port()}/1")
    found = jobs(tmp_path, redis_url, rq_redis_url=away)
    assert (found.state, "does not answer" in found.detail) == ("failed", True)
