"""What takes no server: replay, features, predictions, and how the cycle grows with its tickers."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from shared.documents import Reading, RiskSettings, TradingSettings, dump_json
from tests.bench.table import Row, median, p99, timed
from worker.core.bar_features import NAMES, feature_matrix
from worker.feeds.bars import BarSeries
from worker.models.training import train
from worker.predictors.lightgbm import LoadedModel
from worker.replay.predictor import ReplayPredictor
from worker.replay.run import Replay, ReplayOptions
from worker.trading.ports import Switches
from worker.venues.simulated.market import SeededMarket

UNTIL = datetime(2026, 10, 5, tzinfo=UTC)
TRAINING_BARS, REPLAYED_BARS, REPEATS = 10_000, 500_000, 3
Tell = Callable[[str], None]


def switched_on(**settings: object) -> Switches:
    raw, risk = dump_json({"enabled": True, **settings}), dump_json({})
    return Switches(
        Reading(raw, TradingSettings.parse(raw, TradingSettings())),
        Reading(risk, RiskSettings.parse(risk, RiskSettings())),
    )


def series_of(ticker: str, count: int) -> BarSeries:
    return BarSeries(ticker, tuple(SeededMarket(6, [ticker]).bars(ticker, count, UNTIL)), False)


def rows(tell: Tell) -> list[Row]:
    tell("training a model and making 500,000 seeded minutes")
    bars = series_of("AAPL", TRAINING_BARS + REPLAYED_BARS)
    model = LoadedModel(train([BarSeries("AAPL", bars.bars[:TRAINING_BARS], False)], 10, _quiet).text, "lightgbm:bench")
    replayed = BarSeries("AAPL", bars.bars[TRAINING_BARS:], False)
    features, predictions = _features(replayed, model, tell)
    return [*_replay(replayed, model, tell), features, predictions, *_tickers(model, tell)]


def _quiet(_done: int, _total: int) -> None:
    """The table is enough."""


def _replay(series: BarSeries, model: LoadedModel, tell: Tell) -> list[Row]:
    predictor = ReplayPredictor(model, [series])
    cases = {
        "default settings": switched_on(),
        "low thresholds, trading": switched_on(buy_threshold_pct=0.001, sell_threshold_pct=0.001, strategy="BALANCED"),
    }
    found = []
    for name, switches in cases.items():
        speeds, orders = [], 0
        for number in range(REPEATS):
            tell(f"replay, {name}: {number + 1} of {REPEATS}")
            run = Replay([series], switches, predictor, ReplayOptions())
            start = time.perf_counter()
            result = run.run(_done)
            speeds.append(result.bars / (time.perf_counter() - start))
            orders = len(result.ledger.orders())
        found.append(
            Row(
                f"replay of bars, cycle of 600 s, {name} ({orders} orders)",
                f"{median(speeds):,.0f} bars/s",
                f"{min(speeds):,.0f} bars/s (slowest)",
                f"{median(speeds) / 199_000:.2f} × backtesting.py",
                "pure loop 5.4 M bars/s (recorded)",
                "≥ 400,000 bars/s",
                "backtesting.py 199,000, freqtrade 26,000, lumibot 2,500 bars/s (recorded)",
            )
        )
    return found


def _done(_bars: int) -> None:
    """The table is enough."""


def _features(series: BarSeries, model: LoadedModel, tell: Tell) -> tuple[Row, Row]:
    tell("features and predictions")
    part = series.bars[:20_000]
    rows_ = feature_matrix(part, sessions=False)
    count = len(rows_)
    made = [s / count for s in timed(lambda: feature_matrix(part, sessions=False), 9)]
    asked = [s / count for s in timed(lambda: model.predict(rows_), 9)]
    one = rows_[:1]
    single = timed(lambda: model.predict(one), 500)
    return (
        Row(
            f"bar features, {len(NAMES)} columns, per row of a batch",
            f"{median(made) * 1e6:.2f} µs",
            f"{max(made) * 1e6:.2f} µs (slowest)",
            habit="pandas 1,134 µs a row (recorded)",
        ),
        Row(
            "LightGBM, per row of a batch, one thread",
            f"{median(asked) * 1e6:.2f} µs",
            f"{max(asked) * 1e6:.2f} µs (slowest)",
            f"{median(asked) / median(single):.2f} of a single row",
            f"single row {median(single) * 1e6:.1f} µs, p99 {p99(single) * 1e6:.1f}",
            habit="8 ms a row with OpenMP's threads beside a busy core (recorded)",
        ),
    )


def _tickers(model: LoadedModel, tell: Tell) -> list[Row]:
    """One cycle over 1 to 1,000 tickers: the cost of a ticker must stay flat."""
    found: list[Row] = []
    base = 0.0
    for count in (1, 10, 100, 1000):
        tell(f"a cycle over {count} tickers")
        many = [series_of(f"T{n}", 400 if count < 1000 else 150) for n in range(count)]
        predictor = ReplayPredictor(model, many)
        low = switched_on(buy_threshold_pct=0.0001, sell_threshold_pct=0.0001)
        spent = []
        for _ in range(REPEATS):
            run = Replay(many, low, predictor, ReplayOptions(cycle_seconds=60))
            start = time.perf_counter()
            result = run.run(_done)
            spent.append((time.perf_counter() - start) / (result.cycles * count))
        each = median(spent)
        base = base or each
        ratio = f"{each / base:.2f} × one ticker"
        found.append(Row(f"cycle and bar, per ticker, of {count:,}", f"{each * 1e6:.1f} µs", ratio=ratio, reach="flat"))
    return found
