"""``make bench``: every row in one go on loopback, a table, and docs/measured/bench.md."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import bots, compute, feeds, growth, orders, single_row, web
from tests.bench.table import HEADINGS, Row, cells, machine, markdown
from worker.compose import SWITCH_SECONDS

OUT = Path("docs/measured/bench.md")
SECTIONS = {
    "compute": compute.rows,
    "feeds": feeds.rows,
    "row": single_row.rows,
    "bots": bots.rows,
    "orders": orders.rows,
    "growth": growth.rows,
    "web": web.rows,
}


def main(names: list[str]) -> None:
    """Run all sections, or those named; only a full run replaces the document."""
    sys.setswitchinterval(SWITCH_SECONDS)  # as the workers have it; the venue's server is a thread of this process
    console, start = Console(stderr=True), time.monotonic()
    chosen = names or list(SECTIONS)
    found: list[Row] = []
    for name in chosen:
        found += SECTIONS[name](lambda line: console.print(f"[{time.monotonic() - start:5.1f} s] {line}", markup=False))
    table = Table(*HEADINGS)
    for row in found:
        table.add_row(*cells(row))
    Console().print(table)
    if not names:
        OUT.parent.mkdir(parents=True, exist_ok=True)
        OUT.write_text(
            f"# Measured by `make bench`\n\n{machine()}\n\nOn loopback, one run; “recorded” marks a figure that was "
            f"measured elsewhere and is not repeated here.\n\n{markdown(found)}\n"
        )
        console.print(f"written: {OUT}")


if __name__ == "__main__":
    main(sys.argv[1:])
