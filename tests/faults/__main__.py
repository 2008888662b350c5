"""``python -m tests.faults N``: N random kills, a third as many network faults, every failpoint, every calamity and the
ambiguity matrix; writes docs/measured/faults.md.

``--only`` runs one of the four and prints its tables instead of writing the page. ``--replay KIND SEED`` runs the
block of a finding again. Ctrl-C lets the trials that run end, and reports what ran; a second one ends at once.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import threading
import time
from types import FrameType

from rich.progress import Progress

from tests.faults.calamities import CALAMITIES
from tests.faults.jobs import MATRIX_ROWS, Plan, Results, replay, trials_of
from tests.faults.report import REPORT, matrix_table, report, rows_of, table
from worker.failpoints import FAILPOINTS

THREADS = 4
"""Trials wait more than they compute."""
PARTS = ("kills", "failpoints", "calamities", "matrix")


def arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(prog="tests.faults", description=__doc__)
    options.add_argument("n", type=int, nargs="?", default=100, help="random kills")
    options.add_argument("--seed", type=int, default=None)
    options.add_argument("--minutes", type=float, default=float("inf"), help="begin no trial after that long")
    options.add_argument("--seeds", type=int, default=3, help="trials of each calamity")
    options.add_argument("--only", choices=PARTS)
    options.add_argument("--matrix", action="store_const", const="matrix", dest="only", help="--only matrix")
    options.add_argument("--replay", nargs=2, metavar=("KIND", "SEED"))
    return options.parse_args()


def run(results: Results, plan: Plan, progress: Progress, given: argparse.Namespace) -> None:
    """Everything that was asked for, by some threads."""

    def ticker(name: str, total: int) -> object:
        task = progress.add_task(name, total=total)
        return lambda n: progress.advance(task, n)

    parts = {
        "matrix": lambda tick: plan.matrix(tick),
        "calamities": lambda tick: plan.calamities(given.seeds, tick),
        "failpoints": lambda tick: plan.failpoints(tick),
        "kills": lambda tick: plan.kills(given.n, tick),
    }
    totals = {
        "matrix": MATRIX_ROWS,
        "calamities": len(CALAMITIES) * given.seeds,
        "failpoints": len(FAILPOINTS),
        "kills": sum(trials_of(given.n).values()),
    }
    for name, put in parts.items():
        if given.only in (None, name):
            put(ticker(name, totals[name]))
    plan.mix()
    threads = [threading.Thread(target=plan.work, name=f"bench-{n}") for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> int:
    given = arguments()
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(2**31)
    began = time.monotonic()
    results = Results(began + given.minutes * 60)
    whole = given.only is None and given.replay is None

    def publish() -> None:
        if whole:
            REPORT.parent.mkdir(parents=True, exist_ok=True)
            REPORT.write_text(report(results, seed, (time.monotonic() - began) / 60))

    def interrupted(_number: int, _frame: FrameType | None) -> None:
        if results.interrupted.is_set():
            publish()
            os._exit(130)
        results.interrupted.set()

    signal.signal(signal.SIGINT, interrupted)
    if given.replay:
        replay(results, given.replay[0], int(given.replay[1]))
    else:
        with Progress() as progress:
            run(results, Plan(results, seed), progress, given)
    publish()
    print(table(rows_of(results)))
    for venue, outcomes in sorted(results.outcomes.items()):
        print(f"\n{venue}\n{matrix_table(outcomes)}")
    return bool(results.findings)


if __name__ == "__main__":
    raise SystemExit(main())
