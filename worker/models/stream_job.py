"""One training of a stream model, from files to the registry; one that is interrupted leaves nothing behind."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.bots import CYCLE_BOT, BotControl, BotSettings
from shared.control import Actor
from shared.errors import ConfigError
from shared.model_terms import ModelConflict, checked_name, checked_symbol
from worker.core.exits import ExitRule
from worker.feeds.contracts import Contracts
from worker.models.recorded import recorded_candles
from worker.models.registry import ModelRegistry
from worker.models.report import write_report
from worker.models.stream_training import StreamJob, train_stream

Tell = Callable[[str, int, int], None]
"""What is being done, how far it is, and how far it goes."""


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody asked for. What is None comes from the bot ``bot_id``, else from a bot's defaults."""

    symbol: str
    name: str
    bot_id: int | None = None
    holding_time: int | None = None
    profit_target_pct: float | None = None
    stop_loss_pct: float | None = None
    threshold: float | None = None
    maker_fee: float = 0.0
    taker_fee: float = 0.001
    predict_seconds: int = 2
    folds: int = 5
    rounds: int = 100
    seed: int = 6
    assign: bool = False


def stream_job(order: Order, bots: BotControl) -> StreamJob:
    """The exit rule to train for. Raises ConfigError where a value is out of bounds, ModelConflict without the bot."""
    settings = BotSettings(bot_id=CYCLE_BOT + 1)
    if order.bot_id is not None:
        if order.bot_id == CYCLE_BOT or order.bot_id not in bots.ids():
            raise ModelConflict(f"there is no stream bot {order.bot_id}")
        settings = bots.read(order.bot_id).value
    elif order.assign:
        raise ConfigError("to assign the model, name the bot with --bot")
    rule = ExitRule(
        int(_chosen("holding_time", order.holding_time, settings.holding_time, 1, 86_400)),
        _chosen("profit_target_pct", order.profit_target_pct, settings.profit_target_pct, 1e-9, 1),
        _chosen("stop_loss_pct", order.stop_loss_pct, settings.stop_loss_pct, 1e-9, 0.999999),
        _chosen("maker_fee", order.maker_fee, 0, -0.01, 0.1),
        _chosen("taker_fee", order.taker_fee, 0, -0.01, 0.1),
    )
    threshold = _chosen("confidence_threshold", order.threshold, settings.confidence_threshold, 1e-9, 1)
    return StreamJob(
        rule,
        threshold,
        int(_chosen("predict_seconds", order.predict_seconds, 2, 1, 3600)),
        int(_chosen("folds", order.folds, 5, 1, 50)),
        int(_chosen("rounds", order.rounds, 100, 1, 5000)),
        order.seed,
    )


def _chosen(name: str, asked: float | None, otherwise: Any, least: float, most: float) -> float:
    value = float(otherwise) if asked is None else float(asked)
    if not least <= value <= most:
        raise ConfigError(f"{name}: must be from {least:g} to {most:g} (got {value:g})")
    return value


def run_stream_job(
    order: Order,
    paths: Sequence[Path],
    registry: ModelRegistry,
    bots: BotControl,
    folder: Path,
    actor: Actor,
    tell: Tell,
    contracts: Contracts | None = None,
) -> dict[str, Any]:
    """Train, write the report into ``folder``, register; returns the document, ``report`` naming the page and
    ``warnings`` saying what the figures cannot be trusted for, where there is anything.

    An interruption at any point leaves neither a report nor a model. Raises ConfigError, ModelError or StoreError.
    """
    name, symbol = checked_name(order.name), checked_symbol(order.symbol)
    job = stream_job(order, bots)
    tell("reading", 0, len(paths))
    warnings: list[str] = []
    series = recorded_candles(paths, symbol, lambda done: tell("reading", done, len(paths)), contracts, warnings.append)
    result = train_stream(series, job, lambda done, total: tell("training", done, total))
    result.model.metrics["made_up_share"] = len(warnings) / len(paths)
    if warnings:
        result.model.facts["warnings"] = warnings
    report = folder / f"{hashlib.sha256(result.model.text.encode()).hexdigest()[:16]}.html"
    write_report(report, result, f"{name}: {symbol}")
    try:
        result.model.facts["report"] = report.name
        number = registry.register(result.model, name, order.bot_id if order.assign else None, symbol, actor)
    except BaseException:
        report.unlink(missing_ok=True)
        raise
    return registry.get(number)
