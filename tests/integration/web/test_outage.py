"""Redis goes away and comes back: the web says so at once, and needs nobody to mend it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from pydantic import SecretStr

from shared.access import Access
from shared.clock import SystemClock
from shared.config import Config
from shared.keys import Keys
from shared.store import Store, connect
from tests.integration.web.conftest import HTML, Browser
from tests.integration.web.test_api import assert_error
from tests.support import RedisServer, eventually
from web.app import create_app

PATIENCE_SECONDS = 40  # far more than the ten seconds that it takes, less than a client that retries would
Parts = tuple[Flask, Access, RedisServer]


@pytest.fixture
def parts(own_redis: RedisServer, tmp_path: Path) -> Iterator[Parts]:
    client = connect(own_redis.url)
    store = Store(client, Keys())
    config = Config(_env_file=None, sixbot_home=tmp_path / "home", redis_url=SecretStr(own_redis.url))
    yield create_app(config, store), Access(store, SystemClock()), own_redis
    client.close()


def frozen(server: RedisServer) -> None:
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGSTOP)


@pytest.mark.parametrize("loss", [RedisServer.stop, frozen], ids=["gone", "frozen"])
def test_web_when_redis_is_away_is_503_everywhere_and_back_by_itself(parts: Parts, loss: object) -> None:
    app, access, server = parts
    browser, client = Browser(app), app.test_client()
    browser.resume(access, "ada", "operator")
    token = {"Authorization": f"Bearer {access.create_token('x', ['read', 'stop'])}"}
    form = {"csrf_token": browser.token("/"), "name": "ada", "password": "wrong"}
    loss(server)  # type: ignore[operator]
    began = time.monotonic()
    assert_error(client.get("/api/status", headers=token), 503, "redis_unreachable")
    assert_error(client.post("/api/stop", headers=token), 503, "redis_unreachable")
    assert_error(client.get("/readyz"), 503, "redis_unreachable")
    page = browser.get("/")
    assert page.status_code == 503
    assert "sixbot stop" in page.text
    assert browser.client.post("/api/stop", data=form, headers=HTML).status_code == 503
    assert browser.client.post("/signin", data=form, headers=HTML).status_code == 503
    assert browser.get("/nope").status_code == 404
    for path in ("/livez", "/static/app.css"):
        assert client.get(path, headers=token, buffered=True).status_code == 200
    assert time.monotonic() - began < PATIENCE_SECONDS
    if loss is frozen and server.process is not None:
        os.kill(server.process.pid, signal.SIGCONT)
    else:
        server.start()
    eventually(lambda: browser.get("/").status_code == 200, what="the page is back")
    eventually(lambda: client.get("/api/status", headers=token).status_code == 200, what="the API is back")
    assert browser.post("/api/stop").status_code == 303
    assert browser.post("/signin", "/signin", name="ada", password="wrong").status_code == 400


def test_app_when_built_while_redis_is_away_works_once_it_is_there(tmp_path: Path, own_redis: RedisServer) -> None:
    own_redis.stop()
    client = connect(own_redis.url)
    config = Config(_env_file=None, sixbot_home=tmp_path / "home", redis_url=SecretStr(own_redis.url))
    app = create_app(config, Store(client, Keys()))
    assert app.test_client().get("/readyz").status_code == 503
    own_redis.start()
    eventually(lambda: app.test_client().get("/readyz").status_code == 200, what="ready")
    client.close()
