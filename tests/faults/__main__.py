"""``python -m tests.faults N [SEED]``: every failpoint and N random kills; writes docs/measured/faults.md.

A block of trials shares an installation and a seed. ``--replay VENUE SEED`` runs one block again.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.progress import Progress

from tests.faults.bench import Trial, bench
from tests.faults.kills import random_kill
from tests.faults.points import run_failpoint
from worker.failpoints import FAILPOINTS

BLOCK = 10
FROZEN_AT_MOST = 2
KINDS = ("duplicates", "lost", "phantom", "unintended_on", "limits", "figures")
Tick = Callable[[int], None]
REPORT = Path(__file__).parents[2] / "docs" / "measured" / "faults.md"


@dataclass(slots=True)
class Totals:
    """Sums over all trials of one venue."""

    trials: int = 0
    orders: int = 0
    found: Counter[str] = field(default_factory=Counter)


def random_block(venue: str, seed: int, totals: Totals, most: int) -> int:
    """Up to ``most`` random kills on a fresh installation; returns how many. Findings are printed with the seed."""
    rng, done = random.Random(seed), 0
    with bench(venue, seed) as made:
        while done < min(BLOCK, most):
            trial = random_kill(made, rng)
            done += 1
            count(totals, trial, f"--replay {venue} {seed} (trial {done})")
            if trial.findings.bad() or made.frozen() > FROZEN_AT_MOST:
                break
        totals.orders += len(made.truth().orders)
    return done


def count(totals: Totals, trial: Trial, how: str) -> None:
    """Take a trial into the sums and print what it found."""
    totals.trials += 1
    for kind, facts in trial.findings.bad().items():
        totals.found[kind] += len(facts)
    if trial.findings.bad():
        print(f"FOUND {how}: {trial.story}: {trial.findings.bad()}", file=sys.stderr, flush=True)


def table(totals: dict[str, Totals]) -> str:
    """The report's main table."""
    names = (
        "run",
        "trials",
        "orders",
        "duplicates",
        "lost",
        "phantom",
        "unintended ON",
        "limits passed",
        "figures off",
    )
    head = f"| {' | '.join(names)} |"
    lines = [head, "| --- |" + " ---: |" * 8]
    for name, t in totals.items():
        cells = [str(t.trials), str(t.orders), *(str(t.found[kind]) for kind in KINDS)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def report(totals: dict[str, Totals], unreached: list[str], seed: int, minutes: float) -> str:
    """docs/measured/faults.md."""
    points = len(FAILPOINTS)
    missed = ", ".join(f"`{name}`" for name in unreached) or "none"
    return f"""# Faults

Written by `make faults`. {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {minutes:.0f} minutes, seed {seed};
{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}.

{table(totals)}

A random kill is SIGKILL of the trading worker, the emergency worker or both, at a random time of a session in which
every ticker is bought and sold over and over. At Alpaca's protocol server the session is full of lies: answers that are
slow, cut off, 429, 500, 504 or garbage; orders that are visible late; partial fills at several prices; fills after a
cancel; updates lost, repeated and out of order. After restart and stop, the book in Redis is compared with the venue's
own ledger: orders, fills, positions, statistics, trades log and counters.

The bench was tried on a build broken on purpose, which sent an order once more after an answer that was cut off: it
reported `duplicates: … was sent 2 times`.

Failpoints: {points} declared, {points - len(unreached)} reached and killed at; not reached: {missed}.
"""


def random_kills(number: int, rng: random.Random, until: float, totals: dict[str, Totals], tick: Tick) -> None:
    """Three of four trials over Alpaca's protocol server, the rest over the simulated exchange."""
    while number > 0 and time.monotonic() < until:
        venue = "alpaca" if rng.random() < 0.75 else "simulated"
        done = random_block(venue, rng.randrange(2**31), totals[f"random kills, {venue}"], number)
        number -= done
        tick(done)


def all_failpoints(seed: int, until: float, totals: Totals, tick: Tick) -> list[str]:
    """One trial for each; returns those that were not reached."""
    names, unreached = list(FAILPOINTS), []
    while names and time.monotonic() < until:
        with bench("alpaca", seed) as made:
            while names and time.monotonic() < until:
                trial = run_failpoint(made, names.pop(0))
                count(totals, trial, f"failpoint {trial.name}")
                unreached += [] if trial.reached else [trial.name]
                tick(1)
                if trial.findings.bad() or made.frozen() > FROZEN_AT_MOST:
                    break
            totals.orders += len(made.truth().orders)
    return unreached + names


def main() -> int:
    options = argparse.ArgumentParser(prog="tests.faults")
    options.add_argument("n", type=int, nargs="?", default=100)
    options.add_argument("--seed", type=int, default=None)
    options.add_argument("--minutes", type=float, default=float("inf"), help="begin no trial after that long")
    options.add_argument("--replay", nargs=2, metavar=("VENUE", "SEED"))
    given = options.parse_args()
    totals = {"random kills, alpaca": Totals(), "random kills, simulated": Totals(), "failpoints, alpaca": Totals()}
    if given.replay:
        venue, seed = given.replay
        random_block(venue, int(seed), totals[f"random kills, {venue}"], BLOCK)
        print(table(totals))
        return any(t.found for t in totals.values())
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(2**31)
    began, until = time.monotonic(), time.monotonic() + given.minutes * 60
    with Progress() as progress, ThreadPoolExecutor(2) as pool:
        kills = progress.add_task("random kills", total=given.n)
        points = progress.add_task("failpoints", total=len(FAILPOINTS))
        killing = pool.submit(
            random_kills, given.n, random.Random(seed), until, totals, lambda n: progress.advance(kills, n)
        )
        passing = pool.submit(
            all_failpoints, seed, until, totals["failpoints, alpaca"], lambda n: progress.advance(points, n)
        )
        killing.result()
        unreached = passing.result()
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(report(totals, unreached, seed, (time.monotonic() - began) / 60))
    print(table(totals))
    return any(t.found for t in totals.values())


if __name__ == "__main__":
    raise SystemExit(main())
