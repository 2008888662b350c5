"""The overview in a real browser: sign in, stop, start, change, and watch it change by itself."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from shared.clock import SystemClock, rfc3339
from shared.store import Store
from tests.e2e.conftest import PASSWORD, Site
from tests.support import eventually

pytestmark = pytest.mark.xdist_group("chromium")
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\"'"


def stored(store: Store, key: str = "trading_settings") -> dict[str, Any]:
    found = json.loads(store.read_raw(key) or b"{}")
    assert isinstance(found, dict)
    return found


def busy(store: Store) -> None:
    """Keys as a trading day leaves them."""
    now = rfc3339(SystemClock().now())
    workers = [
        {"name": n, "state": "live", "memory_mb": 60 + i, "started_at": now}
        for i, n in enumerate(("trading", "emergency", "heartbeat"))
    ]
    parts = {"redis": {"state": "ok", "latency_ms": 1}, "simulated": {"state": "ok", "latency_ms": 3}}
    store.put_json(
        "system_status",
        {"worker_running": True, "last_heartbeat": now, "workers": workers, "components": parts},
    )
    status = {"active": True, "state": "ACTIVE", "mode": "simulated", "trades_today": 3, "total_volume": 15000.5}
    store.put_json("trading_status", {**status, "next_run": now})
    store.put_json("trading_settings", {"enabled": True})
    store.put_json("stats", {"wins": 29, "loss_trades": 21, "win_rate": 58.0, "today_pnl": 12.4, "total_pnl": -310.7})
    held = {"qty": "100", "avg_entry_price": "150.25", "market_value": "15025.00", "side": "long"}
    names = ("AAPL", "MSFT", "NVDA")
    store.put_json(
        "portfolio_positions",
        [{**held, "ticker": n, "unrealized_pl": p} for n, p in zip(names, ("275.00", "-31.50", "0.00"), strict=True)],
    )
    states = ("filled", "submitted", "rejected", "partially_filled", "canceled")
    row = {"time": now, "side": "buy", "qty": 1, "price": 234.1, "total_value": 234.1, "reason": "prediction"}
    store.put_json("trades_log", [{**row, "ticker": names[i % 3], "status": s} for i, s in enumerate(states)])
    for minute, equity in enumerate((100000, 100120, 100080, 100240, 100190)):
        store.client.xadd("equity", {"time": f"2026-03-02T15:{minute:02}:00Z", "equity": str(equity)})


def shot(page: Page, name: str) -> None:
    """A picture for people, where SIXBOT_SHOTS names a folder."""
    if folder := os.environ.get("SIXBOT_SHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def test_user_when_coming_by_a_link_sets_a_password_and_signs_in_with_it_later(site: Site) -> None:
    page = site.signed_in()
    page.get_by_role("button", name="Sign out ada").click()
    page.wait_for_url("**/signin")
    page.goto("/start")
    page.wait_for_url("**/signin?next=/start")
    shot(page, "signin")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/start")


def test_stop_when_scripts_are_off_turns_trading_off(site: Site) -> None:
    site.store.client.set("trading_settings", b'{"enabled": true, "note": 1}')
    page = site.signed_in(java_script_enabled=False)
    page.get_by_role("button", name="STOP TRADING").click()
    page.get_by_text("Stop requested").wait_for()
    assert stored(site.store)["enabled"] is False
    assert stored(site.store)["note"] == 1


def test_stop_when_reached_by_keyboard_is_next_after_the_skip_link(site: Site) -> None:
    page = site.signed_in()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.locator("#stop")).to_be_focused()
    page.keyboard.press("Enter")
    eventually(lambda: stored(site.store).get("enabled") is False, what="trading is off")


def test_start_when_confirmed_turns_trading_on(site: Site) -> None:
    page = site.signed_in()
    page.get_by_role("link", name="Start trading").click()
    page.get_by_text("Mode SIMULATED").wait_for()
    shot(page, "start")
    assert stored(site.store) == {}
    page.get_by_role("button", name="Yes, start trading").click()
    page.get_by_text("Start requested").wait_for()
    assert stored(site.store)["enabled"] is True


def test_forms_when_a_value_is_refused_show_it_beside_its_field_and_save_a_good_one(site: Site) -> None:
    page = site.signed_in()
    page.locator("#settings-buy_threshold_pct").fill("2")
    page.locator("#settings").get_by_role("button", name="Save").click()
    expect(page.locator("#settings-buy_threshold_pct-wrong")).to_contain_text("less than or equal to 1")
    shot(page, "refused")
    page.locator("#settings-buy_threshold_pct").fill("0.02")
    page.locator("#settings-strategy").select_option("BALANCED")
    page.locator("#settings").get_by_role("button", name="Save").click()
    page.get_by_text("Saved.").wait_for()
    page.locator("#risk-max_trades_per_run").fill("7")
    page.locator("#risk-reduce_only").check()
    page.locator("#risk").get_by_role("button", name="Save").click()
    page.get_by_text("Saved.").wait_for()
    eventually(lambda: stored(site.store, "risk_settings").get("max_trades_per_run") == 7, what="the limits are saved")
    assert stored(site.store, "risk_settings")["reduce_only"] is True
    assert (stored(site.store)["strategy"], stored(site.store)["buy_threshold_pct"]) == ("BALANCED", 0.02)


def test_overview_when_redis_changes_follows_without_a_reload_and_runs_nothing_of_it(site: Site) -> None:
    busy(site.store)
    page = site.signed_in()
    expect(page.locator("#state [data-trading]")).to_have_attribute("data-trading", "ACTIVE")
    page.evaluate("window.mark = 1")
    changed = {"active": False, "stop_reason": "emergency_stop", "last_error": HOSTILE, "mode": HOSTILE}
    site.store.put_json("trading_status", changed)
    site.store.put_json("trades_log", [{"ticker": HOSTILE, "reason": HOSTILE, "status": HOSTILE, "side": HOSTILE}])
    expect(page.locator("#state [data-trading]")).to_have_attribute("data-trading", "STOPPED", timeout=30_000)
    expect(page.locator("#announce")).to_contain_text("STOPPED", timeout=30_000)
    expect(page.locator("#panels")).to_contain_text("<script>document.title", timeout=30_000)
    assert page.evaluate("window.mark") == 1
    assert page.title() == "sixbot"
    page.reload()
    expect(page.locator("#trades")).to_contain_text("<img src=x")
    assert page.title() == "sixbot"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_overview_when_narrow_or_wide_has_no_horizontal_scroll_and_shows_the_stop(
    site: Site, scheme: str, width: int
) -> None:
    busy(site.store)
    page = site.signed_in(viewport={"width": width, "height": 720}, color_scheme=scheme)
    page.get_by_text("MSFT").first.wait_for()
    shot(page, f"overview-{scheme}-{width}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    expect(page.locator("#stop")).to_be_in_viewport(ratio=1)
    box = page.locator("#stop").bounding_box()
    assert box is not None
    assert min(box["width"], box["height"]) >= 44
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    expect(page.locator("#stop")).to_be_in_viewport(ratio=1)
    expect(page.locator("html")).to_have_attribute("data-bs-theme", re.compile(scheme))
