"""``sixbot model``: exit codes, what is said, and what stands in Redis afterwards."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from shared.bots import BotControl
from shared.clock import SystemClock
from shared.control import Actor
from shared.keys import Keys
from shared.models import ModelRegistry
from shared.store import Store, connect
from tests.market_files import write_trades
from tests.support import RedisServer, eventually
from worker.cli.main import app
from worker.core.features import FEATURE_NAMES
from worker.models.booster import import_lightgbm

ACTOR = Actor("test", "cli")
STREAM = ("--holding-time", "20", "--profit-target-pct", "0.002", "--stop-loss-pct", "0.002", "--folds", "2")


@pytest.fixture(autouse=True)
def installation(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command runs on a Redis and a home of the test's."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("SIXBOT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("worker.models.probe.CHECK_SECONDS", 120.0)  # of this process, which is older than a command
    return tmp_path


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lightgbm = import_lightgbm()
    x = np.random.default_rng(6).normal(size=(100, len(FEATURE_NAMES)))
    data = lightgbm.Dataset(x, (x[:, 0] > 0).astype(float), feature_name=list(FEATURE_NAMES), params={"verbosity": -1})
    text = lightgbm.train({"objective": "binary", "verbosity": -1, "num_threads": 1}, data, 3).model_to_string()
    path = tmp_path_factory.mktemp("model") / "model.txt"
    path.write_text(text)
    return path


def sixbot(*words: object) -> Result:
    return CliRunner().invoke(app, ["model", *map(str, words)])


def answer(*words: object) -> Any:
    found = sixbot(*words, "--json")
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def test_check_when_the_file_is_good_is_accepted_plain_or_packed(model_file: Path, tmp_path: Path) -> None:
    packed = tmp_path / "model.txt.gz"
    packed.write_bytes(gzip.compress(model_file.read_bytes()))
    for file in (model_file, packed):
        found = sixbot("check", file)
        assert found.exit_code == 0
        assert "accepted, 3 trees, binary, 30 features" in found.stdout


def test_check_when_the_file_is_no_text_model_is_refused_by_its_content(tmp_path: Path) -> None:
    """Whatever their names say."""
    files = {"pickle": tmp_path / "a.txt", "zip": tmp_path / "b.txt", "JSON": tmp_path / "c.txt"}
    files["pickle"].write_bytes(pickle.dumps({"a": 1}))
    with zipfile.ZipFile(files["zip"], "w") as packed:
        packed.writestr("model.txt", "tree\n")
    files["JSON"].write_text('{"learner": {}}')
    for kind, file in files.items():
        found = sixbot("check", file)
        assert found.exit_code == 1
        assert f"file: is a {kind}" in found.stderr or f"file: is {kind}" in found.stderr


@pytest.mark.parametrize("name", ["absent.txt", ".", "broken.gz", "pipe", "dangling"])
def test_check_when_the_file_cannot_be_read_says_so(tmp_path: Path, name: str) -> None:
    """A pipe that nobody writes to would be waited for without end."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "broken.gz").write_bytes(b"\x1f\x8bnothing")
    found = sixbot("check", tmp_path / name)
    assert found.exit_code == 1
    assert "cannot be read" in found.stderr


def test_model_when_it_lives_is_uploaded_shown_renamed_assigned_swapped_and_deleted(
    store: Store, model_file: Path
) -> None:
    BotControl(store, SystemClock()).change(7, {"symbol": "BTCUSDC"}, ACTOR)
    first = answer("upload", model_file, "--name", "first", "--symbol", "BTCUSDC")
    assert (first["id"], first["status"], first["symbol"], first["trees"]) == (1, "valid", "BTCUSDC", 3)
    assert answer("upload", model_file, "--now")["name"] == "model.txt"
    assert sixbot("rename", 1, "eins").exit_code == 0
    assert sixbot("assign", 1, "--bot", 7).exit_code == 0
    assert answer("show", 1)["assigned_to"] == [7]
    refused = sixbot("delete", 1)
    assert (refused.exit_code, "used by bot 7" in refused.stderr) == (1, True)
    assert sixbot("swap", 1, 2).exit_code == 0
    assert [(d["id"], d["name"], d["assigned_to"]) for d in answer("list")] == [(1, "eins", []), (2, "model.txt", [7])]
    assert [d["id"] for d in answer("list", "--symbol", "ETHUSDC")] == [2]
    assert sixbot("delete", 1).exit_code == 0
    assert sixbot("show", 1).exit_code == 1
    entries = [fields for _, fields in store.client.xrange("audit") if fields[b"key"] == b"model:1"]
    assert len(entries) == 5
    assert all(fields[b"from"] == b"cli" for fields in entries)


def test_upload_when_refused_ends_with_one_and_the_reason(model_file: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.txt"
    bad.write_text(model_file.read_text().replace("version=v4", "version=v5"))
    found = sixbot("upload", bad)
    assert found.exit_code == 1
    assert "version: must be v2, v3 or v4 (got 'v5')" in found.stderr
    assert answer("show", 1)["status"] == "invalid"
    assert sixbot("validate", 1).exit_code == 1


@pytest.mark.parametrize("name", ["\x1b[2J", "<img src=x onerror=alert(1)>", "x" * 10_000])
def test_upload_when_the_name_is_hostile_is_refused_without_repeating_it(model_file: Path, name: str) -> None:
    found = sixbot("upload", model_file, "--name", name)
    assert found.exit_code == 1
    assert "name: must be" in found.stderr
    assert name not in found.output


def test_list_when_redis_holds_hostile_text_shows_it_escaped(store: Store, model_file: Path) -> None:
    answer("upload", model_file)
    store.merge_json("model:1", lambda found: found | {"name": "\x1b[2J\nfake", "symbol": "\u202e"})
    for command in (("list",), ("show", 1)):
        shown = sixbot(*command).stdout
        assert "\x1b" not in shown
        assert "\u202e" not in shown
        assert "\\x1b[2J\\nfake" in shown


def test_upload_when_a_jobs_worker_lives_is_left_to_it(store: Store, model_file: Path) -> None:
    store.put_json(store.keys.heartbeat("jobs", "host"), {"pid": 1}, 30)
    assert answer("upload", model_file)["status"] == "uploaded"
    assert store.client.llen("rq:queue:sixbot") == 1
    assert answer("upload", model_file, "--now")["status"] == "valid"
    assert store.client.llen("rq:queue:sixbot") == 1


def test_train_when_told_a_symbol_makes_a_stream_model(store: Store, tmp_path: Path) -> None:
    trades = write_trades(tmp_path / "trades.csv", 3000)
    found = answer("train", "--symbol", "BTCUSDC", "--data", trades, "--rounds", 5, *STREAM)
    assert (found["id"], found["feature_version"]) == (1, 1)
    assert found["trained_for"]["holding_time"] == 20
    assert (tmp_path / "home" / "models" / found["report"]).is_file()
    said = sixbot("train", "--symbol", "BTCUSDC", "--data", trades, "--rounds", 5, *STREAM).stdout
    assert "profit per trade after fees" in said


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--kind", "stream"), "--symbol: name the symbol"),
        (("--kind", "cycle", "--symbol", "BTCUSDC"), "--symbol and --bot are for stream models"),
        (("--kind", "other"), "--kind: must be cycle or stream"),
        (("--symbol", "BTCUSDC", "--holding-time", "0"), "holding_time: must be from 1"),
        (("--symbol", "BTCUSDC", "--maker-fee", "0.01"), "no trade of this rule can earn"),
        (("--symbol", "BTCUSDC", "--assign"), "name the bot with --bot"),
    ],
)
def test_train_when_the_options_make_no_sense_ends_with_two(
    tmp_path: Path, words: tuple[str, ...], problem: str
) -> None:
    found = sixbot("train", "--data", write_trades(tmp_path / "trades.csv", 300), *words)
    assert found.exit_code == 2
    assert problem in found.stderr


def test_train_when_interrupted_by_ctrl_c_leaves_nothing(redis_server: RedisServer, tmp_path: Path) -> None:
    trades = write_trades(tmp_path / "trades.csv", 3000)
    words = ["train", "--symbol", "BTCUSDC", "--data", str(trades), *STREAM, "--rounds", "5000"]
    command = [sys.executable, "-m", "worker", "model", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        eventually(lambda: _computes(process.pid), 120, "the command trains")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    client = connect(redis_server.url)
    assert ModelRegistry(Store(client, Keys()), SystemClock()).documents() == []
    client.close()
    assert list((tmp_path / "home").rglob("*")) == []


def _computes(pid: int) -> bool:
    """Whether LightGBM is loaded there, which it is once training begins."""
    return "lib_lightgbm" in Path(f"/proc/{pid}/maps").read_text()
