"""Replay over real minutes: the report's ledger against a recomputation that knows nothing of sixbot's."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.support import eventually
from worker.cli.main import app
from worker.feeds.bars import load_series

LOW = {"buy_threshold_pct": 0.0005, "sell_threshold_pct": 0.0005, "strategy": "BALANCED", "max_position_per_trade": 5}
OPEN_RISK = {"cooldown_minutes": 0, "max_position_per_ticker": 100}
LEAN = "bars/lean/"
AAPL = [f"{LEAN}equity__usa__minute__aapl__2014060{d}_trade.zip" for d in (5, 6)]
SPY = [f"{LEAN}equity__usa__minute__spy__2013100{d}_trade.zip" for d in (4, 7, 8)]
REPLAYED = 120_000
BTC = f"{LEAN}crypto__coinbase__minute__btcusd__20170903_trade.zip"


def replay(folder: Path, data: list[Path], train: list[Path], settings: object = None, *more: str) -> dict[str, Any]:
    arguments = [part for file in data for part in ("--data", str(file))]
    arguments += [part for file in train for part in ("--train", str(file))]
    if settings is not None:
        (folder / "settings.json").write_text(json.dumps(settings))
        arguments += ["--settings", str(folder / "settings.json")]
    done = run(folder, [*arguments, "--out", str(folder / "report"), *more])
    assert done.exit_code == 0, done.output
    report: dict[str, Any] = json.loads((folder / "report" / "report.json").read_text())
    assert (folder / "report" / "report.html").read_text().count("<svg") == 2
    return report


def run(folder: Path, arguments: list[str]) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(app, ["replay", *arguments], env={"SIXBOT_HOME": str(folder), "COLUMNS": "200"})


def recompute(report: dict[str, Any], files: list[Path]) -> None:
    """Cash and equity from the fills and the files' closes alone; every fill after its decision, inside its bar."""
    bars = {(s.ticker, b.start): b for s in load_series(files) for b in s.regular().bars}
    cash, held = Decimal(report["starting_cash"]), dict.fromkeys({t for t, _ in bars}, Decimal(0))
    fills = sorted(report["fills"], key=lambda f: f["time"])
    close: dict[str, Decimal] = {}
    done = 0
    for point in report["equity"]:
        at = datetime.fromisoformat(point["time"])
        while done < len(fills) and datetime.fromisoformat(fills[done]["time"]) < at:
            fill = fills[done]
            qty, price, fee = (Decimal(fill[n]) for n in ("qty", "price", "fee"))
            filled_at = datetime.fromisoformat(fill["time"])
            bar = bars[fill["ticker"], filled_at]
            assert Decimal(repr(bar.low)) <= price <= Decimal(repr(bar.high))
            assert datetime.fromisoformat(fill["decision_time"]) <= filled_at
            sign = 1 if fill["side"] == "buy" else -1
            cash -= sign * qty * price + fee
            held[fill["ticker"]] += sign * qty
            assert held[fill["ticker"]] >= 0
            done += 1
        for ticker in held:
            bar_ = bars.get((ticker, at - timedelta(minutes=1)))
            if bar_ is not None:
                close[ticker] = Decimal(repr(bar_.close))
        value = sum((q * close[t] for t, q in held.items() if q), Decimal(0))
        assert Decimal(point["cash"]) == cash
        assert Decimal(point["positions_value"]) == value
        assert Decimal(point["equity"]) == cash + value
    assert done == len(fills)
    assert Decimal(report["summary"]["ending_equity"]) == Decimal(report["equity"][-1]["equity"])
    assert Decimal(report["summary"]["fees"]) == sum((Decimal(f["fee"]) for f in fills), Decimal(0))


@pytest.mark.parametrize("limits", [{}, OPEN_RISK], ids=["default_limits", "open_limits"])
def test_replay_when_run_on_real_apple_minutes_has_a_ledger_that_can_be_recomputed(
    data: Path, tmp_path: Path, limits: dict[str, int]
) -> None:
    settings = {"trading_settings": LOW, "risk_settings": limits}
    report = replay(tmp_path, [data / AAPL[1]], [data / AAPL[0]], settings)
    assert len(report["equity"]) == 390
    assert report["fills"]
    recompute(report, [data / AAPL[1]])


def test_replay_when_run_over_several_days_and_on_crypto_can_be_recomputed(data: Path, tmp_path: Path) -> None:
    (tmp_path / "spy").mkdir()
    settings = {"trading_settings": LOW, "risk_settings": OPEN_RISK}
    report = replay(tmp_path / "spy", [data / SPY[1], data / SPY[2]], [data / SPY[0]], settings)
    assert report["fills"]
    recompute(report, [data / SPY[1], data / SPY[2]])
    (tmp_path / "btc").mkdir()
    halves = replay(tmp_path / "btc", [data / BTC], [], settings)
    assert halves["fills"]
    assert len(halves["equity"]) == 720
    recompute(halves, [data / BTC])


def test_replay_when_run_with_the_defaults_trades_nothing_and_says_why(data: Path, tmp_path: Path) -> None:
    report = replay(tmp_path, [data / AAPL[1]], [data / AAPL[0]])
    figures = report["summary"]
    assert report["fills"] == []
    assert (figures["buy_threshold"], figures["sell_threshold"], figures["trades"]) == ("0.075", "0.075", 0)
    assert 0 < figures["largest_prediction"] < 0.075


def test_replay_when_run_twice_is_the_same(data: Path, tmp_path: Path) -> None:
    reports = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        reports.append(replay(tmp_path / name, [data / AAPL[1]], [data / AAPL[0]], LOW))
    assert reports[0] == reports[1]


def test_replay_when_the_model_would_know_the_future_is_refused(data: Path, tmp_path: Path) -> None:
    done = run(tmp_path, ["--data", str(data / AAPL[0]), "--train", str(data / AAPL[1])])
    assert done.exit_code == 2
    assert "has seen the replayed span" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--data", "none.zip"], "no such file"),
        (["--data", "{btc}", "--settings", "{bad}"], "buy_threshold_pct"),
        (["--data", "{btc}", "--cash", "NaN"], "--cash"),
    ],
)
def test_replay_when_asked_wrongly_says_what_is_wrong(
    data: Path, tmp_path: Path, arguments: list[str], told: str
) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('{"buy_threshold_pct": "high"}')
    filled = [a.format(btc=data / BTC, bad=bad) for a in arguments]
    done = run(tmp_path, filled)
    assert done.exit_code == 2
    assert told in done.stderr


def test_replay_when_interrupted_still_writes_the_report_of_what_ran(tmp_path: Path) -> None:
    """Seeded bars, enough of them that the signal comes in the middle."""
    from worker.venues.simulated.market import SeededMarket

    until = datetime(2026, 10, 5, tzinfo=UTC)
    rows = SeededMarket(6, ["AAPL"]).bars("AAPL", 5000 + REPLAYED, until)
    lines = [f"{int(b.start.timestamp() * 1000)},{b.open},{b.high},{b.low},{b.close},{b.volume}" for b in rows]
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / "AAPL-1m.csv").write_text("\n".join(lines[:5000]))
    (tmp_path / "AAPL-1m.csv").write_text("\n".join(lines[5000:]))
    settings = {"trading_settings": LOW, "risk_settings": OPEN_RISK}  # orders at most cycles, so that it takes a while
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "worker", "replay", "--data", "AAPL-1m.csv", "--out", "report"]
    command += ["--settings", "settings.json", "--train", "before/AAPL-1m.csv"]
    environment = {**os.environ, "SIXBOT_HOME": str(tmp_path), "PYTHONPATH": str(Path.cwd()), "CYCLE_SECONDS": "60"}
    terminal, inside = pty.openpty()
    slow = ["nice", "-n", "19", *command]  # on a busy machine this process comes first
    child = subprocess.Popen(slow, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=inside)
    os.close(inside)
    shown = bytearray()
    try:
        eventually(lambda: _under_way(terminal, shown), 150, what=f"the bar to move: {bytes(shown[-300:])!r}")
        child.send_signal(signal.SIGINT)
        eventually(lambda: _read(terminal, shown) or child.poll() is not None, 100, what="the replay to end")
        assert child.wait(30) == 130
    finally:
        child.kill()
        child.wait()
        os.close(terminal)
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["complete"] is False
    assert 0 < len(report["equity"]) < REPLAYED


def _under_way(terminal: int, shown: bytearray) -> bool:
    """Whether the progress bar, on a terminal of its own, has counted bars of the replay."""
    _read(terminal, shown)
    return re.search(rb"replaying.{0,200}?[1-9]\d*/%d" % REPLAYED, bytes(shown), re.DOTALL) is not None


def _read(terminal: int, shown: bytearray) -> bool:
    """What the bar has drawn since, so that its writer never waits; false always."""
    if select.select([terminal], [], [], 0.05)[0]:
        with contextlib.suppress(OSError):  # the other end is closed
            shown += os.read(terminal, 65536)
    return False
