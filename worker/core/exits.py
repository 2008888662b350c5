"""What would have become of an entry: the exit rule of a stream bot over recorded candles, for labels. Pure.

An entry at the close of a candle is held until the first of these, in the candles after it: its low reaches the
stop-loss (closed at market, at the stop's price or the open where that is lower already), its high reaches the
take-profit (a resting limit, filled at its price), or ``holding_time`` is over (closed at market, at that close). Where
one candle reaches both, the stop-loss counts. Fees are fractions: maker for the entry and the take-profit, taker for
the other two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from worker.core.candles import Candle

UNKNOWN, TP_HIT, SL_HIT, TIMEOUT = 0, 1, 2, 3
REASONS = {TP_HIT: "TP_HIT", SL_HIT: "SL_HIT", TIMEOUT: "TIMEOUT"}


@dataclass(frozen=True, slots=True)
class ExitRule:
    """Seconds and fractions, as in ``bot:{id}``; ``profit_target_pct`` 0.00015 is 0.015 %."""

    holding_time: int
    profit_target_pct: float
    stop_loss_pct: float
    maker_fee: float = 0.0
    taker_fee: float = 0.001

    @property
    def best(self) -> float:
        """Profit of a trade whose take-profit is hit, after fees, as a fraction of what was paid."""
        return float(self.net(1.0 + self.profit_target_pct, self.maker_fee))

    def net(self, ratio: Any, exit_fee: float) -> Any:
        """Profit of leaving at ``ratio`` (a number or an array) × the entry price."""
        return ratio * (1.0 - exit_fee) / (1.0 + self.maker_fee) - 1.0


def outcomes(candles: Sequence[Candle], entries: Sequence[int], rule: ExitRule) -> tuple[Any, Any]:
    """Reason and profit (after fees, a fraction) of an entry at the close of each of these candles.

    ``UNKNOWN`` and NaN where the candles end, or a gap begins, before ``holding_time`` is over: also where an exit was
    seen before that, since entries near the end would otherwise be known by their quick exits only.
    """
    import numpy as np

    at = np.asarray(entries, dtype=np.int64)
    opens, highs, lows, closes = (
        np.array([getattr(c, name) for c in candles], dtype=float) for name in ("open", "high", "low", "close")
    )
    gaps = np.concatenate([[0], np.cumsum([c.gap for c in candles])])
    last = at + rule.holding_time
    inside = last < len(candles)
    whole = inside.copy()
    whole[inside] = gaps[last[inside] + 1] == gaps[at[inside] + 1]
    reason = np.zeros(len(at), dtype=np.int8)
    profit = np.full(len(at), np.nan)
    waiting = np.flatnonzero(whole)
    target, stop = closes[at] * (1.0 + rule.profit_target_pct), closes[at] * (1.0 - rule.stop_loss_pct)
    for step in range(1, rule.holding_time + 1):
        if not len(waiting):
            break
        then = at[waiting] + step
        stopped = lows[then] <= stop[waiting]
        taken = ~stopped & (highs[then] >= target[waiting])
        reason[waiting[stopped]], reason[waiting[taken]] = SL_HIT, TP_HIT
        left = np.minimum(stop[waiting], opens[then])[stopped] / closes[at[waiting[stopped]]]
        profit[waiting[stopped]] = rule.net(left, rule.taker_fee)
        waiting = waiting[~(stopped | taken)]
    reason[waiting] = TIMEOUT
    profit[waiting] = rule.net(closes[last[waiting]] / closes[at[waiting]], rule.taker_fee)
    profit[reason == TP_HIT] = rule.best
    return reason, profit
