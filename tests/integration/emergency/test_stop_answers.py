"""What a stop makes of answers that are late, lost or nonsense: its figures, and that it goes on."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from shared.store import Store
from tests.integration.emergency.recording import Running
from tests.integration.emergency.test_stop import ENTRY, EXIT, OFF, document, stopped, turn_on
from tests.support import eventually


@pytest.mark.parametrize("policy", ["cancel_all", "cancel_entries"])
def test_stop_when_no_cancel_is_answered_tells_what_it_has_cancelled_all_the_same(
    store: Store, redis_url: str, tmp_path: Path, policy: str
) -> None:
    """The venue did as it was asked, and its answer was lost: the next list is empty and says nothing of it."""
    with Running(tmp_path, redis_url) as running:
        turn_on(store)
        store.client.set("risk_settings", b'{"emergency_stop_active": false, "on_stop": "%s"}' % policy.encode())
        running.venue.place("before", since=-3600)
        running.venue.end_all()
        running.venue.place(ENTRY)
        running.venue.place("sbe1rbbcdefabcdef")
        running.venue.silent = True
        store.client.set("trading_settings", OFF)
        report = stopped(store, "trading_settings")
        assert (report["orders_found"], report["orders_canceled"]) == (2, 2)


def test_stop_when_the_cancel_all_is_mute_cancels_one_by_one_beside_it(
    store: Store, redis_url: str, tmp_path: Path
) -> None:
    with Running(tmp_path, redis_url) as running:
        turn_on(store)
        running.venue.place(ENTRY)
        running.venue.place(EXIT)
        running.venue.hung = threading.Event()
        try:
            store.client.set("trading_settings", OFF)
            eventually(lambda: not running.venue.working, what="cancelled while the cancel-all has no answer")
        finally:
            running.venue.hung.set()
        report = stopped(store, "trading_settings")
        assert (report["orders_found"], report["orders_canceled"], running.venue.calls("cancel_all")) == (2, 2, 1)


def test_stop_when_the_adapter_raises_what_it_should_not_goes_on(store: Store, redis_url: str, tmp_path: Path) -> None:
    """The thread that cancels must not die of an answer that nobody foresaw."""
    with Running(tmp_path, redis_url) as running:
        turn_on(store)
        running.venue.place(ENTRY)
        running.venue.deaf = running.venue.broken = True
        store.client.set("trading_settings", OFF)
        eventually(
            lambda: "unexpected" in str(document(store, "stop_report").get("accounts")), what="it is in the report"
        )
        running.venue.deaf = running.venue.broken = False
        assert stopped(store, "trading_settings")["orders_canceled"] == 1
