"""``sixbot replay --bot`` over a real capture: repeatable, never before its decision, whole figures."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from shared.bots import default_bot
from shared.clock import parse_rfc3339
from tests.builders import switches
from tests.market import SPOT
from tests.servers.bots import model_text
from tests.servers.stack import FREE_RISK
from worker.cli.main import app
from worker.core.features import FEATURE_NAMES, FEATURE_VERSION
from worker.core.trades import Trade
from worker.feeds.trade_files import read_files
from worker.predictors.row import load_row_predictor
from worker.replay.bot_report import bot_report
from worker.replay.bots import BotReplay, BotReplayOptions

BOT = {
    "symbol": "BTCUSDT",
    "confidence_threshold": 0.0001,
    "profit_target_pct": 0.0005,
    "stop_loss_pct": 0.002,
    "maker_order_timeout": 20,
}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    found = {name: tmp_path / name for name in ("bot.json", "model.txt", "risk.json")}
    found["bot.json"].write_text(json.dumps(BOT))
    found["model.txt"].write_text(model_text())
    found["risk.json"].write_text(json.dumps({"risk_settings": json.loads(FREE_RISK)}))
    return found


def replayed(data: Path, files: dict[str, Path], out: Path, *more: str) -> Any:
    words = ["replay", "--data", str(data / SPOT), "--bot", "7", "--bot-json", str(files["bot.json"])]
    words += ["--model", str(files["model.txt"]), "--settings", str(files["risk.json"]), "--out", str(out), *more]
    return CliRunner().invoke(app, words)


def test_replay_of_a_bot_when_repeated_writes_the_same_report_and_its_figures_add_up(
    data: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    first = replayed(data, files, tmp_path / "a", "--json")
    assert first.exit_code == 0, first.output
    assert replayed(data, files, tmp_path / "b").exit_code == 0
    raw = (tmp_path / "a" / "report.json").read_bytes()
    assert raw == (tmp_path / "b" / "report.json").read_bytes()
    assert (tmp_path / "a" / "report.html").read_bytes() == (tmp_path / "b" / "report.html").read_bytes()
    report = json.loads(raw)
    assert json.loads(first.stdout)["trades_replayed"] == report["summary"]["trades_replayed"] == 9757
    assert report["fills"]
    assert all(parse_rfc3339(f["decision_time"]) <= parse_rfc3339(f["time"]) for f in report["fills"])
    reasons = report["exit_reasons"]
    assert set(reasons) == {"TP_HIT", "SL_HIT", "TIMEOUT", "MANUAL", "LIQUIDATION", "STOP"}
    closed = [p for p in report["positions"] if p["realized_pnl"] is not None]
    assert sum(r["count"] for r in reasons.values()) == len(closed) == report["summary"]["round_trips"] > 0
    profit = sum((Decimal(p["realized_pnl"]) for p in closed), Decimal(0))
    assert profit == sum((Decimal(r["profit"]) for r in reasons.values()), Decimal(0))
    assert profit == Decimal(report["summary"]["realized_profit"])
    cash = Decimal(report["starting_cash"])
    for fill in report["fills"]:
        sign = 1 if fill["side"] == "sell" else -1
        cash += sign * Decimal(fill["qty"]) * Decimal(fill["price"]) - Decimal(fill["fee"])
    assert cash == Decimal(report["equity"][-1]["cash"])


@pytest.mark.parametrize(
    ("bot", "told"),
    [({**BOT, "symbol": "ETHUSDT"}, "no trade of ETHUSDT"), ({**BOT, "stop_loss_pct": "1"}, "stop_loss_pct: ")],
)
def test_replay_of_a_bot_when_its_document_does_not_fit_is_refused_with_the_field(
    data: Path, files: dict[str, Path], tmp_path: Path, bot: dict[str, object], told: str
) -> None:
    files["bot.json"].write_text(json.dumps(bot))
    result = replayed(data, files, tmp_path / "a")
    assert (result.exit_code, told in result.stderr) == (2, True), result.stderr


def test_replay_of_a_bot_when_interrupted_reports_what_ran(data: Path) -> None:
    settings = default_bot(7).model_copy(update={"symbol": "BTCUSDT"})
    model = load_row_predictor(model_text(), "test", FEATURE_NAMES, str(FEATURE_VERSION))
    trades: list[Trade] = list(read_files([data / SPOT]))
    run = BotReplay(trades, settings, model, switches(json.loads(FREE_RISK)), BotReplayOptions())

    def interrupt(done: int) -> None:
        if done >= 5000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.run(interrupt, every=1000)
    report = bot_report(run.result, {}, [])
    assert (report["complete"], 5000 <= report["summary"]["trades_replayed"] < len(trades)) == (False, True)
