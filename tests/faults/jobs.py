"""The run of the bench as jobs that some threads share, and the sums of what they find.

A block of trials shares an installation and a seed; ``replay`` runs one block again.
"""

from __future__ import annotations

import queue
import random
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from tests.faults.account import VENUES
from tests.faults.bench import Bench, Trial, bench
from tests.faults.calamities import CALAMITIES, run_calamity
from tests.faults.kills import proxied_trial, random_kill
from tests.faults.matrix import ROWS, Outcome, run_matrix
from tests.faults.oracle import Findings
from tests.faults.points import run_failpoint
from tests.support import RedisServer
from worker.failpoints import FAILPOINTS

BLOCK = 10
FAILPOINTS_OF_A_BLOCK = 8
FROZEN_AT_MOST = 2
Tick = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Kills:
    """A kind of random trial: over which venue, behind which proxy, and how often beside the others."""

    venue: str
    proxied: str = ""
    share: int = 1

    def trial(self, made: Bench, rng: random.Random) -> Trial:
        return proxied_trial(made, rng, self.proxied) if self.proxied else random_kill(made, rng)


KILLS = {
    "alpaca": Kills("alpaca", share=11),
    "simulated": Kills("simulated", share=4),
    "proxied-redis": Kills("alpaca", "redis", share=2),
    "proxied-venue": Kills("alpaca", "venue", share=2),
    "proxied-exchange": Kills("simulated", "venue", share=1),
}


def trials_of(kills: int) -> dict[str, int]:
    """How many trials of each kind come with so many random kills."""
    shares = sum(k.share for k in KILLS.values() if not k.proxied)
    counts = {name: kills * k.share // shares for name, k in KILLS.items()}
    counts["alpaca"] += kills - sum(n for name, n in counts.items() if not KILLS[name].proxied)
    return counts


@dataclass(slots=True)
class Totals:
    """Sums over all trials of one row of the report."""

    trials: int = 0
    orders: int = 0
    found: Counter[str] = field(default_factory=Counter)


class Results:
    """What all jobs have found so far; any thread may add."""

    def __init__(self, until: float = float("inf")) -> None:
        self._lock = threading.Lock()
        self.totals: dict[str, Totals] = {}
        self.reached: set[str] = set()
        self.unreached: set[str] = set()
        self.outcomes: dict[str, list[Outcome]] = {}
        self.findings: list[str] = []
        self.until = until
        self.interrupted = threading.Event()

    @property
    def over(self) -> bool:
        """Whether no trial may begin any more."""
        return self.interrupted.is_set() or time.monotonic() > self.until

    def take(self, row: str, trial: Trial, how: str) -> None:
        with self._lock:
            totals = self.totals.setdefault(row, Totals())
            totals.trials += 1
            for kind, facts in trial.findings.bad().items():
                totals.found[kind] += len(facts)
        if trial.findings.bad():
            self._tell(f"{how}: {trial.story}: {trial.findings.bad()}")

    def orders(self, row: str, number: int) -> None:
        with self._lock:
            self.totals.setdefault(row, Totals()).orders += number

    def point(self, name: str, *, reached: bool) -> None:
        with self._lock:
            (self.reached if reached else self.unreached).add(name)

    def outcome(self, venue: str, outcome: Outcome) -> None:
        with self._lock:
            self.outcomes.setdefault(venue, []).append(outcome)
        if outcome.problems:
            self._tell(f"--only matrix ({venue}, {outcome.row}): {outcome.problems}")

    def _tell(self, what: str) -> None:
        with self._lock:
            self.findings.append(what)
        print(f"FOUND --replay {what}".replace("--replay --only", "--only"), file=sys.stderr, flush=True)


def guarded(name: str, run: Callable[[], Trial]) -> Trial:
    """A trial that breaks is a finding: either the bench is wrong, or what had to happen never did."""
    try:
        return run()
    except (Exception, pytest.fail.Exception) as error:
        where = traceback.extract_tb(error.__traceback__)
        at = next((f"{f.name}:{f.lineno}" for f in reversed(where) if "tests/faults" in f.filename), "")
        return Trial(name, Findings(stuck=[f"{type(error).__name__} in {at}: {str(error)[:2000]}"]))


def block(
    results: Results,
    row: str,
    opened: AbstractContextManager[Bench],
    trials: Sequence[tuple[str, Callable[[Bench], Trial]]],
    tick: Tick,
) -> int:
    """Trials on one fresh installation, until one finds something or too much is frozen; returns how many ran. An
    installation that does not start is a finding of its first trial."""
    done = 0

    def take(trial: Trial, how: str) -> None:
        nonlocal done
        done += 1
        results.take(row, trial, how)
        if trial.name in FAILPOINTS:
            results.point(trial.name, reached=trial.reached)
        tick(1)

    def run() -> Trial:
        with opened as made:
            for how, trial_of in trials:
                if results.over:
                    break
                trial = guarded(how, partial(trial_of, made))
                take(trial, how)
                if trial.findings.bad() or made.frozen() > FROZEN_AT_MOST:
                    break
            results.orders(row, len(made.truth().orders))
        return Trial(row, Findings())

    ended = guarded(row, run)
    if ended.findings.bad():
        take(ended, trials[min(done, len(trials) - 1)][0])
    return done


class Plan:
    """The jobs of one run. One that ends early puts what is left of it last."""

    def __init__(self, results: Results, seed: int) -> None:
        self._results, self._rng = results, random.Random(seed)
        self.jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._mixed: list[Callable[[], None]] = []

    def _seed(self) -> int:
        return self._rng.randrange(2**31)

    def kills(self, number: int, tick: Tick) -> None:
        """So many random kills, and a third as many faults of the network beside them."""
        counts = trials_of(number)
        blocks = [(name, min(BLOCK, n - at)) for name, n in counts.items() for at in range(0, n, BLOCK)]
        for name, count in blocks:
            self._mixed.append(partial(self._kill, name, self._seed(), count, tick))

    def _kill(self, name: str, seed: int, count: int, tick: Tick) -> None:
        left = count - kill_block(self._results, name, seed, count, tick)
        if left and not self._results.over:
            self.jobs.put(partial(self._kill, name, seed + 1, left, tick))

    def failpoints(self, tick: Tick) -> None:
        """Each once."""
        names = list(FAILPOINTS)
        for at in range(0, len(names), FAILPOINTS_OF_A_BLOCK):
            self._mixed.append(partial(self._points, names[at : at + FAILPOINTS_OF_A_BLOCK], self._seed(), tick))

    def _points(self, names: list[str], seed: int, tick: Tick) -> None:
        left = names[failpoint_block(self._results, names, seed, tick) :]
        if left and not self._results.over:
            self.jobs.put(partial(self._points, left, seed + 1, tick))

    def calamities(self, seeds: int, tick: Tick) -> None:
        """Each with so many seeds, each trial on a fresh installation."""
        trials = [(name, self._seed()) for name in CALAMITIES for _ in range(seeds)]
        for name, seed in trials:
            self._mixed.append(partial(calamity, self._results, name, seed, tick))

    def matrix(self, tick: Tick) -> None:
        """All rows over each venue."""
        for venue in VENUES:
            self.jobs.put(partial(matrix, self._results, venue, tick))

    def mix(self) -> None:
        """Put all but the matrix in a random order, so that a run which is cut short has tried something of each."""
        self._rng.shuffle(self._mixed)
        for job in self._mixed:
            self.jobs.put(job)

    def work(self) -> None:
        """Do jobs until none is left or the run is over; one thread of several."""
        while not self._results.over:
            try:
                job = self.jobs.get_nowait()
            except queue.Empty:
                return
            job()


def kill_block(results: Results, name: str, seed: int, count: int, tick: Tick) -> int:
    kind, rng = KILLS[name], random.Random(seed)
    trials = [(f"{name} {seed} (trial {n + 1})", lambda made: kind.trial(made, rng)) for n in range(min(count, BLOCK))]
    return block(results, f"kills, {name}", bench(kind.venue, seed, kind.proxied), trials, tick)


def failpoint_block(results: Results, names: Sequence[str], seed: int, tick: Tick) -> int:
    trials = [(f"{name} {seed}", lambda made, name=name: run_failpoint(made, name)) for name in names]
    return block(results, "failpoints", bench("alpaca", seed, "redis"), trials, tick)


def calamity(results: Results, name: str, seed: int, tick: Tick) -> None:
    rng = random.Random(seed)
    trials = [(f"{name} {seed}", lambda made: run_calamity(made, name, rng))]
    block(results, name, bench("alpaca", seed), trials, tick)


def matrix(results: Results, venue: str, tick: Tick) -> None:
    with tempfile.TemporaryDirectory(prefix="sixbot-matrix-") as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            for outcome in _until_over(results, run_matrix(venue, server.url)):
                results.outcome(venue, outcome)
                tick(1)
        finally:
            server.stop()


def _until_over(results: Results, outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    for outcome in outcomes:
        yield outcome
        if results.over:
            return


def replay(results: Results, kind: str, seed: int) -> None:
    """Run the block of a finding again. Raises KeyError for a kind that is none."""
    if kind in KILLS:
        kill_block(results, kind, seed, BLOCK, lambda _: None)
    elif kind in CALAMITIES:
        calamity(results, kind, seed, lambda _: None)
    else:
        failpoint_block(results, [{name: name for name in FAILPOINTS}[kind]], seed, lambda _: None)


MATRIX_ROWS = len(ROWS) * len(VENUES)
