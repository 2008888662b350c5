"""``sixbot replay --bot``: a stream bot over recorded trades."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from heapq import merge
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from shared.bots import BotControl, BotSettings, default_bot, judge_bot
from shared.clock import SystemClock
from shared.config import Config, load_config
from shared.errors import ConfigError
from worker.cli.common import open_store, print_json
from worker.predictors.row import RowPredictor
from worker.trading.ports import Switches

if TYPE_CHECKING:
    from worker.core.trades import Trade
    from worker.feeds.contracts import Contracts


def replay_bot(
    data: list[Path],
    bot_id: int,
    bot_json: Path | None,
    model: Path | None,
    switches: Switches,
    out: Path | None,
    cash: Decimal,
    speed: str,
    *,
    json: bool,
) -> bool:
    """Run it and write the report; whether it came to its end. Raises ConfigError, StoreError."""
    from worker.compose.bots import rhythm_of
    from worker.feeds.contracts import read_contracts
    from worker.replay.bot_report import bot_report, render_bot
    from worker.replay.bots import BotReplay, BotReplayOptions
    from worker.replay.report import write_report

    config, pace = load_config(), _pace(speed)
    settings = _settings(bot_id, bot_json)
    predictor = load_model(settings, model)
    options = BotReplayOptions(cash=cash, day_zone=config.trading_day_tz, rhythm=rhythm_of(config))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=None)
        trades, warnings = read_recording(data, settings.symbol, read_contracts(config.contract_sizes))
        from_bars = len(warnings) == len(data)
        run = BotReplay(trades, settings, predictor, switches, options, from_bars=from_bars)
        progress.reset(task, description="replaying", total=run.total)
        try:
            run.run(lambda done: progress.update(task, completed=done), pace)
        except KeyboardInterrupt:
            progress.stop()
    facts = {"source": predictor.source if model is None else model.name, "kind": predictor.kind}
    document = bot_report(run.result, facts, [p.name for p in data], warnings)
    for words in warnings:
        typer.echo(f"sixbot: warning: {words}", err=True)
    _, page = write_report(_folder(config, out), document, render_bot)
    if json:
        print_json({"report": str(page.with_suffix(".json")), "page": str(page), **document["summary"]})
    else:
        _tell(document, page)
    return run.result.complete


def read_recording(paths: list[Path], symbol: str, contracts: Contracts | None = None) -> tuple[list[Trade], list[str]]:
    """The trades of all files by time, and a warning for each that holds bars. Raises ConfigError."""
    from worker.feeds.base import FeedStats
    from worker.feeds.trade_files import made_up_warning, read_trades

    found, warnings = [], []
    for path in paths:
        stats = FeedStats()
        found.append(list(read_trades(path, symbol, stats, contracts)))
        if stats.made_up:
            warnings.append(made_up_warning(path))
    return list(merge(*found, key=lambda t: t.received_at)), warnings


def _folder(config: Config, out: Path | None) -> Path:
    return out or config.sixbot_home / "replays" / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


def _settings(bot_id: int, path: Path | None) -> BotSettings:
    """The bot's document: a file's, else the one in Redis. Raises ConfigError."""
    if path is None:
        reading = BotControl(open_store(), SystemClock()).read(bot_id)
        if reading.raw is None:
            raise ConfigError(f"there is no bot {bot_id}: create it, or give its fields with --bot-json")
    else:
        try:
            reading = judge_bot(bot_id, path.read_bytes(), default_bot(bot_id))
        except OSError as error:
            raise ConfigError(f"--bot-json {path}: {error}") from error
    if reading.error is not None:
        raise ConfigError(f"bot {bot_id}: {reading.error}")
    return reading.value


def load_model(settings: BotSettings, path: Path | None) -> RowPredictor:
    """The model of a file, else the registry's. Raises ConfigError."""
    from worker.core.features import FEATURE_NAMES, FEATURE_VERSION
    from worker.models.probe import judge_in_child
    from worker.models.registry import ModelRegistry
    from worker.models.validation import ModelRefused
    from worker.predictors.row import load_row_predictor
    from worker.predictors.slot import ModelSlot

    if path is None:
        slot = ModelSlot(ModelRegistry(open_store(), SystemClock()), FEATURE_NAMES, FEATURE_VERSION)
        slot.refresh(settings.model_id, settings.buy_class)
        if slot.current is None:
            raise ConfigError(f"{slot.problem}: register one, or give --model")
        return slot.current
    try:
        raw = path.read_bytes()
        judge_in_child(raw)
        return load_row_predictor(raw.decode(), path.name, FEATURE_NAMES, str(FEATURE_VERSION), settings.buy_class)
    except (OSError, UnicodeDecodeError, ModelRefused) as error:
        raise ConfigError(f"--model {path}: {error}") from error


def _pace(speed: str) -> Callable[[int], None] | None:
    """Waits until the recording's time has come, ``speed`` times as fast as it came. Raises ConfigError."""
    if speed == "max":
        return None
    try:
        factor = 1.0 if speed == "real" else float(speed.removesuffix("x"))
    except ValueError:
        factor = 0.0
    if not 0 < factor < float("inf"):
        raise ConfigError(
            f"--speed: must be max, real, or how many times as fast as recorded, like 10x (got {speed!r})"
        )
    began: list[tuple[float, int]] = []

    def wait(received_at: int) -> None:
        if not began:
            began.append((time.monotonic(), received_at))
        start, first = began[0]
        time.sleep(max(start + (received_at - first) / 1e6 / factor - time.monotonic(), 0.0))

    return wait


def _tell(document: dict[str, Any], page: Path) -> None:
    figures, console = document["summary"], Console(highlight=False)
    console.print(
        f"{figures['trades_replayed']} trades, {figures['predictions']} predictions, {figures['orders']} orders"
    )
    console.print(
        f"profit {Decimal(figures['profit']):+.4f}, fees {Decimal(figures['fees']):.4f}, "
        f"round trips {figures['round_trips']} ({figures['wins']} won, {figures['losses']} lost), "
        f"open {figures['open_positions']}",
        soft_wrap=True,
    )
    for reason, row in document["exit_reasons"].items():
        if row["count"]:
            console.print(f"  {reason} {row['count']}, profit {Decimal(row['profit']):+.4f}")
    if figures["denials"]:
        told = ", ".join(f"{code} {count}" for code, count in figures["denials"].items())
        console.print(f"not entered: {told}", soft_wrap=True)
    console.print(f"report: {page.with_suffix('.json')}\npage:   {page}", soft_wrap=True)
