"""``sixbot doctor`` on the jobs and on the server, and what a trader refuses to start on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from shared.config import Config
from shared.jobs import enqueue, installation_id
from shared.keys import RQ_OWNER
from shared.store import Store, connect
from tests.support import RedisServer, free_port
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


def found(home: Path, redis_url: str) -> dict[str, Finding]:
    config = Config(_env_file=None, sixbot_home=home, redis_url=SecretStr(redis_url))
    return {finding.name: finding for finding in examine(config)}


def test_doctor_when_the_server_has_other_settings_names_each_with_its_remedy(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    """A Redis of one's own comes with none of what trading rests on."""
    wanted = {"appendonly": "yes", "appendfsync": "always", "save": '""', "notify-keyspace-events": "K$gxe"}
    good = found(tmp_path, own_redis.url)
    assert {good[name].state for name in (*wanted, "redis safety", "redis memory")} == {"ok"}
    assert "redis password" not in good
    client = connect(own_redis.url)
    for name, value in {
        **dict.fromkeys(wanted, ""),
        "appendonly": "no",
        "appendfsync": "everysec",
        "save": "60 1",
    }.items():
        client.config_set(name, value)
    client.config_set("maxmemory", 0)
    client.config_set("requirepass", "")
    bad = found(tmp_path, own_redis.url)
    for name, value in wanted.items():
        assert (bad[name].state, f"CONFIG SET {name} {value}" in bad[name].remedy) == ("failed", True)
    assert bad["redis memory"].remedy == "CONFIG SET maxmemory 256mb"
    assert (bad["redis password"].state, bad["redis safety"].state) == ("warning", "ok")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"maxmemory-policy": "allkeys-lru"}, "evicts keys"),
        ({"protected-mode": "no", "bind": "0.0.0.0", "requirepass": ""}, "without a password"),
    ],
)
def test_trader_when_the_server_is_unsafe_is_refused_at_start(
    own_redis: RedisServer, tmp_path: Path, settings: dict[str, str], why: str
) -> None:
    """Also where a service manager starts it, and not `sixbot up`."""
    client = connect(own_redis.url)
    for name, value in settings.items():
        client.config_set(name, value)
    environment = {**os.environ, "SIXBOT_HOME": str(tmp_path), "REDIS_URL": own_redis.url}
    command = [str(Path(sys.executable).parent / "sixbot"), "worker", "trading"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, why in done.stderr) == (2, True), done.stderr
    assert found(tmp_path, own_redis.url)["redis safety"].state == "failed"
