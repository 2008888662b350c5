"""``sixbot stop``: whatever is broken besides, it tells what it can reach, and comes back when the stop is proven."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from shared.clock import SystemClock, rfc3339
from shared.store import Store
from tests.support import free_port
from worker.cli.main import app


def sixbot(home: Path, url: str, *arguments: str, **environment: str) -> Any:
    """The command in this process; ``home`` is SIXBOT_HOME and nothing of the caller's environment is in force."""
    variables = {"SIXBOT_HOME": str(home), "REDIS_URL": url, **environment}
    return CliRunner().invoke(app, list(arguments), env=variables, catch_exceptions=False)


def enabled(store: Store) -> object:
    found = store.get_json(store.keys.trading_settings)
    assert isinstance(found, dict)
    return found["enabled"]


@pytest.fixture(autouse=True)
def _settled(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store.client.set("trading_settings", b'{"enabled": true}')


def test_stop_when_the_file_cannot_be_written_still_turns_the_switch_off(
    store: Store, redis_url: str, tmp_path: Path
) -> None:
    """A full or read-only disk is when somebody stops trading."""
    (tmp_path / "home").write_text("a file where a folder should be")
    done = sixbot(tmp_path / "home", redis_url, "stop", "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, enabled(store)) == (0, False)
    assert told["stop_file"].startswith("not written")


def test_stop_when_another_setting_is_wrong_stops_and_says_so(store: Store, redis_url: str, tmp_path: Path) -> None:
    wrong = {
        "CYCLE_SECONDS": "often",
        "ALPACA_PAPER": "false",
        "ALPACA_STREAM_URL": "x",
        "VENUE": "alpaca",
        "ACCOUNTS__B__VENUE": "mars",
    }
    done = sixbot(tmp_path, redis_url, "stop", **wrong)
    assert done.exit_code == 0, done.stderr
    wrong.pop("CYCLE_SECONDS")
    assert sixbot(tmp_path, redis_url, "stop", **wrong).exit_code == 0
    done = sixbot(tmp_path, redis_url, "stop", CYCLE_SECONDS="often", ALPACA_PAPER="perhaps")
    assert (done.exit_code, enabled(store)) == (0, False)
    assert (tmp_path / "run" / "STOP").exists()
    assert "CYCLE_SECONDS" in done.stderr


def test_stop_when_nothing_can_be_reached_fails(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    done = sixbot(tmp_path / "home", f"redis://127.0.0.1:{free_port()}/0", "stop")
    assert done.exit_code == 1


def test_stop_when_it_is_proven_before_anybody_looks_comes_back_at_once(
    store: Store, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The emergency worker needs a tenth of a second; the report that stands then is the new one."""
    later = SystemClock().now().replace(year=2999)
    report = {"stop_id": "1", "state": "STOPPED", "requested_at": rfc3339(later), "orders_found": 0}
    store.put_json("stop_report", report)
    store.put_json("trading_status", {"active": True})

    def waits(_seconds: float) -> None:
        pytest.fail("it waits for another report")

    monkeypatch.setattr("worker.cli.operate.time.sleep", waits)
    done = sixbot(tmp_path, redis_url, "stop", "--json")
    assert json.loads(done.stdout)["stop_report"] == report


def test_commands_when_asked_for_json_print_one_value(store: Store, redis_url: str, tmp_path: Path) -> None:
    for words in ("start --yes", "settings get", "settings set strategy=BALANCED", "risk get", "user add ann", "stop"):
        done = sixbot(tmp_path, redis_url, *words.split(), "--json")
        assert (done.exit_code, isinstance(json.loads(done.stdout), dict)) == (0, True), words
