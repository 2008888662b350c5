"""A stream model from recorded trades to the registry, and what is left where that is interrupted: nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from shared.bots import BotControl
from shared.clock import SystemClock
from shared.control import Actor
from shared.errors import ConfigError
from shared.model_terms import ModelConflict, ModelError
from shared.store import Store
from tests.market_files import write_bars, write_trades
from worker.models.recorded import recorded_candles
from worker.models.registry import ModelRegistry
from worker.models.stream_job import Order, Tell, run_stream_job
from worker.predictors.slot import ModelSlot

ACTOR = Actor("test", "cli")
ASKED: dict[str, Any] = {
    "holding_time": 20,
    "profit_target_pct": 0.002,
    "stop_loss_pct": 0.002,
    "taker_fee": 0.0001,
    "folds": 3,
    "rounds": 15,
}


@pytest.fixture(scope="module")
def trades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_trades(tmp_path_factory.mktemp("trades") / "btcusdc.csv", 5000)


def quiet(_step: str, _done: int, _total: int) -> None:
    """Nobody looks."""


def run(store: Store, order: Order, files: list[Path], folder: Path, tell: Tell = quiet) -> dict[str, Any]:
    registry, bots = ModelRegistry(store, SystemClock()), BotControl(store, SystemClock())
    return run_stream_job(order, files, registry, bots, folder, ACTOR, tell)


def test_job_when_run_registers_a_model_that_its_bot_uses_and_draws_a_report(
    store: Store, trades: Path, tmp_path: Path
) -> None:
    BotControl(store, SystemClock()).change(7, {"symbol": "BTCUSDC", "confidence_threshold": 0.3}, ACTOR)
    order = Order("BTCUSDC", "Ann's & first", bot_id=7, assign=True, **ASKED)
    document = run(store, order, [trades], tmp_path)
    assert (document["status"], document["feature_version"], document["objective"]) == ("valid", 1, "binary")
    assert (document["symbol"], document["assigned_to"]) == ("BTCUSDC", [7])
    assert store.get_json("bot:7")["model_id"] == document["id"]
    assert document["metrics"]["made_up_share"] == 0
    assert "warnings" not in document
    assert document["trained_for"]["confidence_threshold"] == 0.3
    assert {"auc", "precision_at_threshold", "pnl_per_trade", "pnl_per_trade_always"} <= set(document["metrics"])
    page = (tmp_path / document["report"]).read_text()
    assert page.count("<svg") == 2
    assert "Ann&#x27;s &amp; first" in page
    assert not re.search(r"<script|https?://(?!www\.w3\.org)|nan", page)
    slot = ModelSlot(ModelRegistry(store, SystemClock()))
    slot.refresh(document["id"])
    assert slot.current is not None, slot.problem


def test_job_when_it_learns_from_bars_says_that_their_seconds_are_made_up(
    store: Store, trades: Path, tmp_path: Path
) -> None:
    bars = write_bars(tmp_path / "minutes.csv", 120)
    document = run(store, Order("BTCUSDC", "m", **ASKED), [trades, bars], tmp_path)
    assert document["metrics"]["made_up_share"] == 0.5
    assert len(document["warnings"]) == 1
    assert document["warnings"][0].startswith("minutes.csv holds bars, no trades")
    assert "minutes.csv holds bars" in (tmp_path / document["report"]).read_text()


def test_job_when_repeated_gives_the_same_text(store: Store, trades: Path, tmp_path: Path) -> None:
    order = Order("BTCUSDC", "m", **ASKED)
    first, second = (run(store, order, [trades], tmp_path) for _ in range(2))
    assert (first["id"], second["id"]) == (1, 2)
    assert first["sha256"] == second["sha256"]


@pytest.mark.parametrize(("step", "at"), [("reading", 1), ("training", 0), ("training", 20), ("training", 60)])
def test_job_when_interrupted_leaves_no_model_and_no_file(
    store: Store, trades: Path, tmp_path: Path, step: str, at: int
) -> None:
    def interrupt(told: str, done: int, _total: int) -> None:
        if told == step and done >= at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(store, Order("BTCUSDC", "m", **ASKED), [trades], tmp_path, interrupt)
    assert list(tmp_path.rglob("*")) == []
    assert list(store.client.scan_iter("*")) == []


def test_job_when_the_registry_refuses_leaves_no_report(
    store: Store, trades: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise ModelError("full")

    monkeypatch.setattr(ModelRegistry, "register", fail)
    with pytest.raises(ModelError):
        run(store, Order("BTCUSDC", "m", **ASKED), [trades], tmp_path)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"name": "<b>"}, ModelError, "name: "),
        ({"symbol": "BTC USD"}, ModelError, "symbol: "),
        ({"bot_id": 9}, ModelConflict, "there is no stream bot 9"),
        ({"bot_id": 1}, ModelConflict, "there is no stream bot 1"),
        ({"assign": True}, ConfigError, "--bot"),
        ({"holding_time": 0}, ConfigError, "holding_time: must be from 1"),
        ({"stop_loss_pct": 1.0}, ConfigError, "stop_loss_pct: "),
        ({"threshold": float("nan")}, ConfigError, "confidence_threshold: "),
        ({"taker_fee": 0.5}, ConfigError, "taker_fee: "),
        ({"symbol": "ETHUSDC2"}, ConfigError, "too few decisions|too little|holds no"),
    ],
)
def test_job_when_asked_for_nonsense_is_refused_by_the_field(
    store: Store, tmp_path: Path, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    short = write_trades(tmp_path / "short.csv", 100)
    with pytest.raises(error, match=words):
        run(store, Order(**{"symbol": "BTCUSDC", "name": "m", **ASKED, **changes}), [short], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_candles_when_a_file_holds_another_symbol_are_refused_naming_it(data: Path) -> None:
    capture = data / "trades" / "binance_spot_btcusdt_20240808_trades.raw.txt.gz"
    with pytest.raises(ConfigError, match="holds no two trades of ETHUSDT a second apart, but of BTCUSDT"):
        list(recorded_candles([capture], "ETHUSDT"))
    assert len(list(recorded_candles([capture, capture], "BTCUSDT"))) == 2


def test_job_when_run_on_a_real_recording_says_what_it_is_worth(store: Store, data: Path, tmp_path: Path) -> None:
    trades = data / "trades" / "binance_xrpeth_20191011_trades.json.gz"
    asked = ASKED | {"holding_time": 300, "profit_target_pct": 0.001, "folds": 2, "rounds": 5, "predict_seconds": 30}
    figures = run(store, Order("XRPETH", "m", **asked), [trades], tmp_path)["metrics"]
    assert 0.4 < figures["auc"] < 0.7
    assert figures["judged_rows"] > 4000
    assert -0.001 < figures["pnl_per_trade_always"] < 0.001
