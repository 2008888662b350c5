"""The trader's look at the bots' documents: what has not changed costs a comparison, what has is found at once."""

from __future__ import annotations

from shared.bots import default_bot
from shared.documents import dump_json
from shared.store import Store
from worker.trading.bots.documents import BotDocuments


def write(store: Store, bot_id: int, **changes: object) -> None:
    store.client.set(store.keys.bot(bot_id), dump_json({**default_bot(bot_id).plain(), **changes}))
    store.client.sadd(store.keys.bots, bot_id)


def test_documents_when_nothing_changed_are_the_same_objects_and_no_change(store: Store) -> None:
    documents = BotDocuments(store)
    write(store, 9)
    write(store, 3)
    before, changes = dict(documents.read()), documents.changes
    write(store, 9)
    after = documents.read()
    assert documents.changes == changes
    assert all(after[n] is before[n] for n in (1, 3, 9))


def test_documents_when_one_changes_comes_or_goes_tell_so(store: Store) -> None:
    documents = BotDocuments(store)
    write(store, 3)
    documents.read()
    seen = [documents.changes]
    write(store, 3, name="another")
    assert documents.read()[3].value.name == "another"
    seen.append(documents.changes)
    write(store, 2)
    assert documents.read().keys() == {1, 2, 3}
    seen.append(documents.changes)
    store.client.srem(store.keys.bots, "3")
    assert documents.read().keys() == {1, 2}
    seen.append(documents.changes)
    store.client.delete(store.keys.bot(2))
    assert not documents.read()[2].listed
    seen.append(documents.changes)
    assert len(set(seen)) == len(seen)
