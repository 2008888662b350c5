"""``sixbot replay``: the cycle over recorded bars, faster than real time, with a report."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from shared.config import load_config
from shared.documents import Reading, RiskSettings, TradingSettings, dump_json, parse_json
from shared.errors import ConfigError, DocumentError
from worker.cli.common import Exit, exit_codes, print_json
from worker.trading.ports import Switches


def replay(
    data: Annotated[list[Path], typer.Option(help="A bar file to replay; may be given several times.")],
    train: Annotated[
        list[Path] | None, typer.Option(help="Earlier bars to train on; without it the first half trains.")
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(help='JSON: {"trading_settings": {…}, "risk_settings": {…}}, or the fields of either.'),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the report.")] = None,
    cash: Annotated[str, typer.Option(help="Starting cash.")] = "100000",
    cycle_seconds: Annotated[float | None, typer.Option(help="Instead of CYCLE_SECONDS.", min=1)] = None,
    horizon: Annotated[int | None, typer.Option(help="Instead of PREDICT_HORIZON_MINUTES.", min=1)] = None,
    bot: Annotated[int | None, typer.Option(help="Replay trades through this stream bot instead.", min=2)] = None,
    bot_json: Annotated[Path | None, typer.Option(help="The bot's fields, instead of those in Redis.")] = None,
    model: Annotated[Path | None, typer.Option(help="The bot's model as LightGBM text, not the registry's.")] = None,
    speed: Annotated[
        str, typer.Option(help="max, real, or how many times as fast as recorded, like 10x; for --bot.")
    ] = "max",
    json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON value.")] = False,
) -> None:
    """Replay bars through the trading cycle, with a model trained only on bars before them; or trades through a bot."""
    if bot is not None:
        from worker.cli.replay_bot import replay_bot

        with exit_codes():
            done = replay_bot(data, bot, bot_json, model, read_switches(settings), out, _cash(cash), speed, json=json)
        raise typer.Exit(Exit.OK if done else Exit.INTERRUPTED)
    with exit_codes():
        config = load_config()
        switches = read_switches(settings)
        document, where, interrupted = _run(
            config,
            data,
            train or [],
            switches,
            out,
            _cash(cash),
            cycle_seconds,
            horizon or config.predict_horizon_minutes,
        )
    if json:
        print_json({"report": str(where.with_suffix(".json")), "page": str(where), **document["summary"]})
    else:
        _tell(document, where)
    raise typer.Exit(Exit.INTERRUPTED if interrupted else Exit.OK)


def _cash(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except ArithmeticError:
        value = Decimal(0)
    if not value.is_finite() or value <= 0:
        raise ConfigError(f"--cash: {text!r} is no positive amount")
    return value


def read_switches(path: Path | None) -> Switches:
    """The documents that a replay runs with: the contract's defaults, switched on. Raises ConfigError."""
    found: dict[str, Any] = {}
    if path is not None:
        try:
            value = parse_json(path.read_bytes())
        except (OSError, DocumentError) as error:
            raise ConfigError(f"--settings {path}: {error}") from error
        if not isinstance(value, dict):
            raise ConfigError(f"--settings {path}: must be a JSON object")
        found = value
    nested = "trading_settings" in found or "risk_settings" in found
    limits = {} if nested else {n: v for n, v in found.items() if n in RiskSettings.model_fields}
    trading = found.get("trading_settings", {}) if nested else {n: v for n, v in found.items() if n not in limits}
    risk = found.get("risk_settings", {}) if nested else limits
    try:
        settings_raw = dump_json({**trading, "enabled": True})
        risk_raw = dump_json({**risk, "emergency_stop_active": False})
        return Switches(
            Reading(settings_raw, TradingSettings.parse(settings_raw, TradingSettings())),
            Reading(risk_raw, RiskSettings.parse(risk_raw, RiskSettings())),
        )
    except (DocumentError, TypeError) as error:
        raise ConfigError(f"--settings {path}: {error}") from error


def _run(
    config: Any,
    data: list[Path],
    train: list[Path],
    switches: Switches,
    out: Path | None,
    cash: Decimal,
    cycle_seconds: float | None,
    horizon: int,
) -> tuple[dict[str, Any], Path, bool]:
    from worker.core.types import OrderType
    from worker.feeds.bars import load_series
    from worker.models.training import train as train_model
    from worker.predictors.lightgbm import LoadedModel
    from worker.replay.predictor import ReplayPredictor
    from worker.replay.report import report_document, write_report
    from worker.replay.run import Replay, ReplayOptions, refuse_overlap, split_for_training

    replayed = [s.minutes().regular() for s in load_series(data)]
    if train:
        trained = [s.minutes().regular() for s in load_series(train)]
        refuse_overlap(trained, replayed)
    else:
        trained, replayed = split_for_training(replayed)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    interrupted = False
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("training", total=None)
        model = train_model(trained, horizon, lambda done, total: progress.update(task, completed=done, total=total))
        predictor = ReplayPredictor(LoadedModel(model.text, "lightgbm:replay"), replayed)
        options = ReplayOptions(
            cash=cash,
            cycle_seconds=cycle_seconds or config.cycle_seconds,
            order_type=OrderType(config.order_type),
            limit_offset_pct=config.limit_offset_pct,
            day_zone=config.trading_day_tz,
        )
        run = Replay(replayed, switches, predictor, options)
        progress.reset(task, description="replaying", total=run.total_bars)
        try:
            run.run(lambda done: progress.update(task, completed=done))
        except KeyboardInterrupt:
            interrupted = True
    facts = {"feature_version": model.feature_version, "horizon_minutes": horizon, "metrics": model.metrics}
    used = {"replayed": [p.name for p in data], "trained": [p.name for p in train] or ["the first half"]}
    document = report_document(run.result, facts, used)
    folder = out or config.sixbot_home / "replays" / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    _, page = write_report(folder, document)
    return document, page, interrupted


def _tell(document: dict[str, Any], page: Path) -> None:
    figures = document["summary"]
    console = Console(highlight=False)
    largest = figures["largest_prediction"]
    shown = "none" if largest is None else f"{largest:.5f}"
    console.print(f"{figures['bars']} bars, {figures['cycles']} cycles, {figures['orders']} orders")
    console.print(
        f"thresholds: buy above {figures['buy_threshold']}, sell below -{figures['sell_threshold']}; "
        f"largest prediction {shown}",
        soft_wrap=True,
    )
    console.print(
        f"profit {Decimal(figures['profit']):+.2f}, fees {Decimal(figures['fees']):.2f}, "
        f"round trips {figures['trades']} ({figures['wins']} won, {figures['losses']} lost)",
        soft_wrap=True,
    )
    if figures["denials"]:
        denied = ", ".join(f"{code} {count}" for code, count in figures["denials"].items())
        console.print(f"denied: {denied}", soft_wrap=True)
    console.print(f"report: {page.with_suffix('.json')}\npage:   {page}", soft_wrap=True)
