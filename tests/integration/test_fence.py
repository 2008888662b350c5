"""Who may say that nothing is on its way any more: the owner of the account's lease."""

from __future__ import annotations

from shared.clock import SystemClock
from shared.store import Store
from worker.trading.fence import Fence


def fence(store: Store, owner: str) -> Fence:
    made = Fence(store, "default", SystemClock())
    made.owner = owner
    return made


def test_acknowledge_when_the_lease_is_anothers_leaves_what_its_owner_said(store: Store) -> None:
    store.client.mset({"trading_epoch": "7", "lease:account:default": "first"})
    first, second = fence(store, "first"), fence(store, "second")
    with first.in_flight("sbe1r0123456789"):
        first.acknowledge()
        second.acknowledge()
        assert store.get_json("epoch_ack:default")["in_flight"] == ["sbe1r0123456789"]
    store.client.set("lease:account:default", "second")
    second.acknowledge()
    assert store.get_json("epoch_ack:default")["in_flight"] == []


def test_acknowledge_when_the_lease_was_never_held_says_nothing(store: Store) -> None:
    store.client.set("trading_epoch", "7")
    fence(store, "").acknowledge()
    assert store.get_json("epoch_ack:default") is None


def test_acknowledge_when_the_lease_was_lost_with_all_of_redis_speaks_on(store: Store) -> None:
    store.client.set("trading_epoch", "7")
    fence(store, "first").acknowledge()
    assert store.get_json("epoch_ack:default")["epoch"] == 7


def test_acknowledge_when_an_order_landed_without_an_answer_names_it_until_its_fate_is_known(store: Store) -> None:
    """A request that timed out may still arrive: a stop that hears "nothing in flight" would call the venue empty."""
    store.client.mset({"trading_epoch": "7", "lease:account:default": "first"})
    first = fence(store, "first")
    with first.in_flight("sbe1r0123456789") as flight:
        flight.unresolved = True
    first.acknowledge()
    assert store.get_json("epoch_ack:default")["in_flight"] == ["sbe1r0123456789"]
    first.unresolved(())
    first.acknowledge()
    assert store.get_json("epoch_ack:default")["in_flight"] == []
