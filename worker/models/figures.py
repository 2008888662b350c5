"""What a stream model is worth, in figures, from probabilities and what became of the trades."""

from __future__ import annotations

from typing import Any


def auc(guess: Any, label: Any) -> float:
    """Area under the ROC curve by ranks, ties shared; 0.5 where there is one class only."""
    import numpy as np

    positive = int(label.sum())
    negative = len(label) - positive
    if not positive or not negative:
        return 0.5
    _, place, count = np.unique(guess, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    return float((rank[label > 0].sum() - positive * (positive + 1) / 2) / (positive * negative))


def figures(guess: Any, label: Any, profit: Any, at: Any, threshold: float, holding_time: int) -> dict[str, float]:
    """Figures of rows that were not learned from, in the order of time; profits are mean fractions a trade, after fees.

    Decisions close to each other share their fate, so that a mean is worth no more than the trades that are
    ``holding_time`` apart: their number makes the standard error.
    """
    chosen = guess >= threshold
    trades, apart = int(chosen.sum()), _apart(at[chosen], holding_time)
    return {
        "judged_rows": float(len(label)),
        "auc": auc(guess, label),
        "base_rate": float(label.mean()),
        "threshold": threshold,
        "trades_at_threshold": float(trades),
        "trades_apart": float(apart),
        "precision_at_threshold": float(label[chosen].mean()) if trades else 0.0,
        "pnl_per_trade": float(profit[chosen].mean()) if trades else 0.0,
        "pnl_standard_error": float(profit[chosen].std() / apart**0.5) if trades else 0.0,
        "pnl_per_trade_always": float(profit.mean()),
        "pnl_per_trade_never": 0.0,
    }


def _apart(at: Any, seconds: int) -> int:
    """How many of these times can be taken, the first first, with so many seconds between them."""
    count, free = 0, -1
    for time in at.tolist():
        if time >= free:
            count, free = count + 1, time + seconds
    return count


def calibration(guess: Any, label: Any) -> tuple[tuple[float, float, int], ...]:
    """Ten groups of equal size by probability: mean probability, observed share, rows."""
    import numpy as np

    order = np.argsort(guess, kind="stable")
    groups = [part for part in np.array_split(order, 10) if len(part)]
    return tuple((float(guess[part].mean()), float(label[part].mean()), len(part)) for part in groups)
