"""What training a stream model found, as one HTML page with its own SVG and no script."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from worker.models.stream_training import StreamResult

WIDTH, ROW, PLOT = 640, 18, 320
MARGIN = 40
_HOW = "every row by a model that knew only what was over before it, {} s between them."
_CALIBRATION = (
    "Ten groups of equal size: predicted probability across, observed share upwards. On the line, a probability means "
    "what it says."
)
_ROWS = (
    ("auc", "AUC", "{:.3f}", "0.5 is chance"),
    ("base_rate", "take-profit comes first, of all decisions", "{:.1%}", ""),
    ("precision_at_threshold", "of those at or above the threshold", "{:.1%}", ""),
    ("trades_at_threshold", "decisions at or above the threshold", "{:,.0f}", "of the rows judged"),
    ("trades_apart", "of these, holding_time apart", "{:,.0f}", "those in between share their fate"),
    ("judged_rows", "rows judged", "{:,.0f}", "by a model that had not seen them"),
    ("pnl_per_trade", "profit per trade at the threshold", "{:+.5%}", "after fees"),
    ("pnl_standard_error", "its standard error", "{:.5%}", "by the trades that are apart"),
    ("pnl_per_trade_always", "profit per trade, always trading", "{:+.5%}", "after fees"),
    ("pnl_per_trade_never", "profit per trade, never trading", "{:+.5%}", ""),
)


def write_report(path: Path, result: StreamResult, title: str) -> None:
    """Write the page whole or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        half.write_text(page(result, title), encoding="utf-8")
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


def page(result: StreamResult, title: str) -> str:
    """The page; ``title`` may be anything."""
    metrics = result.model.metrics
    figures = [(label, form.format(metrics[name]), note) for name, label, form, note in _ROWS]
    trained = [(name, f"{value:g}", "") for name, value in result.model.facts["trained_for"].items()]
    return "".join(
        (
            '<!doctype html><html lang="en"><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(title)}</title><style>{files('worker').joinpath('report.css').read_text()}</style>",
            f"<body><main><section><h1>{escape(title)}</h1>",
            *(f'<p class="warning">{escape(words)}.</p>' for words in result.model.facts.get("warnings", ())),
            f"<p>Judged walking forward: {_HOW.format(result.model.facts['trained_for']['gap_seconds'])}</p>",
            _table(("", "", ""), figures),
            f"</section><section><h2>Calibration</h2><p>{_CALIBRATION}</p>",
            calibration_svg(result.calibration),
            "</section><section><h2>Importance</h2><p>Share of the gain.</p>",
            importance_svg(result.importance),
            "</section><section><h2>Folds</h2>",
            _folds(result.folds),
            "</section><section><h2>Trained for</h2>",
            _table(("", "", ""), trained),
            "</section></main></body></html>\n",
        )
    )


def importance_svg(shares: Sequence[tuple[str, float]]) -> str:
    """Bars, the largest first."""
    most = max((share for _, share in shares), default=0.0) or 1.0
    bars = []
    for number, (name, share) in enumerate(shares):
        y, wide = number * ROW, (WIDTH - 240) * share / most
        bars.append(
            f'<text x="150" y="{y + 13}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="160" y="{y + 2}" width="{wide:.1f}" height="{ROW - 4}" fill="var(--line)"/>'
            f'<text x="{165 + wide:.1f}" y="{y + 13}">{share:.1%}</text>'
        )
    return _svg(WIDTH, ROW * len(shares), "importance of the features", "".join(bars))


def calibration_svg(groups: Sequence[tuple[float, float, int]]) -> str:
    """Points against the diagonal, both axes from 0 to the largest value."""
    top = max((max(mean, share) for mean, share, _ in groups), default=0.0) or 1.0

    def x(value: float) -> float:
        return MARGIN + PLOT * value / top

    def y(value: float) -> float:
        return MARGIN / 2 + PLOT * (1 - value / top)

    parts = [
        f'<line x1="{x(0)}" y1="{y(0)}" x2="{x(top)}" y2="{y(0)}" stroke="var(--soft)"/>',
        f'<line x1="{x(0)}" y1="{y(0)}" x2="{x(0)}" y2="{y(top)}" stroke="var(--soft)"/>',
        f'<line x1="{x(0)}" y1="{y(0)}" x2="{x(top)}" y2="{y(top)}" stroke="var(--soft)" stroke-dasharray="4"/>',
    ]
    for part in range(5):
        value = top * part / 4
        parts.append(f'<text x="{x(value):.1f}" y="{y(0) + 16}" text-anchor="middle">{value:.2f}</text>')
        parts.append(f'<text x="{x(0) - 5}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.2f}</text>')
    for mean, share, count in groups:
        parts.append(
            f'<circle cx="{x(mean):.1f}" cy="{y(share):.1f}" r="5" fill="var(--line)">'
            f"<title>{count:,} rows: predicted {mean:.3f}, observed {share:.3f}</title></circle>"
        )
    return _svg(PLOT + 2 * MARGIN, PLOT + MARGIN + 10, "calibration", "".join(parts))


def _svg(width: float, height: float, label: str, inside: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{label}" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}">{inside}</svg>'
    )


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(h)}</th>" for h in headings)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table>{f"<tr>{head}</tr>" if any(headings) else ""}{body}</table></div>'


def _folds(folds: Sequence[dict[str, Any]]) -> str:
    rows = [
        (
            str(number + 1),
            f"{fold['learned_rows']:,.0f}",
            f"{fold['judged_rows']:,.0f}",
            f"{fold['auc']:.3f}",
            f"{fold['trades_at_threshold']:,.0f}",
            f"{fold['trades_apart']:,.0f}",
            f"{fold['precision_at_threshold']:.1%}",
            f"{fold['pnl_per_trade']:+.5%}",
            f"{fold['pnl_per_trade_always']:+.5%}",
        )
        for number, fold in enumerate(folds)
    ]
    return _table(
        ("fold", "learned", "judged", "AUC", "trades", "apart", "precision", "profit per trade", "always"), rows
    )
