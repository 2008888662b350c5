"""The stop as a user does it: any channel, with nothing but Redis, a file or a signal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.clock import SystemClock
from shared.control import Actor, Control
from shared.store import Store, connect
from tests.integration.emergency.recording import RecordingVenue, Running
from tests.support import RedisServer, eventually
from tests.unit.test_documents import MANGLED
from worker.core.types import Side
from worker.runtime import lock_is_held

ON = b'{"enabled": true}'
OFF = b'{"enabled": false}'
ENTRY, EXIT = "sbe1rabcdefabcdef", "sbx1rabcdefabcdef"


def document(store: Store, key: str) -> dict[str, Any]:
    raw = store.client.get(key)
    value = json.loads(raw) if raw else {}
    assert isinstance(value, dict)
    return value


def armed(store: Store) -> bool:
    epoch = store.client.get("trading_epoch")
    return epoch is not None and store.client.get("trading_armed") == epoch


def turn_on(store: Store) -> None:
    Control(store, SystemClock()).start(Actor("tester", "test"))
    eventually(lambda: armed(store) and document(store, "trading_status").get("active") is True, what="armed")


def stopped(store: Store, source: str) -> dict[str, Any]:
    def done() -> dict[str, Any] | None:
        report = document(store, "stop_report")
        return report if report.get("state") == "STOPPED" and report.get("source") == source else None

    report = eventually(done, what=f"stopped by {source}")
    assert isinstance(report, dict)
    assert not store.client.exists("trading_armed")
    return report


def test_stop_when_a_raw_client_sets_enabled_false_cancels_everything_and_proves_it(
    store: Store, redis_url: str, tmp_path: Path
) -> None:
    with Running(tmp_path, redis_url) as running:
        turn_on(store)
        for name in (ENTRY, EXIT, None):
            running.venue.place(name)
        epoch = int(store.client.get("trading_epoch") or 0)
        store.client.set("trading_settings", OFF)
        report = stopped(store, "trading_settings")
        assert running.venue.working == {}
        assert running.venue.calls("cancel_all") == 1
        assert (report["orders_found"], report["orders_canceled"], report["orders_unconfirmed"]) == (3, 3, 0)
        assert report["positions_open"] == 1
        assert int(store.client.get("trading_epoch") or 0) > epoch
        status = eventually(lambda: (s := document(store, "trading_status")).get("active") is False and s)
        assert isinstance(status, dict)
        assert (status["state"], status["stop_reason"]) == ("HALTED", "emergency_stop")
        store.client.set("trading_settings", ON)
        eventually(lambda: armed(store), what="a stop by enabled is no latch")


@pytest.mark.parametrize("name", MANGLED)
def test_stop_when_the_document_is_mangled_is_off_untouched_and_the_next_good_one_resumes(
    name: str, store: Store, redis_url: str, tmp_path: Path
) -> None:
    with Running(tmp_path, redis_url):
        turn_on(store)
        store.client.set("trading_settings", MANGLED[name])
        report = stopped(store, "trading_settings")
        assert report["reason"] == "invalid_settings"
        assert store.client.get("trading_settings") == MANGLED[name]
        store.client.set("trading_settings", ON)
        eventually(lambda: armed(store), what="resumed")


@pytest.mark.parametrize("how", ["deleted", "a list", "risk unreadable"])
def test_stop_when_a_document_is_gone_or_of_another_type_is_off_and_not_latched(
    how: str, store: Store, redis_url: str, tmp_path: Path
) -> None:
    with Running(tmp_path, redis_url):
        turn_on(store)
        key = "risk_settings" if how == "risk unreadable" else "trading_settings"
        good = store.client.get(key) or b""
        store.client.delete(key)
        if how != "deleted":
            store.client.rpush(key, "x")
        assert stopped(store, key)["reason"] == "invalid_settings"
        assert not store.client.exists("stop_latch")
        store.client.set(key, good)
        eventually(lambda: armed(store), what="resumed")


@pytest.mark.parametrize("channel", ["flag", "file", "command"])
def test_stop_when_latching_survives_restart_and_flush_and_only_a_frontend_lifts_it(
    channel: str, store: Store, redis_url: str, tmp_path: Path
) -> None:
    source = {"flag": "risk_settings", "file": "stop_file", "command": "signal"}[channel]
    stop_file = tmp_path / "run" / "STOP"
    with Running(tmp_path, redis_url) as running:
        turn_on(store)
        if channel == "flag":
            store.client.set("risk_settings", b'{"emergency_stop_active": true, "note": "mine"}')
        elif channel == "file":
            stop_file.touch()
        else:
            running.worker.on_signal(0, None)
        assert stopped(store, source)["reason"] == "emergency_stop"
        eventually(lambda: document(store, "risk_settings").get("emergency_stop_active") is True, what="flag shown")
        eventually(lambda: store.client.exists("stop_latch"), what="latch shown")
        stop_file.unlink(missing_ok=True)
    epoch = int(store.client.get("trading_epoch") or 0)
    store.client.flushdb()
    store.client.set("trading_settings", ON)
    with Running(tmp_path, redis_url):
        eventually(lambda: document(store, "risk_settings").get("emergency_stop_active") is True, what="flag again")
        eventually(lambda: int(store.client.get("trading_epoch") or 0) > epoch, what="the epoch never goes back")
        assert not store.client.exists("trading_armed")
        turn_on(store)
        eventually(lambda: not store.client.exists("stop_latch"), what="sign taken down")


def test_stop_when_redis_comes_back_older_stays_off_until_a_frontend_starts_it(
    store: Store, redis_url: str, tmp_path: Path
) -> None:
    with Running(tmp_path, redis_url) as running:
        turn_on(store)
        running.venue.place(EXIT, Side.SELL)
        store.client.set("trading_epoch", 0)
        assert stopped(store, "redis")["reason"] == "redis_lost"
        eventually(lambda: document(store, "risk_settings").get("emergency_stop_active") is True, what="flag shown")
        assert len(running.venue.working) == 1
        turn_on(store)


def test_stop_when_redis_is_emptied_between_a_look_and_the_arming_is_a_lost_one_all_the_same(
    store: Store, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch raised there would be all that told an emptied Redis from one whose documents are gone."""
    with Running(tmp_path, redis_url) as running:
        turn_on(store)
        line = running.worker._arming._fencer.line
        read = line.epoch

        def emptied() -> int | None:
            monkeypatch.undo()
            store.client.flushdb()
            return read()

        monkeypatch.setattr(line, "epoch", emptied)
        eventually(lambda: document(store, "stop_latch").get("reason") == "redis_lost", what="the latch")
        store.client.set("trading_settings", ON)
        eventually(lambda: document(store, "risk_settings").get("emergency_stop_active") is True, what="flag shown")
        assert not armed(store)


def test_stop_when_the_trader_asks_for_a_halt_keeps_exits_and_a_persons_stop_then_cancels_them(
    store: Store, redis_url: str, tmp_path: Path
) -> None:
    with Running(tmp_path, redis_url) as running:
        turn_on(store)
        entry, exit_ = running.venue.place(ENTRY), running.venue.place(EXIT, Side.SELL)
        host = os.uname().nodename
        halt = {"reason": "risk_limit", "detail": "lost 1,000 of 1,000", "at": "2999-01-01T00:00:00Z"}
        store.put_json(f"heartbeat:trading:{host}", {"halt": halt}, ttl_seconds=60)
        report = stopped(store, "trader")
        assert (report["reason"], report["policy"]) == ("risk_limit", "cancel_entries")
        assert entry not in running.venue.working
        assert exit_ in running.venue.working
        eventually(lambda: document(store, "risk_settings").get("emergency_stop_active") is True, what="flag shown")
        store.client.set("trading_settings", OFF)
        stopped(store, "trading_settings")
        assert running.venue.working == {}
        assert document(store, "trading_status")["stop_reason"] == "risk_limit"


def test_stop_when_the_trader_is_silent_with_orders_open_stops_by_itself(
    store: Store, redis_url: str, tmp_path: Path
) -> None:
    with Running(tmp_path, redis_url, trader_silent_stop_seconds=0.5) as running:
        turn_on(store)
        running.venue.place(ENTRY)
        store.client.sadd("orders:open", ENTRY)
        assert stopped(store, "trader")["reason"] == "worker_silent"


def test_stop_when_redis_is_lost_cancels_entries_without_it_and_reports_when_it_is_back(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    client = connect(own_redis.url)
    store = Store(client)
    with Running(tmp_path / "home", own_redis.url, redis_lost_stop_seconds=1) as running:
        turn_on(store)
        running.venue.place(ENTRY)
        own_redis.stop()
        eventually(lambda: not running.venue.working, what="cancelled without Redis")
        own_redis.start()
        assert stopped(store, "redis")["reason"] == "redis_lost"
        eventually(lambda: store.client.exists("stop_latch"), what="latched")
        eventually(lambda: document(store, "stop_report")["accounts"]["default"]["fenced"], what="fenced, and told")
    client.close()


def test_stop_when_the_venue_is_down_or_deaf_never_says_stopped_before_it_is_proven(
    store: Store, redis_url: str, tmp_path: Path
) -> None:
    with Running(tmp_path, redis_url) as running:
        turn_on(store)
        running.venue.place(ENTRY)
        running.venue.down = running.venue.deaf = True
        store.client.set("trading_settings", OFF)
        eventually(
            lambda: document(store, "stop_report").get("accounts", {}).get("default", {}).get("errors"),
            what="the failure is reported",
        )
        running.venue.down = False
        eventually(lambda: document(store, "stop_report").get("orders_unconfirmed") == 1, what="unconfirmed")
        report = document(store, "stop_report")
        assert (report["state"], report["orders_found"], report["orders_canceled"]) == ("STOPPING", 1, 0)
        running.venue.deaf = False
        report = stopped(store, "trading_settings")
        assert (report["orders_found"], report["orders_canceled"], report["orders_unconfirmed"]) == (1, 1, 0)


def test_stop_when_an_order_of_the_book_is_in_no_list_cancels_it_before_it_says_stopped(
    store: Store, redis_url: str, tmp_path: Path
) -> None:
    """A venue may list an order later than it accepted it; two empty lists alone would be a false proof."""
    with Running(tmp_path, redis_url) as running:
        turn_on(store)
        late = running.venue.place(ENTRY)
        running.venue.hidden = frozenset({late})
        store.client.sadd("orders:open", ENTRY, "sbe1rgonegonegone")
        store.client.hset(f"order:{ENTRY}", mapping={"account": "default", "venue_order_id": late})
        store.client.hset("order:sbe1rgonegonegone", mapping={"account": "default", "venue_order_id": "gone"})
        store.client.set("trading_settings", OFF)
        report = stopped(store, "trading_settings")
        assert running.venue.working == {}
        assert (report["orders_found"], report["orders_canceled"]) == (1, 1)


def test_stop_when_the_list_of_orders_cannot_be_read_whole_cancels_what_is_in_it(
    store: Store, redis_url: str, tmp_path: Path
) -> None:
    with Running(tmp_path, redis_url) as running:
        turn_on(store)
        store.client.set("risk_settings", b'{"emergency_stop_active": false, "on_stop": "cancel_entries"}')
        for letter in "abc":
            running.venue.place(f"sbe1r{letter}bcdefabcdef")
        running.venue.partly = True
        eventually(lambda: running.worker._memory.memory.on_stop == "cancel_entries", what="the policy is known")
        store.client.set("trading_settings", OFF)
        assert stopped(store, "trading_settings")["orders_canceled"] == 3


def test_stop_when_one_of_ours_appears_after_it_reopens_and_a_foreign_one_is_left_alone(
    store: Store, redis_url: str, tmp_path: Path
) -> None:
    with Running(tmp_path, redis_url) as running:
        turn_on(store)
        store.client.set("trading_settings", OFF)
        stopped(store, "trading_settings")
        running.venue.place(ENTRY)
        foreign = running.venue.place(None)
        eventually(lambda: list(running.venue.working) == [foreign], what="ours is cancelled, the owner's is not")


def test_status_when_only_the_emergency_worker_runs_has_every_field_of_the_contract(
    store: Store, redis_url: str, tmp_path: Path
) -> None:
    with Running(tmp_path, redis_url):
        found = eventually(lambda: document(store, "trading_status"), what="the status")
    assert isinstance(found, dict)
    assert (found["active"], found["trades_today"], found["total_volume"]) == (False, 0, 0)
    assert {"last_run", "last_error", "next_run", "worker_pid"} <= found.keys()


def test_start_up_when_trading_settings_is_missing_writes_the_default_off(
    store: Store, redis_url: str, tmp_path: Path
) -> None:
    venue = RecordingVenue()
    foreign = venue.place(None)
    with Running(tmp_path, redis_url, venue):
        status = eventually(lambda: (s := document(store, "trading_status")).get("stop_reason") and s)
        assert isinstance(status, dict)
        assert (status["active"], status["stop_reason"]) == (False, "disabled_by_user")
        assert document(store, "trading_settings")["enabled"] is False
        assert list(venue.working) == [foreign]
        assert not store.client.exists("stop_report")


def test_stop_when_the_trader_is_frozen_kills_it_by_its_lock_before_it_says_stopped(
    store: Store, redis_url: str, tmp_path: Path
) -> None:
    code = (
        "import os, sys, signal; from pathlib import Path; from worker.runtime import AccountLock;"
        "AccountLock(Path(sys.argv[1]), 'default').acquire(); os.kill(os.getpid(), signal.SIGSTOP)"
    )
    with Running(tmp_path, redis_url) as running:
        turn_on(store)
        running.venue.unread = True  # which must not keep the trader alive
        trader = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")])
        try:
            eventually(lambda: lock_is_held(tmp_path / "run" / "account-default.lock"), what="the trader's lock")
            store.client.set("trading_settings", OFF)
            assert trader.wait(30) == -signal.SIGKILL
            running.venue.unread = False
            account = stopped(store, "trading_settings")["accounts"]["default"]
            assert account["trader"] == f"killed process {trader.pid}"
        finally:
            trader.kill()
            trader.wait()


def test_stop_when_it_is_over_is_in_the_events_with_what_came_before_and_after(
    store: Store, redis_url: str, tmp_path: Path
) -> None:
    """``events`` is what an archive copies: a history without its stops would be none."""

    def told() -> list[tuple[str | None, ...]]:
        found: Any = store.client.xrange("events")
        names = (b"event", b"active", b"state", b"stop_reason", b"reason", b"latched")
        return [tuple(fields[n].decode() if n in fields else None for n in names) for _, fields in found]

    with Running(tmp_path, redis_url):
        turn_on(store)
        (tmp_path / "run" / "STOP").touch()
        stopped(store, "stop_file")
        eventually(lambda: ("latch", None, None, None, "emergency_stop", "true") in told(), what="the latch")
        (tmp_path / "run" / "STOP").unlink()
        turn_on(store)
        eventually(lambda: ("latch", None, None, None, "emergency_stop", "false") in told(), what="the end of it")
        eventually(lambda: told()[-1][:3] == ("trading", "true", "ACTIVE"), what="the resume")
        found = told()
        assert ("trading", "true", "ACTIVE", None, None, None) in found[:3]
        assert found.count(("trading", "false", "HALTED", "emergency_stop", None, None)) == 1
        assert found.count(("stop", None, "STOPPED", None, "emergency_stop", None)) == 1


def test_audit_when_a_raw_client_changes_a_document_names_it_external_and_a_frontends_change_only_once(
    store: Store, redis_url: str, tmp_path: Path
) -> None:
    def entries() -> list[tuple[bytes, bytes]]:
        found: Any = store.client.xrange("audit")
        told = [(fields[b"who"], fields[b"key"]) for _, fields in found]
        return [entry for entry in told if entry[0] != b"emergency"]  # which may come first and write the default

    with Running(tmp_path, redis_url):
        turn_on(store)
        store.client.set("trading_settings", OFF)
        eventually(lambda: (b"external", b"trading_settings") in entries(), what="audited")
        assert entries() == [
            (b"tester", b"risk_settings"),
            (b"tester", b"trading_settings"),
            (b"external", b"trading_settings"),
        ]
