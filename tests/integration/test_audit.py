"""``audit``: every change of a document that people write, with who made it; what nobody noted is ``external``."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from shared.access import Access
from shared.audit import MOST_SHOWN, ExternalChanges
from shared.bots import BotControl
from shared.clock import SystemClock
from shared.control import Actor, Control
from shared.documents import version_of
from shared.store import Store
from worker.emergency.fence_line import FenceLine
from worker.emergency.keys import EmergencyKeys
from worker.trading.bots.documents import BotDocuments

ADA = Actor("ada", "web")
OFF, ON = b'{"enabled": false}', b'{"enabled": true}'
KEY = "trading_settings"


def entries(store: Store) -> list[dict[str, str]]:
    found = store.client.xrange("audit")
    assert isinstance(found, list)
    return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in found]


def told(store: Store) -> list[tuple[str, str, str, str]]:
    return [(e["who"], e["key"], e["old"], e["new"]) for e in entries(store)]


@pytest.fixture
def changes(store: Store) -> Iterator[ExternalChanges]:
    """One that has looked once, at nothing."""
    made = ExternalChanges(store, SystemClock())
    made.look({KEY: None})
    return made


def look(changes: ExternalChanges, store: Store) -> None:
    changes.look({KEY: store.read_raw(KEY)})


def test_change_when_made_twice_by_redis_cli_is_noted_twice(store: Store, changes: ExternalChanges) -> None:
    """A stop, a start and the same stop again are three changes, though two leave the same bytes."""
    for raw in (OFF, ON, OFF, ON):
        store.client.set(KEY, raw)
        look(changes, store)
        look(changes, store)
    assert [new for _, _, _, new in told(store)] == [r.decode() for r in (OFF, ON, OFF, ON)]
    assert told(store)[2] == ("external", KEY, ON.decode(), OFF.decode())


def test_change_when_redis_cli_puts_back_what_a_frontend_wrote_before_is_external(
    store: Store, changes: ExternalChanges
) -> None:
    Control(store, SystemClock()).change_settings({"enabled": True}, ADA)
    mine = store.read_raw(KEY)
    assert mine is not None
    look(changes, store)
    for raw in (OFF, mine):
        store.client.set(KEY, raw)
        look(changes, store)
    assert [who for who, _, _, _ in told(store)] == ["ada", "external", "external"]


def test_change_when_made_by_a_frontend_is_noted_once_with_the_documents_as_they_stand(
    store: Store, changes: ExternalChanges
) -> None:
    store.client.set(KEY, OFF)
    look(changes, store)
    control = Control(store, SystemClock())
    control.change_settings({"enabled": True}, ADA)
    look(changes, store)
    store.client.delete(KEY)
    store.client.rpush(KEY, "x")
    changes.look({KEY: None})
    control.stop(ADA)
    look(changes, store)
    found = entries(store)
    assert [e["who"] for e in found] == ["external", "ada", "external", "ada"]
    assert (found[1]["old"], json.loads(found[1]["new"])["enabled"]) == (OFF.decode(), True)
    assert all(e["version"] == version_of(e["new"].encode() or None) for e in found)


def test_change_when_nobody_looked_is_noted_at_the_first_look(store: Store) -> None:
    """The emergency worker was down while somebody changed the document by hand."""
    ExternalChanges(store, SystemClock()).look({KEY: None})
    assert told(store) == []
    Control(store, SystemClock()).change_settings({"enabled": True}, ADA)
    mine = entries(store)[0]["new"]
    ExternalChanges(store, SystemClock()).look({KEY: mine.encode()})
    store.client.set(KEY, OFF)
    for _ in range(2):  # two emergency workers, of two accounts, note it once
        ExternalChanges(store, SystemClock()).look({KEY: OFF})
    assert told(store)[1:] == [("external", KEY, mine, OFF.decode())]


def test_change_when_the_document_is_long_is_shown_in_part(store: Store, changes: ExternalChanges) -> None:
    store.client.set(KEY, b"\xff" + b"x" * 70_000)
    look(changes, store)
    entry = entries(store)[0]
    assert len(entry["new"]) == MOST_SHOWN + 1
    assert entry["version"] == version_of(store.read_raw(KEY))


def test_flag_when_emergency_sets_it_is_noted_as_its_own(store: Store) -> None:
    keys = EmergencyKeys(store, "default", FenceLine(store), SystemClock())
    watch = ExternalChanges(store, SystemClock())
    watch.look({"risk_settings": None, KEY: None})
    keys.set_stop_flag()
    keys.write_default_settings()
    watch.look({"risk_settings": store.read_raw("risk_settings"), KEY: store.read_raw(KEY)})
    assert [(e["who"], e["key"]) for e in entries(store)] == [("emergency", "risk_settings"), ("emergency", KEY)]


def test_bot_when_changed_by_redis_cli_is_external_and_by_a_frontend_is_not(store: Store) -> None:
    documents, control = BotDocuments(store), BotControl(store, SystemClock())
    documents.write_default()
    documents.read()
    store.client.set("bot:7", b'{"symbol": "BTCUSDT"}')
    store.client.sadd("bots", 7)
    documents.read()
    control.change(7, {"capital_per_trade": 50}, ADA)
    documents.read()
    control.delete(7, ADA)
    documents.read()
    assert [(e["who"], e["key"]) for e in entries(store)] == [
        ("trading", "bot:1"),
        ("external", "bot:7"),
        ("ada", "bot:7"),
        ("ada", "bot:7"),
    ]
    assert entries(store)[2]["old"] == '{"symbol": "BTCUSDT"}'


@pytest.mark.parametrize("mangled", [False, True])
def test_access_when_given_or_taken_is_noted_without_a_secret(store: Store, mangled: bool) -> None:
    """Who could have switched trading is part of who did; an audit that is mangled keeps nobody out."""
    if mangled:
        store.client.set("audit", "x")
    access = Access(store, SystemClock(), "root", "cli")
    access.add_user("ada", "viewer")
    access.add_user("ada", "operator")
    secret = access.create_token("phone", ["stop"])
    number = access.tokens()[0]["id"]
    assert access.revoke_token(number)
    link = access.create_link("ada", "http://x").url.rpartition("/")[2]
    access.take_link(link, "correct horse battery")
    assert access.check_password("ada", "correct horse battery") is not None
    assert access.tokens() == []
    if mangled:
        return
    found = entries(store)
    assert [(e["who"], e["key"]) for e in found] == [
        ("root", "web:user:ada"),
        ("root", "web:user:ada"),
        ("root", f"web:token:{number}"),
        ("root", f"web:token:{number}"),
        ("ada", "web:user:ada"),
    ]
    assert (found[1]["old"], found[1]["new"]) == ('{"role": "viewer"}', '{"role": "operator"}')
    assert (json.loads(found[3]["old"])["scopes"], found[3]["new"]) == ("stop", "")
    assert not [e for e in found if secret in str(e) or "argon2" in str(e) or "horse" in str(e)]
