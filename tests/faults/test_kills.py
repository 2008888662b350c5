"""A few seeded kills of real workers in every run of the suite; the thousand run by ``make faults``."""

from __future__ import annotations

import random

import pytest

from tests.faults.bench import bench
from tests.faults.kills import random_kill
from tests.faults.points import SCENARIOS, run_failpoint
from worker.failpoints import FAILPOINTS

pytestmark = pytest.mark.timeout(300)


def test_every_failpoint_when_listed_has_a_scenario() -> None:
    assert SCENARIOS.keys() == FAILPOINTS.keys()


@pytest.mark.parametrize(("venue", "seed", "kills"), [("alpaca", 2, 1), ("simulated", 3, 1)])
def test_random_kills_when_the_venue_lies_leave_nothing_doubled_lost_or_on(venue: str, seed: int, kills: int) -> None:
    rng = random.Random(seed)
    with bench(venue, seed) as made:
        for _ in range(kills):
            trial = random_kill(made, rng)
            assert trial.findings.bad() == {}, f"python -m tests.faults --replay {venue} {seed}: {trial.story}"


def test_kill_when_the_venue_has_answered_and_the_book_has_not_changed_forgets_nothing() -> None:
    with bench("alpaca", 1, "redis") as made:
        trial = run_failpoint(made, "submit.answered")
    assert trial.reached
    assert trial.findings.bad() == {}
