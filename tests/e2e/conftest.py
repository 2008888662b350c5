"""The web as a user meets it: gunicorn on a free port, a real Redis, a real Chromium that notes complaints."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

from shared.access import Access
from shared.clock import SystemClock
from shared.store import Store
from tests.support import RedisServer, eventually, free_port

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run"),
]
PASSWORD = "correct horse battery"


@dataclass
class Site:
    """A running web and the pages opened on it."""

    url: str
    store: Store
    access: Access
    browser: Browser
    complaints: list[str] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    def page(self, **options: object) -> Page:
        """A page of a new context; what it must not do ends up in ``complaints``."""
        context = self.browser.new_context(base_url=self.url, **options)  # type: ignore[arg-type]
        context.set_default_timeout(30_000)
        self.contexts.append(context)
        page = context.new_page()
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("request", self._request)
        return page

    def _console(self, message: ConsoleMessage) -> None:
        # A form that is refused answers 400, which Chromium reports as a failed load of the page: it is meant.
        if message.type == "error" and "status of 400" not in message.text:
            self.complaints.append(f"console: {message.text}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.url, "data:")):
            self.complaints.append(f"external: {request.url}")

    def link(self, name: str = "ada") -> str:
        return self.access.create_link(name, self.url, "operator").url

    def signed_in(self, **options: object) -> Page:
        """A page on the overview, signed in by a link as a user does."""
        page = self.page(**options)
        page.goto(self.link())
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_label("Again").fill(PASSWORD)
        page.get_by_role("button", name="Set password").click()
        page.wait_for_url(f"{self.url}/")
        return page


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        if os.environ.get("CI"):
            pytest.fail(f"Chromium is absent: {CHROMIUM} (apt-get install chromium)")
        pytest.skip(f"Chromium is absent: {CHROMIUM} (apt-get install chromium)")
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS, timeout=120_000)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def web_url(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One gunicorn for the tests of this process; each test finds its Redis empty."""
    url, home = f"http://127.0.0.1:{free_port()}", tmp_path_factory.mktemp("web")
    environment = os.environ | {"REDIS_URL": redis_server.url, "SIXBOT_HOME": str(home), "WEB_BIND": url[7:]}
    with (home / "web.out").open("wb") as output:
        command = [sys.executable, "-m", "worker", "worker", "web"]
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        eventually(_answers(url), 120, what="the web answers")
        yield url
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def site(chromium: Browser, store: Store, web_url: str) -> Iterator[Site]:
    site = Site(web_url, store, Access(store, SystemClock()), chromium)
    yield site
    for context in site.contexts:
        context.close()
    assert site.complaints == []


def _answers(url: str) -> Callable[[], bool]:
    def ask() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/livez", timeout=5) as answer:  # noqa: S310 - our own loopback address
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    return ask
