"""The report of a bot's replay: JSON for programs, one HTML page for people; decimals stay decimals."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from shared.clock import rfc3339
from worker.core.positions import Position
from worker.core.trades import moment_of
from worker.core.types import ExitReason
from worker.replay.bots import BotReplayResult
from worker.replay.report import drawdown_of, equity_row, fill_row, fills_in, render_page

ZERO = Decimal(0)


def bot_report(
    result: BotReplayResult, model: dict[str, Any], files_used: Sequence[str], warnings: Sequence[str] = ()
) -> dict[str, Any]:
    """The whole report as JSON values; ``warnings`` say what its figures cannot be trusted for."""
    return {
        "starting_cash": str(result.options.cash),
        "complete": result.complete,
        "warnings": list(warnings),
        "data": {"replayed": list(files_used)},
        "model": model,
        "bot": result.settings.plain(),
        "risk": result.switches.risk.value.plain(),
        "instrument": {
            "ticker": result.instrument.ticker,
            "lot_size": str(result.instrument.lot_size),
            "tick_size": str(result.instrument.tick_size),
        },
        "fills": [fill_row(f) for f in fills_in(result.ledger)],
        "positions": [_position_row(p) for p in _positions(result)],
        "exit_reasons": exit_table(result.ledger.closed_positions()),
        "equity": [equity_row(p) for p in result.equity],
        "summary": bot_summary(result),
    }


def _positions(result: BotReplayResult) -> list[Position]:
    found = [*result.ledger.closed_positions(), *result.ledger.open_positions()]
    return sorted(found, key=lambda p: (p.entry_time, p.id))


def _position_row(position: Position) -> dict[str, Any]:
    entry, left = position.entry_price, position.exit_price
    return {
        "id": position.id,
        "ticker": position.symbol,
        "quantity": str(position.entry_qty),
        "entry_time": rfc3339(position.entry_time),
        "entry_price": None if entry is None else str(entry),
        "exit_time": None if position.exit_time is None else rfc3339(position.exit_time),
        "exit_price": None if left is None else str(left),
        "exit_reason": position.exit_reason or None,
        "realized_pnl": str(position.realized_pnl) if position.is_closed else None,
        "fees": str(position.fees_paid),
        "confidence": position.confidence,
    }


def exit_table(closed: Sequence[Position]) -> dict[str, dict[str, Any]]:
    """Count, wins, profit and fees by exit reason; every reason has its row."""
    table: dict[str, dict[str, Any]] = {}
    for reason in ExitReason:
        rows = [p for p in closed if p.exit_reason == reason]
        held = [(p.exit_time - p.entry_time).total_seconds() for p in rows if p.exit_time is not None]
        table[reason.value] = {
            "count": len(rows),
            "wins": sum(1 for p in rows if p.realized_pnl > 0),
            "profit": str(sum((p.realized_pnl for p in rows), ZERO)),
            "fees": str(sum((p.fees_paid for p in rows), ZERO)),
            "average_seconds": round(sum(held) / len(held), 3) if held else None,
        }
    return table


def bot_summary(result: BotReplayResult) -> dict[str, Any]:
    """Figures of the run; money as decimal strings."""
    stats, cash = result.ledger.stats(), result.options.cash
    _, left, value = result.equity[-1]
    ending, total = left + value, stats.total
    decided = total.wins + total.losses
    orders = result.ledger.orders()
    return {
        "trades_replayed": result.trades,
        "first": rfc3339(moment_of(result.first)),
        "last": rfc3339(moment_of(result.last)),
        "predictions": result.predictions,
        "decisions": result.decisions,
        "orders": len(orders),
        "fills": sum(1 for o in orders if o.filled_qty),
        "round_trips": total.trades,
        "open_positions": len(result.ledger.open_positions()),
        "wins": total.wins,
        "losses": total.losses,
        "win_rate": total.wins / decided * 100 if decided else None,
        "ending_equity": str(ending),
        "profit": str(ending - cash),
        "realized_profit": str(total.pnl),
        "fees": str(stats.fees),
        "max_drawdown": str(drawdown_of(cash, result.equity)),
        "exposure": result.exposed_minutes / len(result.equity) if result.equity else 0.0,
        "unprotected_seconds": round(result.unprotected_seconds, 3),
        "denials": dict(sorted(result.denials.items())),
    }


def render_bot(document: dict[str, Any]) -> str:
    """One page that needs nothing else: no script, no request."""
    return render_page("bot_report.html", document)
