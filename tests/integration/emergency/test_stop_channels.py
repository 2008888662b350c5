"""Channels of the stop in unusual states: files that are none, a Redis that refuses, or comes back empty."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import redis

from shared.store import Store, connect
from tests.integration.emergency.recording import Running
from tests.integration.emergency.test_stop import ENTRY, EXIT, armed, document, stopped, turn_on
from tests.support import RedisServer, eventually
from worker.emergency.look import stop_file_exists


def test_stop_file_when_it_is_a_link_that_leads_nowhere_stops(store: Store, redis_url: str, tmp_path: Path) -> None:
    """Existence counts; what it leads to is content."""
    with Running(tmp_path, redis_url):
        turn_on(store)
        (tmp_path / "run" / "STOP").symlink_to(tmp_path / "nowhere")
        assert stopped(store, "stop_file")["reason"] == "emergency_stop"


def test_stop_file_when_it_cannot_be_looked_at_counts_as_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not stop_file_exists(str(tmp_path / "STOP"))
    assert not stop_file_exists(str(tmp_path / "no folder" / "STOP"))

    def refused(_path: object) -> Any:
        raise PermissionError("refused")

    monkeypatch.setattr(os, "lstat", refused)
    assert stop_file_exists(str(tmp_path / "STOP"))


def test_stop_when_redis_refuses_to_be_read_is_as_lost_as_a_mute_one(own_redis: RedisServer, tmp_path: Path) -> None:
    """A user whose rights were taken: nothing can be judged, and orders rest at the venue."""
    client = connect(own_redis.url)
    store = Store(client)
    with Running(tmp_path / "home", own_redis.url, redis_lost_stop_seconds=0.5) as running:
        turn_on(store)
        running.venue.place(ENTRY)
        client.execute_command("ACL", "SETUSER", "default", "-get")  # type: ignore[no-untyped-call]
        eventually(lambda: not running.venue.working, what="cancelled without a word of Redis")
        client.execute_command("ACL", "SETUSER", "default", "+get")  # type: ignore[no-untyped-call]
        assert stopped(store, "redis")["reason"] == "redis_lost"
    client.close()


@pytest.mark.parametrize("away", ["for a moment", "for long"])
def test_stop_when_redis_comes_back_empty_keeps_what_protects_positions(
    own_redis: RedisServer, tmp_path: Path, away: str
) -> None:
    """A missing ``trading_settings`` is a person's stop, which cancels all; a restart without data is nobody's."""
    limit = 30.0 if away == "for a moment" else 0.2
    client = connect(own_redis.url)
    store = Store(client)
    with Running(tmp_path / "home", own_redis.url, redis_lost_stop_seconds=limit) as running:
        turn_on(store)
        running.venue.place(ENTRY)
        protects = running.venue.place(EXIT)
        own_redis.stop()
        if away == "for long":
            eventually(lambda: list(running.venue.working) == [protects], what="entries are cancelled")
        for file in own_redis.directory.rglob("*.aof*"):
            file.unlink()
        own_redis.start()
        assert stopped(store, "redis")["reason"] == "redis_lost"
        eventually(lambda: _latch_shows(store), what="latched")
        store.client.set("trading_settings", b'{"enabled": false, "updated_by": "backend_init"}')
        eventually(lambda: _seen(store), what="a worker's default was seen")
        assert list(running.venue.working) == [protects]
        store.client.set("trading_settings", b'{"enabled": false}')
        eventually(lambda: not running.venue.working, what="a person's word cancels all")
        assert not armed(store)
    client.close()


def _latch_shows(store: Store) -> bool:
    try:
        return bool(store.client.exists("stop_latch"))
    except redis.RedisError:
        return False


def _seen(store: Store) -> bool:
    """Whether the worker's audit tells of the document that was written last."""
    rows: Any = store.client.xrevrange("audit", count=5)
    raw = store.client.get("trading_settings")
    return any(fields.get(b"new") == raw for _, fields in rows) and bool(document(store, "stop_report"))


@pytest.mark.parametrize("key", ["trading_status", "trading_epoch"])
def test_stop_when_somebody_wrote_an_epoch_that_was_never_given_is_fenced_and_shown(
    store: Store, redis_url: str, tmp_path: Path, key: str
) -> None:
    """A status with an epoch beyond all refused every later word; a number past a script's could not be raised."""
    with Running(tmp_path, redis_url):
        turn_on(store)
        forged = b"9007199254740992" if key == "trading_epoch" else b'{"active": true, "epoch": 9007199254740992}'
        store.client.set(key, forged)
        if key == "trading_status":
            store.client.set("trading_settings", b'{"enabled": false}')
        report = eventually(lambda: _proven(store), what="stopped")
        assert report
        eventually(lambda: document(store, "trading_status").get("active") is False, what="it shows")
        turn_on(store)
        first = int(store.client.get("trading_epoch") or 0)
        store.client.set("trading_settings", b'{"enabled": false}')
        eventually(lambda: first < int(store.client.get("trading_epoch") or 0) < 2**52, what="raised")


def _proven(store: Store) -> bool:
    return document(store, "stop_report").get("state") == "STOPPED"
