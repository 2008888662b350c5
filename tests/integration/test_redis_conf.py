"""``deploy/redis.conf`` on a real server: it starts, holds what the embedded server holds, and its users keep apart."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from shared.jobs import RUNNING_KEY, SCHEDULED_KEY, WAITING_KEY
from shared.keys import KEYS, RQ_OWNER, Key
from shared.store import connect
from tests.support import PASSWORD, eventually, free_port
from worker.embedded import find_server, server_arguments
from worker.redis_safety import refuse_unsafe_server

CONF = Path(__file__).parents[2] / "deploy/redis.conf"
OWN_TO_A_MACHINE = {"requirepass", "dir"}


def options() -> dict[str, str]:
    """Every option that the file sets, by name."""
    rows = (line.split(maxsplit=1) for line in CONF.read_text().splitlines() if line and not line.startswith("#"))
    return {name: "" if value == '""' else value for name, value in rows}


def users() -> list[str]:
    """The commented users, with the tests' password."""
    lines = [line.removeprefix("# ") for line in CONF.read_text().splitlines() if line.startswith("# user ")]
    return [line.replace(">PASSWORD", f">{PASSWORD}") for line in lines]


def example(key: Key) -> str:
    """A name that fits a declaration."""
    return key.name.replace("{", "").replace("}", "")


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server started from the file as it stands, but for its port and its two paths."""
    folder, port = tmp_path_factory.mktemp("redis-conf"), free_port()
    secrets = folder / "redis-secrets.conf"
    secrets.write_text("\n".join([f"requirepass {PASSWORD}", *users()]) + "\n")
    conf = folder / "redis.conf"
    text = CONF.read_text().replace("/etc/sixbot/redis-secrets.conf", str(secrets))
    conf.write_text(text.replace("/var/lib/redis", str(folder)).replace("port 6380", f"port {port}"))
    process = subprocess.Popen([str(find_server()), str(conf)], stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: _answers(port), what="the server with deploy/redis.conf answers")
        yield port
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    client = user("default", port)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def user(name: str, port: int) -> redis.Redis:
    return connect(f"redis://{name}:{PASSWORD}@127.0.0.1:{port}/0")


def test_redis_conf_when_compared_with_the_embedded_server_sets_the_same_options() -> None:
    arguments = server_arguments(6380, "", Path("/"))
    embedded = dict(zip((a.removeprefix("--") for a in arguments[::2]), arguments[1::2], strict=True))
    ours = options()
    assert "include" in ours, "the password stands in a file of its own"
    assert set(embedded) - {"requirepass"} == set(ours) - {"include"}
    for name in set(embedded) - OWN_TO_A_MACHINE:
        assert ours[name] == embedded[name], name


def test_redis_conf_when_nobody_wrote_the_secrets_does_not_start(tmp_path: Path) -> None:
    """No password must not mean an open server."""
    conf = tmp_path / "redis.conf"
    text = CONF.read_text().replace("/etc/sixbot/redis-secrets.conf", str(tmp_path / "absent.conf"))
    conf.write_text(text.replace("port 6380", f"port {free_port()}"))
    result = subprocess.run([str(find_server()), str(conf)], capture_output=True, check=False, timeout=30)
    assert result.returncode != 0


def test_worker_user_when_it_works_reaches_every_key_and_no_administration(port: int) -> None:
    client = user("worker", port)
    for name in map(example, KEYS):
        client.set(name, "1")
        client.delete(name)
    assert client.eval("return redis.call('TIME')[1]", 0)
    refuse_unsafe_server(client)
    with pytest.raises(redis.exceptions.NoPermissionError):
        client.flushall()
    with pytest.raises(redis.exceptions.NoPermissionError):
        client.config_get("requirepass")
    client.close()


def test_frontend_user_when_it_writes_reaches_what_frontends_write_and_nothing_else(port: int) -> None:
    """A web that is taken over can stop trading, and cannot forge an order, the fence or the arming."""
    client = user("frontend", port)
    for key in KEYS:
        name = example(key)
        client.get(name)
        if {"frontends", "web", "CLI", "anyone"} & set(key.writer.split(", ")):
            client.set(name, "1")
            client.delete(name)
        else:
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.set(name, "1")
    client.close()


def test_monitor_user_when_it_looks_sees_all_but_the_web_and_writes_nothing(port: int) -> None:
    client = user("monitor", port)
    for key in KEYS:
        name = example(key)
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.set(name, "1")
        if key.name.startswith("web:"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.get(name)
        else:
            client.get(name)
    for name in (WAITING_KEY, SCHEDULED_KEY, RUNNING_KEY, RQ_OWNER):  # `sixbot status` counts the jobs
        client.exists(name)
    with pytest.raises(redis.exceptions.NoPermissionError):
        client.get("rq:job:1")
    with pytest.raises(redis.exceptions.NoPermissionError):
        client.publish("anything", "at all")
    assert client.info("memory")
    client.close()
