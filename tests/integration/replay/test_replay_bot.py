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
from tests.market_files import write_bars
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


def test_replay_of_a_bot_when_on_bars_fills_inside_them_and_warns(files: dict[str, Path], tmp_path: Path) -> None:
    """A gap at the open and slippage beyond the low would else give prices that the bar does not have."""
    bars = write_bars(tmp_path / "minutes.csv", 90)
    rows = [line.split(",") for line in bars.read_text().splitlines()[1:]]
    reach = {int(row[0]) // 1000: (Decimal(row[3]), Decimal(row[2])) for row in rows}
    files["bot.json"].write_text(json.dumps({**BOT, "capital_per_trade": 20_000, "holding_time": 40}))
    words = ["replay", "--data", str(bars), "--bot", "7", "--bot-json", str(files["bot.json"])]
    words += ["--model", str(files["model.txt"]), "--settings", str(files["risk.json"]), "--out", str(tmp_path)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "warning: minutes.csv holds bars" in done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert "minutes.csv holds bars" in report["warnings"][0]
    assert len(report["fills"]) > 10
    for fill in report["fills"]:
        low, high = reach[int(parse_rfc3339(fill["time"]).timestamp()) // 60 * 60]
        assert low <= Decimal(fill["price"]) <= high
        assert parse_rfc3339(fill["decision_time"]) <= parse_rfc3339(fill["time"])


@pytest.mark.parametrize("speed", ["0", "-1", "fast", "nan", "inf", "x"])
def test_replay_of_a_bot_when_its_speed_is_none_says_what_is(
    files: dict[str, Path], tmp_path: Path, speed: str
) -> None:
    words = ["replay", "--data", "none.csv", "--bot", "7", "--bot-json", str(files["bot.json"]), "--speed", speed]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, "--speed: must be max, real, or" in done.stderr) == (2, True)


@pytest.mark.parametrize("speed", ["100000x", "100000"])
def test_replay_of_a_bot_when_at_a_speed_writes_the_same_report(
    files: dict[str, Path], tmp_path: Path, speed: str
) -> None:
    bars = write_bars(tmp_path / "minutes.csv", 10)
    words = ["replay", "--data", str(bars), "--bot", "7", "--bot-json", str(files["bot.json"])]
    words += ["--model", str(files["model.txt"]), "--settings", str(files["risk.json"])]
    for folder, more in (("a", []), ("b", ["--speed", speed])):
        assert CliRunner().invoke(app, [*words, "--out", str(tmp_path / folder), *more]).exit_code == 0
    assert (tmp_path / "a" / "report.json").read_bytes() == (tmp_path / "b" / "report.json").read_bytes()


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
