"""``sixbot up`` as a newcomer starts it, and the commands beside it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import urllib3

from shared.clock import ManualClock, SystemClock
from shared.config import Config
from shared.store import connect
from tests.builders import NOW
from tests.servers.forked import sixbot
from tests.support import eventually, free_port
from worker.memory import memory_of
from worker.runtime import StopSignals
from worker.supervisor.process import FIRST_PAUSE_SECONDS, Child, Spec, in_stop_order
from worker.supervisor.up import Supervisor


class Demo:
    """One ``sixbot up --demo`` with ports and a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.web = f"127.0.0.1:{free_port()}"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("SIXBOT_", "ALPACA_", "REDIS_"))},
            "SIXBOT_HOME": str(home),
            "EMBEDDED_REDIS_PORT": str(free_port()),
            "SIM_VENUE_URL": f"http://127.0.0.1:{free_port()}",
            "WEB_BIND": self.web,
            "JOBS_IDLE_SECONDS": "3",
            "REDIS_LOST_STOP_SECONDS": "60",  # a command that starts while Redis hangs must come before that stop does
        }
        self.output = home / "up.out"
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "worker", "up", "--demo"], env=self.environment, stdout=file, stderr=file
            )

    def sixbot(self, *words: str, check: bool = True) -> str:
        done = sixbot(self.environment, *words)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout.strip()

    def said(self, text: str) -> bool:
        return text in self.output.read_text(errors="replace")

    def json(self, key: str) -> Any:
        client = connect((self.home / "redis.url").read_text().strip(), timeout_seconds=30)
        try:
            raw = client.get(key)
            return None if raw is None else json.loads(raw)  # type: ignore[arg-type]
        finally:
            client.close()

    def status(self, field: str) -> Any:
        """A field of ``trading_status``."""
        return (self.json("trading_status") or {}).get(field)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    running = Demo(tmp_path_factory.mktemp("demo"))
    yield running
    if running.process.poll() is None:
        running.process.send_signal(signal.SIGTERM)
        running.process.wait(90)


def test_up_when_started_on_a_fresh_home_trades_on_a_real_prediction_and_shows_it(demo: Demo) -> None:
    eventually(
        lambda: demo.said(f"web: open http://{demo.web}/signin/"), 90, what=f"the link: {demo.output.read_text()}"
    )

    def traded() -> bool:
        return any(t["status"] == "filled" for t in demo.json("trades_log") or [])

    eventually(traded, 90, what=f"a trade: {demo.output.read_text()}")
    entry = next(t for t in demo.json("trades_log") if t["status"] == "filled")
    assert "lightgbm:1" in entry["reason"]
    assert demo.json("model:1")["metrics"]["rows"] > 1000
    eventually(lambda: demo.said(f"BUY 1 {entry['ticker']}"), what="the trade on the status line")
    settings = demo.json("trading_settings")
    assert (settings["enabled"], settings["strategy"], settings["updated_by"]) == (True, "BALANCED", "demo")
    assert (demo.home / "redis.url").stat().st_mode & 0o777 == 0o600


def test_commands_when_it_runs_look_and_switch(demo: Demo) -> None:
    eventually(lambda: (demo.json("system_status") or {}).get("worker_running"), what="a health report")
    eventually(lambda: json.loads(demo.sixbot("status", "--json", check=False))["healthy"], what="health")
    assert demo.sixbot("redis", "GET", "trading_settings").startswith('{"enabled": true')
    assert demo.sixbot("redis-url").startswith("redis://default:")
    assert "sum" in demo.sixbot("status", "--memory", check=False)
    assert json.loads(demo.sixbot("trades", "--json"))[0]["ticker"]
    assert all(f["state"] != "failed" for f in json.loads(demo.sixbot("doctor", "--json")))
    assert json.loads(demo.sixbot("risk", "set", "cooldown_minutes=5"))["cooldown_minutes"] == 5
    told = json.loads(demo.sixbot("stop", "--json"))
    assert told["stop_report"]["state"] == "STOPPED"
    assert Path(told["stop_file"]).exists()
    eventually(lambda: demo.status("active") is False)
    assert demo.json("stop_latch")["reason"] == "emergency_stop"
    assert "started" in demo.sixbot("start", "--yes")
    assert not Path(told["stop_file"]).exists()
    eventually(lambda: demo.status("active") is True, what=f"the resume: {demo.json('trading_status')}")


def test_upload_when_no_jobs_worker_runs_starts_one_that_judges_it_and_ends(demo: Demo, data: Path) -> None:
    """What a user sees who uploads a model in the browser or by the API, and does nothing else."""
    assert json.loads(demo.sixbot("status", "--json", check=False))["jobs"]["worker"] == "on_demand"
    token = json.loads(demo.sixbot("token", "new", "--scope", "control", "--json"))["token"]
    http = urllib3.PoolManager()
    found = {}
    for name in ("valid_control", "child_cycle"):
        raw = (data / "lightgbm" / "malformed" / f"{name}.txt").read_bytes()
        answer = http.request(
            "POST",
            f"http://{demo.web}/api/models",
            fields={"file": (f"{name}.txt", raw), "symbol": "BTCUSDT"},
            headers={"Authorization": f"Bearer {token}"},
        )
        assert answer.status == 201, answer.data
        document = json.loads(answer.data)
        assert (document["status"], document["hint"]) == ("uploaded", None)
        found[name] = document["id"]
    wanted = {"valid_control": "valid", "child_cycle": "invalid"}
    for name, number in found.items():
        eventually(
            lambda number=number, name=name: demo.json(f"model:{number}")["status"] == wanted[name],
            90,
            what=f"the judgement of {name}: {demo.output.read_text()[-2000:]}",
        )
    assert "left_child" in demo.json(f"model:{found['child_cycle']}")["reason"]
    assert demo.said("waiting, the jobs worker starts")
    eventually(lambda: demo.said("jobs has ended"), 90, what="the end of the idle worker")
    assert not demo.said("jobs ended with code")


def test_up_when_a_worker_is_killed_starts_it_again(demo: Demo) -> None:
    eventually(lambda: demo.status("active") is True)
    before = demo.status("worker_pid")
    os.kill(before, signal.SIGKILL)
    eventually(lambda: demo.status("worker_pid") not in (before, None), 90, what="another trader")
    assert demo.said("trading ended with code -9")


def test_stop_when_redis_is_down_writes_the_file_and_signals(demo: Demo) -> None:
    eventually(lambda: demo.status("active") is True)
    family = psutil.Process(demo.process.pid).children()
    server = next(p for p in family if any("valkey" in w or "redis-server" in w for w in p.cmdline()))
    server.suspend()
    try:
        told = json.loads(demo.sixbot("stop", "--json"))
        assert told["redis"].startswith("not reached")
        assert len(told["signalled"]) == 1
    finally:
        server.resume()
    eventually(lambda: (demo.json("stop_report") or {}).get("source") in {"signal", "stop_file"}, what="the report")
    eventually(lambda: demo.status("active") is False)
    demo.sixbot("start", "--yes")


def test_up_when_measured_stays_small(demo: Demo) -> None:
    """The promise is 420 MB; with room here for what a loaded machine's allocator does."""
    names = [(str(p.pid), p.pid) for p in psutil.Process(demo.process.pid).children()]
    total = sum(use.pss_mb for use in memory_of([*names, ("up", demo.process.pid)]))
    assert 0 < total < 500


def test_up_when_told_to_stop_drains_everything(demo: Demo) -> None:
    children = psutil.Process(demo.process.pid).children()
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(90) == 0
    assert not any(p.is_running() for p in children)
    assert demo.said("stopped")


# -- the supervisor itself --------------------------------------------------------------------------------------------


def spec(name: str, code: str) -> Spec:
    return Spec(name, (sys.executable, "-c", code))


WAITS = "import time\nwhile True: time.sleep(0.1)"
DEAF = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\n{WAITS}"


def test_child_when_it_ends_is_restarted_after_a_pause_that_grows(tmp_path: Path) -> None:
    clock = ManualClock(NOW)
    child = Child(spec("short", "print('the last word')"), os.environ, tmp_path, clock)
    child.start()
    for pause in (FIRST_PAUSE_SECONDS, 2 * FIRST_PAUSE_SECONDS):
        eventually(lambda: "ended with code 0: the last word" in child.tend(), what="the end to be told")
        clock.advance(pause - 0.01)
        assert child.tend() == ""
        clock.advance(0.02)
        assert child.tend() == "short restarted"
    child.terminate()
    child.finish()


def test_child_when_it_does_not_listen_is_killed_after_the_grace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.supervisor.process.GRACE_SECONDS", 0.5)
    child = Child(spec("deaf", DEAF), os.environ, tmp_path, SystemClock())
    child.start()
    eventually(lambda: child.last_words() == "deaf", what="the child to be deaf")
    child.terminate()
    child.finish()
    assert child.process is not None
    assert child.process.returncode == -signal.SIGKILL


def test_children_when_the_supervisor_is_killed_end_with_it(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; from shared.clock import SystemClock;"
        "from worker.supervisor.process import Child, Spec;"
        f"c = Child(Spec('x', (sys.executable, '-c', {WAITS!r})), os.environ, Path({str(tmp_path)!r}), SystemClock());"
        "c.start(); print(c.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    eventually(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", what="the child to end")


def test_supervisor_when_stopping_takes_traders_first_and_the_server_last(tmp_path: Path) -> None:
    names = ["server", "exchange", "emergency", "heartbeat", "trading", "web"]
    assert in_stop_order(names) == ["trading", "web", "heartbeat", "emergency", "exchange", "server"]
    told: list[str] = []
    supervisor = Supervisor(SystemClock(), StopSignals(), told.append)
    config = Config(_env_file=None, sixbot_home=tmp_path)
    for name in ("server", "trading"):
        supervisor.start(spec(name, WAITS), os.environ, config)
    assert [name for name, _ in supervisor.pids()] == ["server", "trading"]
    supervisor.stop()
    assert supervisor.pids() == []


def test_up_when_its_port_is_taken_says_which_and_what_to_do(tmp_path: Path) -> None:

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environment = {**os.environ, "SIXBOT_HOME": str(tmp_path), "EMBEDDED_REDIS_PORT": str(taken.getsockname()[1])}
        environment.pop("REDIS_URL", None)
        done = sixbot(environment, "up")
    assert done.returncode == 2
    assert "EMBEDDED_REDIS_PORT" in done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("CYCLE_SECONDS", "-1", "CYCLE_SECONDS"),
        ("VENUE", "nasdaq", "VENUE"),
        ("TRADING_DAY_TZ", "Mars", "TRADING_DAY_TZ"),
        ("ACTIVE_TICKERS", ",", "ACTIVE_TICKERS"),
        ("WEB_BIND", "localhost", "WEB_BIND"),
        ("WEB_BIND", "127.0.0.1:99999", "WEB_BIND"),
    ],
)
def test_start_when_a_variable_is_wrong_names_it(tmp_path: Path, variable: str, value: str, told: str) -> None:
    done = sixbot({**os.environ, "SIXBOT_HOME": str(tmp_path), variable: value}, "worker", "trading")
    assert done.returncode == 2
    assert told in done.stderr


def test_live_trading_when_not_asked_for_twice_is_refused(tmp_path: Path) -> None:
    environment = {**os.environ, "SIXBOT_HOME": str(tmp_path), "VENUE": "alpaca", "ALPACA_PAPER": "false"}
    done = sixbot(environment, "worker", "trading")
    assert done.returncode == 2
    assert "I_UNDERSTAND_LIVE" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"), [(["web"], "WEB_BIND"), (["web", "--account", "default"], "works for no account")]
)
def test_worker_when_it_cannot_start_says_why(tmp_path: Path, arguments: list[str], told: str) -> None:
    """Somebody else's port would otherwise show as a web that ends again and again without a word."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environment = {**os.environ, "SIXBOT_HOME": str(tmp_path), "WEB_BIND": f"127.0.0.1:{taken.getsockname()[1]}"}
        command = [sys.executable, "-m", "worker", "worker", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, told in done.stderr) == (2, True), done.stderr
