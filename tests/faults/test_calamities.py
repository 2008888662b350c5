"""A few calamities in every run of the suite, one after the other on one installation; ``make faults`` has them all."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest

from tests.faults.bench import Bench, bench
from tests.faults.calamities import run_calamity
from tests.faults.points import GATE_CALL

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def made() -> Iterator[Bench]:
    with bench("alpaca", 1, "redis") as made:
        yield made


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("order_of_another_type", "one mangled order stops the trader, and the trader goes on where it is mended"),
        ("frozen_past_lease", "what was about to be sent ten seconds ago is not sent"),
        ("redis_flushed", "an emptied Redis stays off, and learns the day from the venue"),
    ],
)
def test_calamity_when_cured_leaves_nothing_doubled_lost_or_on(made: Bench, name: str, why: str) -> None:
    trial = run_calamity(made, name, random.Random(1))
    assert trial.findings.bad() == {}, f"{why}: python -m tests.faults --replay {name} 1: {trial.story}"


def test_gate_when_its_reply_is_lost_sends_nothing_and_the_intent_is_closed(made: Bench) -> None:
    assert made.proxy is not None
    before = len(made.truth().orders)
    made.trade()
    made.await_cycle()
    lost = made.proxy.replies_lost
    made.proxy.lose_reply(GATE_CALL)
    end = time.monotonic() + 60
    while made.proxy.replies_lost == lost and time.monotonic() < end:
        time.sleep(0.02)
    made.await_cycle()
    findings = made.settle(made.stop(), before)
    assert made.proxy.replies_lost > lost
    assert findings.bad() == {}
