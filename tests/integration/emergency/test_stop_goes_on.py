"""A stop over restarts of the worker that carries it out: it stays the same one, and is watched over once proven."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.store import Store
from tests.integration.emergency.recording import RecordingVenue, Running
from tests.integration.emergency.test_stop import ENTRY, EXIT, OFF, document, stopped, turn_on
from tests.support import eventually
from worker.emergency import worker as worker_module
from worker.emergency.sentry import Sentry


@pytest.fixture
def venue() -> RecordingVenue:
    return RecordingVenue()


def row(store: Store) -> dict[str, object]:
    found: dict[str, object] = document(store, "stop_report").get("accounts", {}).get("default", {})
    return found


def test_stop_when_the_worker_restarts_before_its_proof_stays_the_same_and_spares_the_owner(
    store: Store, redis_url: str, tmp_path: Path, venue: RecordingVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second cancel-all would take what the owner has placed by hand since."""
    monkeypatch.setattr(worker_module, "LEAVE_SECONDS", 0.1)
    with Running(tmp_path, redis_url, venue):
        turn_on(store)
        venue.place(ENTRY)
        venue.unread = True
        store.client.set("trading_settings", OFF)
        eventually(lambda: row(store).get("unread"), what="begun and not proven")
    begun = document(store, "stop_report")
    assert begun["state"] == "STOPPING"
    by_hand = venue.place("by-hand")
    venue.place(EXIT)
    venue.unread = False
    with Running(tmp_path, redis_url, venue):
        report = stopped(store, "trading_settings")
    assert (report["stop_id"], report["requested_at"]) == (begun["stop_id"], begun["requested_at"])
    assert list(venue.working) == [by_hand]
    assert venue.calls("cancel_all") == 1
    assert row(store)["foreign_after_stop"] == [by_hand]
    assert (report["orders_found"], report["orders_canceled"]) == (2, 2)


def test_stop_when_the_worker_restarted_after_its_proof_is_reopened_by_an_order_of_ours(
    store: Store, redis_url: str, tmp_path: Path, venue: RecordingVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sentry, "PERIOD_SECONDS", 0.05)
    with Running(tmp_path, redis_url, venue) as running:
        turn_on(store)
        store.client.set("trading_settings", OFF)
        proven = stopped(store, "trading_settings")
        eventually(lambda: running.worker._memory.memory.proven, what="the proof is remembered")
    with Running(tmp_path, redis_url, venue):
        by_hand = venue.place("by-hand")
        venue.place(ENTRY)
        eventually(lambda: list(venue.working) == [by_hand], what="ours is cancelled, the owner's is not")
        eventually(lambda: document(store, "stop_report").get("orders_canceled") == 1, what="reported")
        assert stopped(store, "trading_settings")["stop_id"] == proven["stop_id"]
        turn_on(store)
        venue.place(ENTRY)
    assert len(venue.working) == 2


def test_stop_when_one_document_says_stop_and_how_does_as_it_says(
    store: Store, redis_url: str, tmp_path: Path, venue: RecordingVenue
) -> None:
    """Nobody who writes both means the way that stood there before."""
    with Running(tmp_path, redis_url, venue):
        turn_on(store)
        exit_ = venue.place(EXIT)
        store.client.set("risk_settings", b'{"emergency_stop_active": true, "on_stop": "cancel_entries"}')
        assert stopped(store, "risk_settings")["policy"] == "cancel_entries"
        assert list(venue.working) == [exit_]


def test_stop_when_the_document_was_partial_before_a_restart_keeps_its_policy(
    store: Store, redis_url: str, tmp_path: Path, venue: RecordingVenue
) -> None:
    with Running(tmp_path, redis_url, venue) as running:
        turn_on(store)
        store.client.set("risk_settings", b'{"emergency_stop_active": false, "on_stop": "cancel_entries"}')
        eventually(lambda: running.worker._memory.memory.on_stop == "cancel_entries", what="the policy is known")
        store.client.set("risk_settings", b'{"emergency_stop_active": false}')
    with Running(tmp_path, redis_url, venue):
        turn_on(store)
        store.client.set("trading_settings", OFF)
        assert stopped(store, "trading_settings")["policy"] == "cancel_entries"


def test_worker_when_drained_says_that_trading_is_not_active_and_arms_again_when_it_is_back(
    store: Store, redis_url: str, tmp_path: Path, venue: RecordingVenue
) -> None:
    """With nobody arming, a reader would see ACTIVE for as long as nobody comes back."""
    with Running(tmp_path, redis_url, venue):
        turn_on(store)
    status = document(store, "trading_status")
    assert (status["active"], status["state"], status["stop_reason"]) == (False, "HALTED", None)
    with Running(tmp_path, redis_url, venue):
        eventually(lambda: document(store, "trading_status")["active"] is True, what="active again")


def test_worker_when_drained_during_a_stop_brings_it_to_its_proof(
    store: Store, redis_url: str, tmp_path: Path, venue: RecordingVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "LEAVE_SECONDS", 25.0)
    with Running(tmp_path, redis_url, venue) as running:
        turn_on(store)
        venue.place(ENTRY)
        store.client.set("trading_settings", OFF)
        eventually(lambda: venue.calls("cancel_all"), what="begun")
    assert document(store, "stop_report")["state"] == "STOPPED"
    memory = json.loads((tmp_path / "run" / "emergency-default.json").read_text())
    assert (memory["active"], memory["proven"]) == (False, True)
    assert running.venue.working == {}
