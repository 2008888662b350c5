"""The page in a real Chromium, against the real server: what a person does, with scripts and without."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from shared.access import Access
from shared.clock import SystemClock, rfc3339
from shared.store import Store
from tests.support import eventually, free_port

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
PASSWORD = "correct horse battery"
HOSTILE = "<script>document.title='owned'</script>\"'&"


class Site:
    """gunicorn as ``sixbot worker web`` runs it."""

    def __init__(self, home: Path, redis_url: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("SIXBOT_", "ALPACA_"))},
            "SIXBOT_HOME": str(home),
            "REDIS_URL": redis_url,
            "WEB_BIND": self.url.removeprefix("http://"),
        }
        self.process = subprocess.Popen([sys.executable, "-m", "worker", "worker", "web"], env=environment)
        eventually(self._answers, what="the web to answer")

    def _answers(self) -> bool:
        try:
            return urllib3.request("GET", f"{self.url}/livez", retries=False, timeout=2).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if shutil.which(CHROMIUM) is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is missing (apt-get install chromium)")
        pytest.skip("Chromium is missing (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def site(tmp_path: Path, redis_url: str) -> Iterator[Site]:
    running = Site(tmp_path, redis_url)
    yield running
    running.close()


class Visitor:
    """A browser context that notes what a strict page must not do."""

    def __init__(self, browser: Any, site: Site, *, scripts: bool = True) -> None:
        self.context = browser.new_context(java_script_enabled=scripts, viewport={"width": 1280, "height": 900})
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.complaints: list[str] = []
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in {"error", "warning"} else None)
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.on("request", self._watch)
        self._site = site

    def _watch(self, request: Any) -> None:
        if not request.url.startswith((self._site.url, "data:")):
            self.complaints.append(f"external request: {request.url}")

    def sign_in(self, store: Store) -> None:
        link = Access(store, SystemClock()).create_link("operator", self._site.url)
        self.page.goto(link.url)
        self.page.fill("#password", PASSWORD)
        self.page.fill("#again", PASSWORD)
        self.page.click("main button")
        self.page.wait_for_selector("#stop")


def settings(store: Store) -> dict[str, Any]:
    found: dict[str, Any] = store.get_json("trading_settings")
    return found


def write_documents(store: Store) -> None:
    now = rfc3339(SystemClock().now())
    store.put_json("trading_settings", {"enabled": True, "strategy": "BALANCED"})
    store.put_json("trading_status", {"active": True, "state": "ACTIVE", "mode": "simulated", "trades_today": 1})
    store.put_json("system_status", {"worker_running": True, "last_heartbeat": now, "components": {}, "workers": []})
    row = {"time": now, "ticker": HOSTILE, "side": "buy", "qty": 1, "price": 234.1, "total_value": 234.1}
    store.put_json("trades_log", [{**row, "reason": HOSTILE, "status": "filled", "order_id": "1"}])
    store.put_json("portfolio_positions", [{"ticker": HOSTILE, "qty": "1", "side": "long", "market_value": "NaN"}])


def test_stop_when_pressed_without_scripts_turns_trading_off_with_one_click(
    browser: Any, site: Site, store: Store
) -> None:
    write_documents(store)
    visitor = Visitor(browser, site, scripts=False)
    visitor.sign_in(store)
    visitor.page.click("#stop")
    visitor.page.wait_for_selector("text=Stop requested")
    assert settings(store)["enabled"] is False
    assert settings(store)["strategy"] == "BALANCED"
    assert "STOP REQUESTED" in visitor.page.inner_text("#state")
    visitor.context.close()


def test_link_when_used_sets_a_password_that_signs_in_again(browser: Any, site: Site, store: Store) -> None:
    visitor = Visitor(browser, site)
    link = Access(store, SystemClock()).create_link("operator", site.url)
    for _ in range(2):  # looking at it uses nothing up
        visitor.page.goto(link.url)
    visitor.page.fill("#password", PASSWORD)
    visitor.page.fill("#again", PASSWORD)
    visitor.page.click("main button")
    visitor.page.click("text=Sign out operator")
    visitor.page.wait_for_selector("text=Sign in")
    visitor.page.goto(link.url)
    assert "used already" in visitor.page.inner_text("main")
    visitor.page.goto(f"{site.url}/")
    visitor.page.fill("#name", "operator")
    visitor.page.fill("#password", PASSWORD)
    visitor.page.click("main button")
    visitor.page.wait_for_selector("#stop")
    visitor.context.close()


def test_start_when_confirmed_states_its_terms_and_turns_trading_on(browser: Any, site: Site, store: Store) -> None:
    visitor = Visitor(browser, site)
    visitor.sign_in(store)
    visitor.page.click("text=Start trading")
    told = visitor.page.inner_text("main")
    assert "SIMULATED" in told
    assert "CONSERVATIVE" in told
    assert "daily notional cap" in told
    visitor.page.click("text=Yes, start trading")
    visitor.page.wait_for_selector("text=Start requested")
    assert settings(store)["enabled"] is True
    assert store.get_json("risk_settings")["emergency_stop_active"] is False
    visitor.context.close()


def test_forms_when_saved_change_the_documents_and_show_what_is_wrong_beside_the_field(
    browser: Any, site: Site, store: Store
) -> None:
    visitor = Visitor(browser, site)
    visitor.sign_in(store)
    page = visitor.page
    page.fill("#settings-buy_threshold_pct", "1.5")
    page.click("#settings button")
    page.wait_for_selector("#settings-buy_threshold_pct-wrong")
    assert page.input_value("#settings-buy_threshold_pct") == "1.5"
    assert store.get_json("trading_settings") is None
    page.fill("#settings-buy_threshold_pct", "0.01")
    page.select_option("#settings-strategy", "AGGRESSIVE")
    page.click("#settings button")
    page.wait_for_selector("text=Saved")
    assert (settings(store)["buy_threshold_pct"], settings(store)["strategy"]) == (0.01, "AGGRESSIVE")
    page.fill("#risk-daily_notional_cap", "10000")
    store.put_json("risk_settings", {"daily_notional_cap": 7})
    page.click("#risk button")
    page.wait_for_selector("text=Somebody changed these in the meantime")
    assert page.input_value("#risk-daily_notional_cap") == "10000"
    page.click("#risk button")
    page.wait_for_selector("text=Saved")
    assert store.get_json("risk_settings")["daily_notional_cap"] == 10000
    visitor.context.close()


def test_page_when_keys_change_shows_it_without_a_reload_and_keeps_every_promise_of_a_strict_page(
    browser: Any, site: Site, store: Store
) -> None:
    visitor = Visitor(browser, site)
    visitor.sign_in(store)
    visitor.page.wait_for_selector("text=Nothing is held")
    write_documents(store)
    visitor.page.wait_for_selector("#trades")
    assert HOSTILE in visitor.page.inner_text("#trades")
    assert visitor.page.title() == "sixbot"
    visitor.page.wait_for_selector('[data-trading="ACTIVE"]')
    store.client.set("trading_settings", json.dumps({"enabled": False}))
    store.put_json("trading_status", {"active": False, "state": "HALTED", "stop_reason": "emergency_stop"})
    visitor.page.wait_for_selector('[data-trading="STOPPED"]')
    assert "STOPPED" in visitor.page.inner_text("#announce")
    for width in (320, 1280):
        visitor.page.set_viewport_size({"width": width, "height": 800})
        assert visitor.page.evaluate("document.documentElement.scrollWidth") <= width
        box = visitor.page.locator("#stop").bounding_box()
        assert box is not None
        assert box["height"] >= 44
        assert 0 <= box["x"] <= box["x"] + box["width"] <= width
    visitor.page.keyboard.press("Tab")
    visitor.page.keyboard.press("Tab")
    assert visitor.complaints == []
    visitor.context.close()


def test_stop_when_reached_by_keyboard_is_the_first_stop_after_the_skip_link(
    browser: Any, site: Site, store: Store
) -> None:
    visitor = Visitor(browser, site)
    visitor.sign_in(store)
    visitor.page.goto(f"{site.url}/")
    visitor.page.keyboard.press("Tab")
    assert visitor.page.evaluate("document.activeElement.className").endswith("skip")
    visitor.page.keyboard.press("Tab")
    assert visitor.page.evaluate("document.activeElement.id") == "stop"
    visitor.context.close()
