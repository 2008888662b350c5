"""The way from ``events`` to a delivery, step by step: nothing lost, nothing told twice, no flood."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import structlog

from shared.clock import ManualClock
from shared.errors import StoreUnreachable
from shared.store import Store
from tests.builders import NOW
from worker.core.telling import Level
from worker.reporters.base import Report
from worker.reporters.forwarder import MOST_ATTEMPTS, PAUSE_SECONDS, Delivery, Direct, Fate, Forwarder

TARGET = "telegram:5"


class Post:
    """Deliveries in memory: what was sent under which id, and the fate that the test gives it."""

    def __init__(self) -> None:
        self.sent: list[Report] = []
        self.fates: dict[str, Delivery] = {}
        self.down = False
        self.last = ""

    def send(self, delivery_id: str, target: str, report: Report) -> None:
        if self.down:
            raise StoreUnreachable("down")
        assert delivery_id.startswith(report.id)
        if delivery_id not in self.fates:
            self.sent.append(report)
            self.last = delivery_id
            self.fates[delivery_id] = Delivery(Fate.PENDING)

    def fate(self, delivery_id: str) -> Delivery:
        if self.down:
            raise StoreUnreachable("down")
        return self.fates.get(delivery_id, Delivery(Fate.UNKNOWN))

    def forget(self, delivery_id: str) -> None:
        self.fates.pop(delivery_id, None)

    def arrive(self, fate: Fate = Fate.DELIVERED, problem: str = "") -> None:
        self.fates[self.last] = Delivery(fate, problem)


class Bench:
    """A forwarder that a test turns by hand; ``restart`` is another process on the same keys."""

    def __init__(self, store: Store) -> None:
        self.store, self.post, self.clock = store, Post(), ManualClock(NOW)
        self.leads = True
        self.restart()
        self.turn()

    def restart(self, level: Level = Level.ORDERS) -> None:
        logger: Any = structlog.get_logger()
        self.forwarder = Forwarder(TARGET, level, self.store, self.post, self.clock, logger, lambda: self.leads)

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.forwarder()

    def fill(self, ticker: str) -> None:
        fields = {"event": "order", "side": "buy", "state": "FILLED", "filled_qty": "1", "ticker": ticker}
        self.store.add_event(self.store.keys.events, fields)

    def deliver(self) -> None:
        """Let what is on its way arrive, and time pass."""
        self.turn()
        self.post.arrive()
        self.turn()
        self.clock.advance(PAUSE_SECONDS)

    @property
    def told(self) -> list[str]:
        return [line for report in self.post.sent for line in report.lines]

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = self.store.get_json(self.store.keys.reporter(TARGET))
        return found


@pytest.fixture
def bench(store: Store) -> Bench:
    return Bench(store)


def test_forwarder_when_started_the_first_time_tells_what_happens_from_then_on(store: Store) -> None:
    store.add_event(store.keys.events, {"event": "order", "state": "FILLED", "ticker": "OLD"})
    bench = Bench(store)
    bench.fill("NEW")
    bench.turn()
    assert bench.told == ["FILLED BUY 1 NEW"]


def test_forwarder_when_a_report_is_on_its_way_gathers_the_rest_into_the_next(bench: Bench) -> None:
    bench.fill("A")
    bench.turn()
    bench.fill("B")
    bench.fill("C")
    bench.turn(5)
    assert bench.told == ["FILLED BUY 1 A"]
    bench.deliver()
    bench.deliver()
    assert [report.lines for report in bench.post.sent] == [("FILLED BUY 1 A",), ("FILLED BUY 1 B", "FILLED BUY 1 C")]
    assert bench.document()["delivered"] == 2


@pytest.mark.parametrize("moment", ["before_enqueueing", "on_its_way", "delivered", "forgotten_by_rq"])
def test_forwarder_when_it_dies_at_any_moment_tells_each_event_once(bench: Bench, moment: str) -> None:
    bench.fill("A")
    if moment == "before_enqueueing":
        bench.post.down = True
        with pytest.raises(StoreUnreachable):
            bench.turn()
        bench.post.down = False
    else:
        bench.turn()
    if moment == "delivered":
        bench.post.arrive()
    if moment == "forgotten_by_rq":
        bench.post.fates.clear()
    bench.restart()
    bench.fill("B")
    bench.turn(2)
    if moment != "delivered":
        bench.deliver()
    bench.clock.advance(PAUSE_SECONDS)
    bench.deliver()
    ids = list(dict.fromkeys(report.id for report in bench.post.sent))
    by_id = {report.id: report.lines for report in bench.post.sent}
    assert [by_id[name] for name in ids] == [("FILLED BUY 1 A",), ("FILLED BUY 1 B",)]


def test_forwarder_when_the_receiver_refuses_for_good_goes_on_and_says_so(bench: Bench) -> None:
    bench.fill("A")
    bench.turn()
    bench.post.arrive(Fate.REFUSED, "Telegram: 403 blocked")
    bench.turn()
    bench.clock.advance(PAUSE_SECONDS)
    bench.fill("B")
    bench.turn()
    assert bench.told == ["FILLED BUY 1 A", "FILLED BUY 1 B"]
    found = bench.document()
    assert (found["lost"], found["problem"]) == (1, "Telegram: 403 blocked")
    rows: Any = bench.store.client.xrange(bench.store.keys.events)
    assert [r[b"why"] for _, r in rows if r[b"event"] == b"report_lost"] == [b"Telegram: 403 blocked"]


def test_forwarder_when_a_job_dies_enqueues_the_same_report_again_and_not_for_ever(bench: Bench) -> None:
    bench.fill("A")
    bench.turn()
    for _ in range(MOST_ATTEMPTS + 1):
        bench.post.arrive(Fate.FAILED, "killed")
        bench.turn(2)
    assert len({report.id for report in bench.post.sent}) == 1
    assert len(bench.post.sent) == MOST_ATTEMPTS + 1
    assert bench.document()["lost"] == 1


def test_forwarder_when_there_is_a_storm_tells_a_digest_at_a_slow_pace(bench: Bench) -> None:
    for n in range(300):
        bench.fill(f"T{n}")
    bench.turn()
    assert bench.told[-1] == "and 281 more: 281 FILLED"
    for n in range(60):
        bench.deliver()
        bench.fill(f"U{n}")
        bench.turn()
    assert len(bench.post.sent) <= 18


def test_forwarder_when_a_stop_comes_in_a_storm_does_not_wait(bench: Bench) -> None:
    for n in range(40):
        bench.fill(f"U{n}")
        bench.deliver()
    told = len(bench.post.sent)
    bench.fill("X")
    bench.turn(3)
    assert len(bench.post.sent) == told
    bench.store.put_json(bench.store.keys.stop_report, {"stop_id": "s", "state": "STOPPED", "reason": "redis_lost"})
    bench.turn()
    assert bench.post.sent[-1].lines[0].startswith("stop STOPPED: redis_lost")


def test_forwarder_when_a_stop_happened_while_it_was_down_tells_it(bench: Bench) -> None:
    bench.store.put_json(bench.store.keys.stop_report, {"stop_id": "s", "state": "STOPPED", "reason": "redis_lost"})
    bench.restart()
    bench.turn()
    assert bench.told[0].startswith("stop STOPPED: redis_lost")


def test_forwarder_when_the_stream_was_cut_before_it_was_told_says_so(bench: Bench) -> None:
    bench.fill("A")
    bench.deliver()
    bench.fill("B")
    bench.fill("C")
    bench.store.client.xtrim(bench.store.keys.events, maxlen=1, approximate=False)
    bench.turn()
    assert bench.told[1:] == ["some events were dropped from the stream before they could be told", "FILLED BUY 1 C"]


@pytest.mark.parametrize(
    "found",
    [
        "x",
        [],
        {"cursor": 5},
        {"cursor": "later"},
        {"cursor": "0-0", "report": {"id": 1}},
        {"cursor": "0-0", "report": 7},
        {"cursor": "0-0", "attempts": "x"},
        {"cursor": "0-0", "seen": []},
        {"cursor": "0-0", "seen": {"state": 7}},
        {"cursor": "0-0", "upto": "$"},
    ],
)
def test_forwarder_when_its_document_is_mangled_begins_anew(bench: Bench, found: object) -> None:
    bench.store.put_json(bench.store.keys.reporter(TARGET), found)
    bench.turn()
    bench.fill("A")
    bench.turn()
    assert bench.told == ["FILLED BUY 1 A"]


def test_forwarder_when_another_leads_does_nothing(bench: Bench) -> None:
    bench.leads = False
    bench.fill("A")
    bench.turn(3)
    assert bench.told == []


def test_forwarder_when_delivery_is_direct_needs_no_queue(store: Store) -> None:
    bench = Bench(store)
    got: list[Report] = []
    deliver: Callable[[Report], None] = got.append
    bench.post = Direct(deliver)  # type: ignore[assignment]
    bench.restart(Level.ALL)
    bench.store.add_event(bench.store.keys.events, {"event": "denied", "ticker": "A"})
    bench.turn(3)
    assert [report.lines for report in got] == [("denied: ticker=A",)]
    assert got[0].events == ({"event": "denied", "ticker": "A"},)
