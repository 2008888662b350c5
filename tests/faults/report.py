"""docs/measured/faults.md, from what a run has found."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.calamities import CALAMITIES
from tests.faults.jobs import KILLS, Results, Totals
from tests.faults.matrix import Outcome
from worker.failpoints import FAILPOINTS

REPORT = Path(__file__).parents[2] / "docs" / "measured" / "faults.md"
COLUMNS = {
    "duplicates": "duplicates",
    "lost": "lost",
    "phantom": "phantom",
    "unintended_on": "unintended ON",
    "limits": "limits passed",
    "figures": "figures off",
    "stuck": "stuck",
}
KILL_ROWS = {
    "alpaca": "random kills, Alpaca",
    "simulated": "random kills, simulated exchange",
    "proxied-redis": "network faults and kills, Redis",
    "proxied-venue": "network faults and kills, Alpaca",
    "proxied-exchange": "network faults and kills, simulated exchange",
}


def rows_of(results: Results) -> dict[str, Totals]:
    """Every row of the table that has trials, in the order of the report."""
    names = {f"kills, {kind}": KILL_ROWS[kind] for kind in KILLS}
    names["failpoints"] = "failpoints, Alpaca"
    names |= {name: name.replace("_", " ") for name in CALAMITIES}
    return {
        shown: results.totals[name]
        for name, shown in names.items()
        if name in results.totals and results.totals[name].trials
    }


def table(totals: dict[str, Totals]) -> str:
    """The table of trials."""
    names = ("run", "trials", "orders", *COLUMNS.values())
    lines = [f"| {' | '.join(names)} |", "| --- |" + " ---: |" * (len(names) - 1)]
    for name, t in totals.items():
        cells = [str(t.trials), str(t.orders), *(str(t.found[kind]) for kind in COLUMNS)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def matrix_table(outcomes: Sequence[Outcome]) -> str:
    """One venue's matrix."""
    lines = ["| the venue's answer | right after | in the end | filled | sends | as it must be |"]
    lines.append("| --- | --- | --- | ---: | ---: | --- |")
    for o in outcomes:
        verdict = "yes" if not o.problems else f"**no**: {'; '.join(o.problems)[:300]}".replace("|", "\\|")
        lines.append(f"| {o.row} | {o.first} | {o.state} | {o.filled} | {o.sends} | {verdict} |")
    return "\n".join(lines)


def report(results: Results, seed: int, minutes: float) -> str:
    """The page."""
    parts = [
        "# Faults",
        _header(results, seed, minutes),
        table(rows_of(results)),
        _TRIALS,
        _failpoints(results),
        _findings(results.findings),
        "## The ambiguity matrix",
        _MATRIX,
    ]
    for venue, outcomes in sorted(results.outcomes.items()):
        parts += [f"### {venue}", matrix_table(outcomes)]
    return "\n\n".join([*parts, _BROKEN]) + "\n"


def _header(results: Results, seed: int, minutes: float) -> str:
    cut = " The run was cut short; this is what had run." if results.over else ""
    return (
        f"Written by `make faults`. {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {minutes:.0f} minutes, seed {seed};\n"
        f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}.{cut}"
    )


def _failpoints(results: Results) -> str:
    missed = sorted(results.unreached - results.reached)
    untried = len(FAILPOINTS) - len(results.reached) - len(missed)
    named = f"; not reached: {', '.join(f'`{name}`' for name in missed)}" if missed else ""
    return (
        f"Failpoints: {len(FAILPOINTS)} declared, {len(results.reached)} reached and killed at{named}"
        f"{f'; {untried} not tried' if untried else ''}."
    )


def _findings(findings: Sequence[str]) -> str:
    if not findings:
        return "Nothing was found."
    shown = "\n".join(f"- `python -m tests.faults --replay {what[:600]}`" for what in findings)
    return f"Found:\n\n{shown}".replace("--replay --only", "--only")


_TRIALS = """A random kill is SIGKILL of the trading worker, the emergency worker or both, at a random time of a session
in which every ticker is bought and sold over and over. At Alpaca's protocol server the session is full of lies: answers
that are slow, cut off, 429, 500, 504 or garbage; orders that are visible late; partial fills at several prices; fills
after a cancel; updates lost, repeated and out of order. A network fault is a proxy before Redis or the venue that is
slow, mute in one direction or both, resets, cuts an answer off, or forwards a request and loses its reply; every other
one comes with a kill. The other rows are one calamity each, cured as an operator would cure it; then trading is started
again, stopped and judged. Where a stop must latch, nothing may trade before that start. Workers are forked from a
process that has done their imports; a kill is a kill of the worker, and a start runs all of its code but the imports.

The verdict compares the book in Redis with the venue's own ledger: orders, fills, positions, statistics, trades log and
counters. *Stuck* is what never happened: a trade after the cure, an order resolved, a stop proven."""

_MATRIX = """Each row is one order through the real gate, book, desk, reconciler and adapter, into one ambiguous or
hostile answer of the venue's protocol server. Whatever the answer, the order is sent once, and in the end its state,
its fills and all that is computed from them equal the venue's ledger. UNKNOWN is what an order is until the venue has
been asked for its client order id; ABSENT is an order that the venue did not know within `UNKNOWN_RESOLVE_SECONDS`."""

_BROKEN = """## Does the bench find anything?

`tests/faults/broken.py` starts traders that are broken on purpose, and `tests/faults/test_broken.py` holds that the
oracle reports them, in every run of the suite:

- **the intent written after the submit**: killed when the venue has answered, it leaves an order that no book knows:
  `lost: order …`;
- **sent again after a reset**: `duplicates: … was sent 2 times`.

By hand: `python -m tests.faults.broken intent_after_submit` and `python -m tests.faults.broken sent_again`."""
