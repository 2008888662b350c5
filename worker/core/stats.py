"""Honest statistics, kept as fills arrive: completed round trips, refused orders, profit net of fees.

A win or a loss is a completed round trip; a flat one is neither; an order that the venue refused is a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
from msgspec.structs import replace

from shared.clock import rfc3339
from worker.core.positions import Position

ZERO = Decimal(0)


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """A completed round trip, as the figures count it."""

    position_id: str
    ticker: str
    day: str
    time: str
    pnl: Decimal
    percent: Decimal


class Tally(msgspec.Struct, frozen=True, gc=False):
    """Completed round trips of one ticker or one day."""

    trades: int = 0
    wins: int = 0
    losses: int = 0
    pnl: Decimal = ZERO

    def plus(self, outcome: Outcome, sign: int) -> Tally:
        return Tally(
            self.trades + sign,
            self.wins + sign * (outcome.pnl > 0),
            self.losses + sign * (outcome.pnl < 0),
            self.pnl + sign * outcome.pnl,
        )


class Stats(msgspec.Struct, frozen=True, gc=False):
    """All figures of the ``stats`` document, exactly summed."""

    total: Tally = Tally()
    failed: int = 0
    fees: Decimal = ZERO
    best: Outcome | None = None
    worst: Outcome | None = None
    by_ticker: Mapping[str, Tally] = msgspec.field(default_factory=dict)
    by_day: Mapping[str, Tally] = msgspec.field(default_factory=dict)

    def with_outcome(self, outcome: Outcome, sign: int = 1) -> Stats:
        """Count a completed round trip, or with sign −1 take one back that a late fill changed."""
        best, worst = self.best, self.worst
        if sign > 0:
            best = outcome if best is None or outcome.percent > best.percent else best
            worst = outcome if worst is None or outcome.percent < worst.percent else worst
        else:
            best = None if best is not None and best.position_id == outcome.position_id else best
            worst = None if worst is not None and worst.position_id == outcome.position_id else worst
        return replace(
            self,
            total=self.total.plus(outcome, sign),
            best=best,
            worst=worst,
            by_ticker=_with(self.by_ticker, outcome.ticker, outcome, sign),
            by_day=_with(self.by_day, outcome.day, outcome, sign),
        )

    def document(self, today: str) -> dict[str, Any]:
        """The ``stats`` document; money as JSON numbers, ratios null where nothing is completed yet."""
        total = self.total
        decided = total.wins + total.losses
        return {
            "total_trades": total.trades + self.failed,
            "successful_trades": total.trades,
            "wins": total.wins,
            "loss_trades": total.losses,
            "failed_trades": self.failed,
            "win_rate": float(Decimal(total.wins) / decided * 100) if decided else None,
            "total_pnl": total.pnl,
            "today_pnl": self.by_day.get(today, Tally()).pnl,
            "avg_profit": total.pnl / total.trades if total.trades else None,
            "best_trade": _outcome_document(self.best),
            "worst_trade": _outcome_document(self.worst),
            "fees_paid": self.fees,
            "by_ticker": {name: _tally_document(t) for name, t in sorted(self.by_ticker.items())},
            "by_day": {name: _tally_document(t) for name, t in sorted(self.by_day.items())},
            "exact": self._exact(),
        }

    def _exact(self) -> dict[str, Any]:
        """The sums as decimal strings, so that nothing is lost between two writes."""
        return {
            "total_pnl": str(self.total.pnl),
            "fees_paid": str(self.fees),
            "by_ticker": {name: str(t.pnl) for name, t in self.by_ticker.items()},
            "by_day": {name: str(t.pnl) for name, t in self.by_day.items()},
        }


def outcome_of(position: Position, day_of: Callable[[datetime], str]) -> Outcome | None:
    """What a closed position counts as; None while it is open."""
    if not position.is_closed or position.exit_time is None:
        return None
    return Outcome(
        position.id,
        position.symbol,
        day_of(position.exit_time),
        rfc3339(position.exit_time),
        position.realized_pnl,
        position.pnl_percentage,
    )


def read_stats(found: object) -> Stats:
    """The inverse of ``document``; a mangled or missing one starts from nothing."""
    if not isinstance(found, dict):
        return Stats()
    try:
        exact = found["exact"]
        return Stats(
            total=Tally(
                int(found["successful_trades"]),
                int(found["wins"]),
                int(found["loss_trades"]),
                Decimal(exact["total_pnl"]),
            ),
            failed=int(found["failed_trades"]),
            fees=Decimal(exact["fees_paid"]),
            best=_read_outcome(found["best_trade"]),
            worst=_read_outcome(found["worst_trade"]),
            by_ticker=_read_tallies(found["by_ticker"], exact["by_ticker"]),
            by_day=_read_tallies(found["by_day"], exact["by_day"]),
        )
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return Stats()


def _with(tallies: Mapping[str, Tally], name: str, outcome: Outcome, sign: int) -> Mapping[str, Tally]:
    return {**tallies, name: tallies.get(name, Tally()).plus(outcome, sign)}


def _tally_document(tally: Tally) -> dict[str, Any]:
    return {"trades": tally.trades, "wins": tally.wins, "losses": tally.losses, "pnl": tally.pnl}


def _read_tallies(found: Mapping[str, Any], exact: Mapping[str, str]) -> dict[str, Tally]:
    return {n: Tally(int(t["trades"]), int(t["wins"]), int(t["losses"]), Decimal(exact[n])) for n, t in found.items()}


def _outcome_document(outcome: Outcome | None) -> dict[str, Any] | None:
    if outcome is None:
        return None
    return {
        "ticker": outcome.ticker,
        "pnl": str(outcome.pnl),
        "profit_percent": str(outcome.percent),
        "time": outcome.time,
        "day": outcome.day,
        "position_id": outcome.position_id,
    }


def _read_outcome(found: Mapping[str, Any] | None) -> Outcome | None:
    if found is None:
        return None
    return Outcome(
        found["position_id"],
        found["ticker"],
        found["day"],
        found["time"],
        Decimal(found["pnl"]),
        Decimal(found["profit_percent"]),
    )
