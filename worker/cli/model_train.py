"""``sixbot model train``: models of the cycle on bars, models of stream bots on recorded trades."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from shared.bots import CYCLE_BOT, BotControl
from shared.clock import SystemClock
from shared.config import load_config
from shared.errors import ConfigError
from worker.cli.common import exit_codes, open_store, print_json
from worker.cli.model import open_registry
from worker.cli.operate import actor
from worker.feeds.contracts import read_contracts
from worker.models.stream_job import Order, run_stream_job

KINDS = ("cycle", "stream")


def train(
    data: Annotated[list[Path], typer.Option(help="A file of bars or trades; may be given several times.")],
    kind: Annotated[str, typer.Option(help="cycle or stream; stream where --symbol or --bot is given.")] = "",
    name: Annotated[str, typer.Option(help="What to call it.")] = "",
    horizon: Annotated[int, typer.Option(help="Cycle: minutes ahead.", min=1, max=1440)] = 60,
    symbol: Annotated[str, typer.Option(help="Stream: the symbol to train for.")] = "",
    bot: Annotated[int | None, typer.Option(help="Stream: the bot whose exit rule counts.")] = None,
    holding_time: Annotated[int | None, typer.Option(help="Stream: seconds; else the bot's.")] = None,
    profit_target_pct: Annotated[float | None, typer.Option(help="Stream: a fraction; else the bot's.")] = None,
    stop_loss_pct: Annotated[float | None, typer.Option(help="Stream: a fraction; else the bot's.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Stream: least confidence; else the bot's.")] = None,
    maker_fee: Annotated[float, typer.Option(help="Stream: a fraction, of entry and take-profit.")] = 0.0,
    taker_fee: Annotated[float, typer.Option(help="Stream: a fraction, of every other exit.")] = 0.001,
    folds: Annotated[int, typer.Option(help="Stream: steps of walking forward.")] = 5,
    rounds: Annotated[int, typer.Option(help="Stream: trees.")] = 100,
    seed: Annotated[int, typer.Option(help="Stream: the same seed gives the same model.")] = 6,
    out: Annotated[Path | None, typer.Option(help="Stream: folder of the report; SIXBOT_HOME/models.")] = None,
    assign: Annotated[
        bool | None, typer.Option(help="Use it from now on: the cycle does unless told not to, --bot only when told.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON value.")] = False,
) -> None:
    """Train a model on recorded data and register it; Ctrl-C leaves nothing behind."""
    with exit_codes():
        chosen = _kind(kind, symbol, bot)
        if chosen == "cycle":
            _train_cycle(data, name, horizon, assign is not False, json)
            return
        order = Order(
            symbol=_symbol(symbol, bot),
            name=name or f"{symbol or f'bot {bot}'} stream",
            bot_id=bot,
            holding_time=holding_time,
            profit_target_pct=profit_target_pct,
            stop_loss_pct=stop_loss_pct,
            threshold=threshold,
            maker_fee=maker_fee,
            taker_fee=taker_fee,
            folds=folds,
            rounds=rounds,
            seed=seed,
            assign=bool(assign),
        )
        _train_stream(order, data, out, json)


def _kind(kind: str, symbol: str, bot: int | None) -> str:
    if not kind:
        return "stream" if symbol or bot is not None else "cycle"
    if kind not in KINDS:
        raise ConfigError(f"--kind: must be cycle or stream (got {kind!r})")
    if kind == "cycle" and (symbol or bot not in (None, CYCLE_BOT)):
        raise ConfigError("--symbol and --bot are for stream models: a cycle model serves every ticker")
    return kind


def _symbol(symbol: str, bot: int | None) -> str:
    if symbol or bot is None:
        if not symbol:
            raise ConfigError("--symbol: name the symbol to train for")
        return symbol
    return _bots().read(bot).value.symbol


def _bots() -> BotControl:
    return BotControl(open_store(), SystemClock())


@contextmanager
def _bar() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on stderr; each step begins it anew."""
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task, shown = progress.add_task("", total=None), ""

        def tell(step: str, done: int, total: int) -> None:
            nonlocal shown
            if step != shown:
                progress.reset(task, description=step)
                shown = step
            progress.update(task, completed=done, total=total)

        yield tell


def _train_cycle(data: Sequence[Path], name: str, horizon: int, assign: bool, json: bool) -> None:
    from worker.feeds.bars import load_series
    from worker.models.child import train_in_child

    registry = open_registry()
    series = [s.minutes().regular() for s in load_series(data)]
    with _bar() as tell:
        model = train_in_child(series, horizon, lambda done, total: tell("training", done, total))
    named = name or ", ".join(s.ticker for s in series)[:80]
    number = registry.register(model, named, CYCLE_BOT if assign else None)
    if json:
        print_json({"id": number, "metrics": model.metrics, "feature_version": model.feature_version})
    else:
        typer.echo(f"model {number}{' is used by the cycle' if assign else ''}: {model.metrics}")


def _train_stream(order: Order, data: Sequence[Path], out: Path | None, json: bool) -> None:
    config, registry, bots = load_config(), open_registry(), _bots()
    folder = out or config.model_dir
    with _bar() as tell:
        contracts = read_contracts(config.contract_sizes)
        document = run_stream_job(order, data, registry, bots, folder, actor(), tell, contracts)
    for words in document.get("warnings", ()):
        typer.echo(f"sixbot: warning: {words}", err=True)
    if json:
        print_json({name: document[name] for name in ("id", "metrics", "feature_version", "report", "trained_for")})
        return
    _say(document, folder)


def _say(document: Mapping[str, Any], folder: Path) -> None:
    figures = document["metrics"]
    used = document["assigned_to"]
    typer.echo(f"model {document['id']}" + (f" is used by bot {', '.join(map(str, used))}" if used else ""))
    typer.echo(f"AUC {figures['auc']:.3f} over {figures['judged_rows']:,.0f} decisions that it had not seen")
    typer.echo(
        f"at confidence {figures['threshold']:g}: {figures['trades_at_threshold']:,.0f} trades "
        f"({figures['trades_apart']:,.0f} of them holding_time apart), "
        f"{figures['precision_at_threshold']:.1%} reach the take-profit first (of all: {figures['base_rate']:.1%})"
    )
    typer.echo(
        f"profit per trade after fees: {figures['pnl_per_trade']:+.5%} ± {figures['pnl_standard_error']:.5%}, "
        f"always trading {figures['pnl_per_trade_always']:+.5%}, never 0"
    )
    typer.echo(f"report: {folder / document['report']}")
