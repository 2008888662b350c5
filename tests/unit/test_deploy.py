"""The service files promise what the workers keep: readiness, the watchdog, restarts, and no right too many."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "deploy/systemd"
WORKERS = ("emergency", "heartbeat", "jobs", "trading", "web")
PROGRAM = "/opt/sixbot/.venv/bin/sixbot"
MOST_EXPOSED = 1.5


def unit(name: str) -> dict[str, list[str]]:
    """All settings of a unit file, each with its values in order; the sections' names do not repeat settings here."""
    found: dict[str, list[str]] = {}
    for line in (FOLDER / name).read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            setting, _, value = line.partition("=")
            found.setdefault(setting, []).append(value)
    return found


def service(worker: str) -> dict[str, list[str]]:
    return unit(f"sixbot-{worker}.service")


@pytest.fixture
def installed(tmp_path: Path) -> list[Path]:
    """The unit files as on a machine where sixbot is installed: their program exists."""
    program = tmp_path / "sixbot"
    program.write_text("#!/bin/sh\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    copies = []
    for file in sorted(FOLDER.iterdir()):
        copy = tmp_path / file.name
        copy.write_text(file.read_text().replace(PROGRAM, str(program)))
        copies.append(copy)
    return copies


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is absent (apt-get install systemd)")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("worker", WORKERS)
def test_service_when_read_runs_its_worker_for_ever_as_sixbot(worker: str) -> None:
    found = service(worker)
    assert found["ExecStart"] == [f"{PROGRAM} worker {worker}"]
    assert found["User"] == ["sixbot"]
    assert found["StateDirectory"] == ["sixbot"]
    assert found["Environment"] == ["SIXBOT_HOME=/var/lib/sixbot"]
    assert found["EnvironmentFile"] == ["-/etc/sixbot/env"]
    assert found["Restart"] == ["always"]
    assert "RestartSec" in found
    assert "StartLimitIntervalSec" in found


@pytest.mark.parametrize("worker", ["emergency", "heartbeat", "jobs", "trading"])
def test_service_when_its_worker_feeds_a_watchdog_has_one(worker: str) -> None:
    """The loop itself says READY and WATCHDOG: a loop that hangs is restarted."""
    found = service(worker)
    assert found["Type"] == ["notify"]
    assert found["NotifyAccess"] == ["main"]
    assert found["WatchdogSec"] == ["15"]


def test_web_service_when_gunicorn_cannot_notify_is_of_type_exec() -> None:
    found = service("web")
    assert found["Type"] == ["exec"]
    assert "WatchdogSec" not in found


def test_emergency_service_when_others_fail_depends_on_none_of_them_and_is_never_given_up() -> None:
    found = service("emergency")
    dependencies = [
        v for s in ("Requires", "Requisite", "BindsTo", "Wants", "After", "Upholds") for v in found.get(s, [])
    ]
    assert not re.search(r"sixbot-", " ".join(dependencies))
    assert found["StartLimitIntervalSec"] == ["0"]


def test_target_when_started_wants_every_worker() -> None:
    assert unit("sixbot.target")["Wants"][0].split() == [f"sixbot-{worker}.service" for worker in WORKERS]
    for worker in WORKERS:
        assert service(worker)["PartOf"] == ["sixbot.target"]


def test_units_when_verified_by_systemd_are_clean(installed: list[Path]) -> None:
    """It only warns of an unknown setting, so any word is a failure."""
    result = analyze("verify", *map(str, installed))
    assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)


@pytest.mark.parametrize("worker", WORKERS)
def test_service_when_judged_by_systemd_is_exposed_at_most_1_5(worker: str) -> None:
    result = analyze("security", "--offline=true", "--no-pager", str(FOLDER / f"sixbot-{worker}.service"))
    score = re.search(r"Overall exposure level for \S+: ([0-9.]+)", result.stdout)
    assert score is not None, result.stdout + result.stderr
    assert float(score.group(1)) <= MOST_EXPOSED
