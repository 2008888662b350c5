"""Which bots there are, as the trader reads them: the last good document stays in force, whatever stands in Redis."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from shared.documents import version_of
from shared.store import Store
from worker.trading.bots.documents import BotDocuments

GOOD = json.dumps({"enabled": True, "symbol": "AAPL", "holding_time": 60})


@pytest.fixture
def documents(store: Store) -> BotDocuments:
    store.client.sadd("bots", 7)
    store.client.set("bot:7", GOOD)
    return BotDocuments(store)


def test_documents_when_one_turns_bad_keep_the_last_good_one_and_its_version(
    store: Store, documents: BotDocuments
) -> None:
    assert documents.read()[7].value.enabled
    for bad in ('{"enabled": true, "holding_time": -1}', "no json", '{"bot_id": 8}', '{"kind": "cycle"}'):
        store.client.set("bot:7", bad)
        found = documents.read()[7]
        assert found.error
        assert (found.value.enabled, found.value.holding_time) == (True, Decimal(60))
        assert found.version == version_of(GOOD.encode())
    store.client.set("bot:7", GOOD)
    assert documents.read()[7].error is None


def test_documents_when_the_process_is_new_inherit_what_was_in_force(store: Store, documents: BotDocuments) -> None:
    config = {**documents.read()[7].value.plain(), "stop_loss_pct": 0.5}
    store.put_json("bot:7:status", {"config": config})
    store.client.set("bot:7", '{"max_positions": 0}')
    found = BotDocuments(store).read()[7]
    assert found.error is not None
    assert found.error.startswith("max_positions: ")
    assert (found.value.symbol, found.value.stop_loss_pct) == ("AAPL", Decimal("0.5"))


@pytest.mark.parametrize("mangle", ["missing", "another type"])
def test_documents_when_a_key_is_gone_or_of_another_type_allow_no_entry_or_say_why(
    store: Store, documents: BotDocuments, mangle: str
) -> None:
    documents.read()
    store.client.delete("bot:7")
    if mangle == "another type":
        store.client.sadd("bot:7", "x")
    found = documents.read()[7]
    assert found.error is not None
    assert (found.listed, found.value.enabled) == ((True, True) if mangle == "another type" else (False, False))
    assert found.value.symbol == "AAPL"


def test_documents_when_the_list_is_mangled_are_those_that_were_listed_last(
    store: Store, documents: BotDocuments
) -> None:
    store.client.sadd("bots", "x", "-1", "99999999999", "8.5")
    assert list(documents.read()) == [1, 7]
    store.client.delete("bots")
    store.client.set("bots", "garbage")
    documents.write_default()
    assert list(documents.read()) == [1, 7]
    assert json.loads(store.client.get("bot:1"))["kind"] == "cycle"  # type: ignore[arg-type]


def test_documents_when_only_one_bot_is_wanted_are_that_and_the_cycle(store: Store) -> None:
    store.client.sadd("bots", 7, 8)
    for number in (7, 8):
        store.client.set(f"bot:{number}", GOOD)
    documents = BotDocuments(store, 8)
    assert list(documents.read()) == [1, 8]
    assert documents.listed == {1, 7, 8}
