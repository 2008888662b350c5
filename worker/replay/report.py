"""The replay's report: JSON for programs, one HTML page for people; decimals stay decimals."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import files
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

from shared.clock import rfc3339
from worker.core.decide import thresholds
from worker.core.orders import Order
from worker.core.types import Effect, Execution
from worker.replay.run import EquityPoint, ReplayResult
from worker.trading.memory import MemoryLedger

ZERO = Decimal(0)
CURVE_POINTS = 1500
WIDTH, HEIGHT = 1000, 260
SHOWN_ROWS = 500


@dataclass(frozen=True, slots=True)
class Fill:
    """An execution and the order that it belongs to."""

    order: Order
    execution: Execution
    exit_reason: str


def fills_of(result: ReplayResult) -> list[Fill]:
    """Every execution, in the order of time."""
    return fills_in(result.ledger)


def fills_in(ledger: MemoryLedger) -> list[Fill]:
    """Likewise, of a ledger."""
    reasons = {p.id: p.exit_reason for p in [*ledger.closed_positions(), *ledger.open_positions()]}
    rows = [
        Fill(order, execution, reasons.get(order.position_id, "") if order.effect is Effect.EXIT else "")
        for order in ledger.orders()
        for execution in ledger.executions(order.client_order_id)
    ]
    return sorted(rows, key=lambda f: (f.execution.time, f.execution.execution_id))


def report_document(result: ReplayResult, model: dict[str, Any], files_used: dict[str, list[str]]) -> dict[str, Any]:
    """The whole report as JSON values."""
    return {
        "starting_cash": str(result.options.cash),
        "complete": result.complete,
        "data": files_used,
        "model": model,
        "settings": result.switches.settings.value.plain(),
        "risk": result.switches.risk.value.plain(),
        "fills": [fill_row(f) for f in fills_of(result)],
        "equity": [equity_row(p) for p in result.equity],
        "summary": summary(result),
    }


def fill_row(fill: Fill) -> dict[str, Any]:
    return {
        "time": rfc3339(fill.execution.time),
        "decision_time": rfc3339(fill.order.created_at),
        "ticker": fill.execution.ticker,
        "side": fill.execution.side.value,
        "qty": str(fill.execution.qty),
        "price": str(fill.execution.price),
        "fee": str(fill.execution.fee),
        "order_id": fill.order.client_order_id,
        "exit_reason": fill.exit_reason or None,
    }


def equity_row(point: EquityPoint) -> dict[str, str]:
    time, cash, value = point
    return {
        "time": rfc3339(time),
        "cash": str(cash),
        "positions_value": str(value),
        "equity": str(cash + value),
    }


def summary(result: ReplayResult) -> dict[str, Any]:
    """Figures of the run; money as decimal strings."""
    stats = result.ledger.stats()
    buy, sell = thresholds(result.switches.settings.value)
    ending = _equity(result.equity[-1]) if result.equity else result.options.cash
    orders = result.ledger.orders()
    total = stats.total
    decided = total.wins + total.losses
    return {
        "bars": result.bars,
        "cycles": result.cycles,
        "orders": len(orders),
        "trades": total.trades,
        "fills": sum(1 for o in orders if o.filled_qty),
        "buy_threshold": str(buy),
        "sell_threshold": str(sell),
        "largest_prediction": result.largest_prediction,
        "ending_equity": str(ending),
        "profit": str(ending - result.options.cash),
        "realized_profit": str(total.pnl),
        "fees": str(stats.fees),
        "wins": total.wins,
        "losses": total.losses,
        "win_rate": total.wins / decided * 100 if decided else None,
        "max_drawdown": str(drawdown_of(result.options.cash, result.equity)),
        "exposure": result.exposed_bars / len(result.equity) if result.equity else 0.0,
        "denials": result.denials,
        "errors": result.errors[:20],
    }


def _equity(point: EquityPoint) -> Decimal:
    _time, cash, value = point
    return cash + value


def drawdown_of(cash: Decimal, equity: Sequence[EquityPoint]) -> Decimal:
    """The deepest fall from a high of the equity, in money."""
    high, deepest = cash, ZERO
    for point in equity:
        value = _equity(point)
        high = max(high, value)
        deepest = max(deepest, high - value)
    return deepest


def write_report(
    directory: Path, document: dict[str, Any], page: Callable[[dict[str, Any]], str] | None = None
) -> tuple[Path, Path]:
    """``report.json`` and ``report.html`` in the folder; returns both paths."""
    directory.mkdir(parents=True, exist_ok=True)
    as_json, as_html = directory / "report.json", directory / "report.html"
    as_json.write_text(json.dumps(document, indent=1))
    as_html.write_text((page or render)(document))
    return as_json, as_html


def render(document: dict[str, Any]) -> str:
    """One page that needs nothing else: no script, no request."""
    return render_page("report.html", document)


def render_page(name: str, document: dict[str, Any]) -> str:
    """A page of this folder, with the style that all reports share and the curves of its equity and drawdown."""
    from jinja2 import Environment

    template = Environment(autoescape=True).from_string(files("worker.replay").joinpath(name).read_text())
    points = [(row["time"], float(row["equity"])) for row in document["equity"]]
    tops = accumulate((value for _, value in points), max, initial=float(document["starting_cash"]))
    falls = [(time, value - top) for (time, value), top in zip(points, islice(tops, 1, None), strict=True)]
    return template.render(
        report=document,
        summary=document["summary"],
        style=files("worker").joinpath("report.css").read_text(),
        curve=svg_curve(points),
        fall=svg_curve(falls),
        shown=SHOWN_ROWS,
    )


def svg_curve(points: list[tuple[str, float]]) -> dict[str, Any] | None:
    """An SVG path through at most 1,500 points."""
    if len(points) < 2:
        return None
    step = max(len(points) // CURVE_POINTS, 1)
    thin = [*points[::step], points[-1]]
    low, high = min(v for _, v in points), max(v for _, v in points)
    reach = (high - low) or 1.0
    last = len(thin) - 1
    path = " L".join(
        f"{n / last * WIDTH:.1f},{(1 - (v - low) / reach) * (HEIGHT - 20) + 10:.1f}" for n, (_, v) in enumerate(thin)
    )
    return {
        "path": f"M{path}",
        "low": f"{low:,.2f}",
        "high": f"{high:,.2f}",
        "first": points[0][0],
        "last": points[-1][0],
    }
