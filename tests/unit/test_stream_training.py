"""Labels are the bot's exit rule, features know no future, and what a model knows vanishes with shifted labels."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import pytest

from shared.errors import ConfigError
from worker.core.candles import Candle
from worker.core.exits import SL_HIT, TIMEOUT, TP_HIT, UNKNOWN, ExitRule, outcomes
from worker.core.features import FEATURE_NAMES, feature_rows
from worker.core.trades import SECOND
from worker.models.figures import auc, figures
from worker.models.stream_training import StreamJob, StreamResult, decision_rows, train_stream
from worker.models.validation import check_text
from worker.predictors.row import load_row_predictor

START = 1_700_000_000 * SECOND
RULE = ExitRule(holding_time=20, profit_target_pct=0.002, stop_loss_pct=0.002, taker_fee=0.0001)
JOB = StreamJob(RULE, folds=3, rounds=30)


def candle(number: int, opened: float, high: float, low: float, close: float, **fields: object) -> Candle:
    values = {"volume": 1.0, "buy_volume": 0.5, "sell_volume": 0.5, "trades": 1, **fields}
    return Candle("BTCUSDC", START + number * SECOND, opened, high, low, close, **values)


def closes(prices: Sequence[float]) -> list[Candle]:
    """One candle a price, opening at the one before."""
    pairs = zip([prices[0], *prices], prices, strict=False)
    return [candle(n, a, max(a, b), min(a, b), b) for n, (a, b) in enumerate(pairs)]


def trending(seconds: int = 12_000, seed: int = 6) -> list[Candle]:
    """A market with a drift that turns now and then: what the last half minute says of the next is real."""
    dice, price, drift, prices = random.Random(seed), 100.0, 0.0002, []
    for _ in range(seconds):
        if dice.random() < 1 / 60:
            drift = -drift
        price *= math.exp(drift + dice.gauss(0, 0.0002))
        prices.append(price)
    return closes(prices)


@pytest.fixture(scope="module")
def market() -> list[Candle]:
    return trending()


@pytest.fixture(scope="module")
def honest(market: list[Candle]) -> StreamResult:
    return train_stream([market], JOB)


@pytest.mark.parametrize(
    ("prices", "reason", "ratio", "fee"),
    [
        ([100, 100.1, 101], TP_HIT, 1.01, 0.001),
        ([100, 99.5, 101], SL_HIT, 0.995, 0.002),
        ([100, 100.2, 99.9, 100.3, 102], TIMEOUT, 1.003, 0.002),
    ],
)
def test_entry_when_followed_ends_as_the_exit_rule_says_after_fees(
    prices: list[float], reason: int, ratio: float, fee: float
) -> None:
    rule = ExitRule(3, profit_target_pct=0.01, stop_loss_pct=0.005, maker_fee=0.001, taker_fee=0.002)
    found, profit = outcomes(closes([*prices, *[prices[-1]] * 3]), [0], rule)
    assert found.tolist() == [reason]
    assert profit[0] == pytest.approx(ratio * (1 - fee) / 1.001 - 1)


def test_entry_when_one_candle_reaches_both_ends_counts_as_stopped() -> None:
    both = [*closes([100.0]), candle(1, 100, 102, 98, 100), *closes([100.0] * 4)]
    reason, profit = outcomes(both, [0], ExitRule(2, 0.01, 0.01, taker_fee=0.0))
    assert (reason[0], profit[0]) == (SL_HIT, pytest.approx(-0.01))


def test_entry_when_the_price_jumps_over_the_stop_leaves_at_the_worse_price() -> None:
    jumped = [*closes([100.0]), candle(1, 95, 96, 94, 95), *closes([95.0] * 3)]
    assert outcomes(jumped, [0], ExitRule(2, 0.01, 0.01, taker_fee=0.0))[1][0] == pytest.approx(-0.05)


def test_entry_when_its_time_is_not_over_is_unknown_also_where_an_exit_was_seen() -> None:
    """Else the last entries would be those with quick exits only."""
    candles = closes([100.0, 102.0, 102.0])
    reason, profit = outcomes(candles, [0, 1], ExitRule(2, 0.01, 0.01))
    assert reason.tolist() == [TP_HIT, UNKNOWN]
    assert np.isnan(profit[1])


def test_entry_when_the_source_was_away_meanwhile_is_unknown() -> None:
    candles = closes([100.0] * 10)
    candles[5] = candle(5, 100, 100, 100, 100, gap=True)
    reason, _ = outcomes(candles, list(range(10)), ExitRule(2, 0.01, 0.01))
    assert reason.tolist() == [TIMEOUT] * 3 + [UNKNOWN] * 2 + [TIMEOUT] * 3 + [UNKNOWN] * 2


def test_rows_when_made_are_the_live_features_at_the_seconds_that_decide(market: list[Candle]) -> None:
    rows = decision_rows([market[:500]], JOB)
    live = {c.end // SECOND: v for c, v in feature_rows(market[:500])}
    assert all(at % 2 == 0 for at in rows.at)
    assert [live[at] for at in rows.at] == rows.x.tolist()


def test_features_when_the_future_is_changed_stay_the_same(market: list[Candle]) -> None:
    crashed = [*market[:300], *closes([c.close / 2 for c in market[300:600]])]
    shifted = [*market[:300], *(candle(300 + n, c.open, c.high, c.low, c.close) for n, c in enumerate(crashed[300:]))]
    before, after = decision_rows([market[:600]], JOB), decision_rows([shifted], JOB)
    early = before.at <= market[299].end // SECOND
    assert early.sum() > 100
    assert np.array_equal(before.x[early], after.x[early])
    assert not np.array_equal(before.reason[early], after.reason[early])


def test_training_when_labels_are_shifted_loses_its_edge(market: list[Candle], honest: StreamResult) -> None:
    """Whatever a model still knew then would be knowledge of the future."""
    shifted = [train_stream([market], JOB, shift=rows).model.metrics["auc"] for rows in range(500, 3000, 500)]
    found = honest.model.metrics
    assert found["auc"] > 0.7
    assert abs(np.mean(shifted) - 0.5) < 0.05
    assert max(shifted) < 0.6
    assert found["pnl_per_trade"] > found["pnl_per_trade_always"] + 0.0002
    assert found["precision_at_threshold"] > found["base_rate"] + 0.1


def test_folds_when_walked_never_learn_within_the_gap(honest: StreamResult) -> None:
    assert len(honest.folds) >= 2
    for fold in honest.folds:
        assert fold["judged_from"] - fold["learned_until"] > RULE.holding_time + 60


def test_training_when_repeated_gives_the_same_text_and_another_seed_is_allowed(
    market: list[Candle], honest: StreamResult
) -> None:
    assert train_stream([market], JOB).model.text == honest.model.text
    assert honest.model.facts["trained_for"]["seed"] == JOB.seed


def test_model_when_trained_is_one_that_stream_bots_load(honest: StreamResult) -> None:
    assert check_text(honest.model.text.encode()).feature_names == FEATURE_NAMES
    model = load_row_predictor(honest.model.text, "lightgbm:1")
    assert model.fast
    assert model.kind == "probability"
    assert sum(share for _, share in honest.importance) == pytest.approx(1.0)
    assert sum(count for _, _, count in honest.calibration) == honest.model.metrics["judged_rows"]


def test_training_when_no_trade_can_pay_its_fees_is_refused(market: list[Candle]) -> None:
    with pytest.raises(ConfigError, match="no trade of this rule can earn"):
        train_stream([market], StreamJob(ExitRule(20, 0.00015, 0.009, maker_fee=0.001)))


@pytest.mark.parametrize(
    ("seconds", "why"), [(50, "too little data"), (120, "too few decisions"), (700, "too short to judge")]
)
def test_training_when_the_recording_is_short_says_what_is_missing(
    market: list[Candle], seconds: int, why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        train_stream([market[:seconds]], JOB)


def test_training_when_every_trade_ends_alike_is_refused() -> None:
    with pytest.raises(ConfigError, match="only 0 of 481 trades end by a take-profit"):
        train_stream([closes([100.0] * 1041)], JOB)


def test_progress_when_told_never_goes_back_and_ends_at_the_end(market: list[Candle]) -> None:
    told: list[tuple[int, int]] = []
    train_stream([market[:3000]], StreamJob(RULE, folds=2, rounds=5), lambda d, t: told.append((d, t)))
    assert [d for d, _ in told] == sorted(d for d, _ in told)
    assert told[-1] == (15, 15)


def test_auc_when_computed_is_the_share_of_pairs_in_order() -> None:
    dice = np.random.default_rng(6)
    guess, label = dice.integers(0, 5, 60) / 5, dice.integers(0, 2, 60).astype(float)
    high, low = guess[label > 0], guess[label == 0]
    wanted = np.mean([(a > b) + 0.5 * (a == b) for a in high for b in low])
    assert auc(guess, label) == pytest.approx(wanted)


def test_figures_when_decisions_overlap_count_the_trades_that_are_apart() -> None:
    """A thousand decisions in a minute are one look at the market, not a thousand."""
    at, guess = np.arange(100) * 2, np.full(100, 0.9)
    profit = np.where(np.arange(100) % 2, 0.002, -0.001)
    found = figures(guess, (profit > 0).astype(float), profit, at, 0.5, holding_time=50)
    assert (found["trades_at_threshold"], found["trades_apart"]) == (100, 4)
    assert found["pnl_per_trade"] == pytest.approx(0.0005)
    assert found["pnl_standard_error"] == pytest.approx(0.0015 / 2)
    assert figures(guess, (profit > 0).astype(float), profit, at, 0.95, 50)["pnl_per_trade"] == 0
