"""The web over a real Redis, without a socket: programs with tokens, and browsers that keep cookies and send forms."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr
from werkzeug.test import TestResponse

from shared.access import Access
from shared.clock import SystemClock
from shared.config import Config
from shared.store import Store
from web.app import create_app

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
TokenFor = Callable[..., dict[str, str]]


class Browser:
    """Asks for HTML, keeps cookies, and posts forms with the token of the page they stand on."""

    def __init__(self, app: Flask) -> None:
        self.app, self.client = app, app.test_client()

    def get(self, path: str) -> TestResponse:
        return self.client.get(path, headers=HTML, buffered=True)

    def token(self, page: str) -> str:
        found = re.search(r'name="csrf_token" value="([^"]+)"', self.get(page).text)
        assert found, f"{page} has a form with a token"
        return found[1]

    def post(self, path: str, page: str = "/", **fields: str) -> TestResponse:
        return self.client.post(path, data={"csrf_token": self.token(page), **fields}, headers=HTML)

    def secret(self) -> str:
        """The session's secret, as the signed cookie holds it."""
        with self.client.session_transaction() as session:
            return str(session["_user_id"])

    def resume(self, access: Access, name: str, role: str) -> None:
        """Be signed in, by a session that exists in Redis."""
        access.add_user(name, role)
        user = access.user(name)
        assert user is not None
        with self.client.session_transaction() as session:
            session["_user_id"], session["_fresh"] = access.open_session(user), True


@pytest.fixture
def app(tmp_path: Path, redis_url: str, store: Store) -> Flask:
    return create_app(Config(_env_file=None, sixbot_home=tmp_path, redis_url=SecretStr(redis_url)), store)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def access(store: Store) -> Access:
    return Access(store, SystemClock())


@pytest.fixture
def token(access: Access) -> TokenFor:
    """Headers with a new API token of the given scopes; of all three without any."""

    def make(*scopes: str) -> dict[str, str]:
        secret = access.create_token("test", scopes or ("read", "stop", "control"))
        return {"Authorization": f"Bearer {secret}"}

    return make


@pytest.fixture
def browser(app: Flask) -> Browser:
    return Browser(app)


@pytest.fixture
def operator(app: Flask, access: Access) -> Browser:
    made = Browser(app)
    made.resume(access, "ada", "operator")
    return made


@pytest.fixture
def viewer(app: Flask, access: Access) -> Browser:
    made = Browser(app)
    made.resume(access, "vic", "viewer")
    return made
