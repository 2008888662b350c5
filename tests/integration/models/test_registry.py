"""The registry over a real Redis: hostile files and names, assignment, swap, and who may delete what."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.bots import BotControl
from shared.clock import SystemClock
from shared.control import Actor
from shared.documents import dump_json
from shared.keys import Keys
from shared.model_terms import CYCLE_FEATURES, STREAM_FEATURES, ModelConflict, ModelError, ModelMissing
from shared.store import Store, connect
from tests.support import RedisServer
from worker.core.bar_features import NAMES, VERSION
from worker.core.features import FEATURE_NAMES, FEATURE_VERSION
from worker.models.booster import import_lightgbm
from worker.models.judge import validate
from worker.models.registry import ModelRegistry, facts_fields
from worker.models.validation import ModelRefused, check_text
from worker.predictors.lightgbm import LoadedModel
from worker.predictors.slot import ModelSlot

ACTOR = Actor("test", "cli")


def trained(names: tuple[str, ...], seed: int = 6, objective: str = "binary") -> bytes:
    lightgbm = import_lightgbm()
    x = np.random.default_rng(seed).normal(size=(200, len(names)))
    data = lightgbm.Dataset(x, (x[:, 0] > 0).astype(float), feature_name=list(names), params={"verbosity": -1})
    parameters = {"objective": objective, "num_threads": 1, "verbosity": -1, "num_leaves": 4}
    return lightgbm.train(parameters, data, 5).model_to_string().encode()


@pytest.fixture(scope="module")
def texts() -> dict[str, bytes]:
    return {
        "stream": trained(FEATURE_NAMES),
        "other": trained(FEATURE_NAMES, 7),
        "cycle": trained(NAMES, objective="regression"),
    }


@pytest.fixture
def registry(store: Store) -> ModelRegistry:
    return ModelRegistry(store, SystemClock())


def valid(registry: ModelRegistry, raw: bytes, name: str = "m", symbol: str = "BTCUSDC") -> int:
    """Uploaded and judged, without the child, whose part has tests of its own."""
    document = registry.upload(raw, name, symbol, ACTOR)
    verdict = facts_fields(check_text(raw)) | {"status": "valid"}
    assert registry.record(document["id"], document["sha256"], verdict)
    number: int = document["id"]
    return number


def bot(store: Store, bot_id: int, **fields: Any) -> None:
    BotControl(store, SystemClock()).change(bot_id, {"name": "b", **fields}, ACTOR)


def test_model_when_uploaded_and_validated_has_all_its_fields(registry: ModelRegistry, texts: dict[str, bytes]) -> None:
    uploaded = registry.upload(texts["stream"], " First ", "BTCUSDC", ACTOR)
    assert (uploaded["status"], uploaded["name"], uploaded["trees"]) == ("uploaded", "First", None)
    document = validate(registry, uploaded["id"])
    assert document.pop("created_at").endswith("Z")
    assert document == {
        "id": 1,
        "name": "First",
        "symbol": "BTCUSDC",
        "size": len(texts["stream"]),
        "sha256": hashlib.sha256(texts["stream"]).hexdigest(),
        "num_features": 30,
        "feature_names": list(FEATURE_NAMES),
        "feature_version": 1,
        "objective": "binary",
        "trees": 5,
        "status": "valid",
        "reason": None,
        "metrics": {},
        "assigned_to": [],
    }
    assert registry.raw(1) == texts["stream"]


def test_model_when_it_would_crash_lightgbm_is_invalid_with_a_reason_and_serves_no_bot(
    registry: ModelRegistry, data: Path
) -> None:
    """Every malformed file goes through a jobs worker in ``test_jobs``."""
    raw = (data / "lightgbm" / "malformed" / "left_child_oob.txt").read_bytes()
    number = registry.upload(raw, "crash", "*", ACTOR)["id"]
    document = validate(registry, number)
    assert document["status"] == "invalid"
    assert document["reason"].startswith("tree 0.left_child: must be below 10")
    with pytest.raises(ModelConflict, match="is invalid, not valid"):
        registry.assign(number, 1, ACTOR)


@pytest.mark.parametrize(
    ("start", "kind"),
    [(b"\x80\x04\x95", "pickle"), (b"PK\x03\x04", "zip"), (b"\x78\x9c", "joblib"), (b"\x1f\x8b", "gzip")],
)
def test_model_when_of_another_format_is_named_by_its_content(registry: ModelRegistry, start: bytes, kind: str) -> None:
    number = registry.upload(start + gzip.compress(b"x")[:20], "m.txt", "*", ACTOR)["id"]
    assert kind in validate(registry, number)["reason"]


@pytest.mark.parametrize(
    "name",
    ["", " ", "a\nb", "a\0b", "\x1b[2J", "<script>alert(1)</script>", "x" * 10_000, "\u202eevil", "\ud800", "a\u2028b"],
)
def test_name_when_hostile_is_refused_and_nothing_is_written(registry: ModelRegistry, store: Store, name: str) -> None:
    with pytest.raises(ModelError, match=r"^name: "):
        registry.upload(b"tree\n", name, "*", ACTOR)
    assert store.client.keys() == []


@pytest.mark.parametrize("symbol", ["", "BTC USDC", "BTC\n", "<b>", "x" * 41, "../../etc", "**"])
def test_symbol_when_hostile_is_refused(registry: ModelRegistry, symbol: str) -> None:
    with pytest.raises(ModelError, match=r"^symbol: "):
        registry.upload(b"tree\n", "m", symbol, ACTOR)


def test_text_when_larger_than_64_mb_is_refused(registry: ModelRegistry) -> None:
    with pytest.raises(ModelError, match="larger than 67108864"):
        registry.upload(b"x" * (64 * 1024 * 1024 + 1), "m", "*", ACTOR)


def test_model_when_renamed_keeps_everything_else_and_is_audited(
    registry: ModelRegistry, store: Store, texts: dict[str, bytes]
) -> None:
    number = valid(registry, texts["stream"])
    before = registry.get(number)
    after = registry.rename(number, "second", ACTOR)
    assert after == before | {"name": "second"}
    _, entry = store.client.xrevrange("audit", count=1)[0]
    assert (entry[b"key"], entry[b"who"], entry[b"from"]) == (b"model:1", b"test", b"cli")
    with pytest.raises(ModelMissing):
        registry.rename(99, "x", ACTOR)


def test_models_when_listed_by_symbol_are_those_and_the_ones_for_any(
    registry: ModelRegistry, texts: dict[str, bytes]
) -> None:
    for symbol in ("BTCUSDC", "ETHUSDC", "*"):
        registry.upload(texts["stream"], symbol, symbol, ACTOR)
    assert [d["id"] for d in registry.listed("ETHUSDC")] == [2, 3]
    assert [d["id"] for d in registry.listed()] == [1, 2, 3]


def test_model_when_assigned_stands_in_both_documents_and_leaves_the_rest_of_the_bot(
    registry: ModelRegistry, store: Store, texts: dict[str, bytes]
) -> None:
    first, second = valid(registry, texts["stream"]), valid(registry, texts["other"])
    bot(store, 7, symbol="BTCUSDC", capital_per_trade=123.5, colour="blue")
    registry.assign(first, 7, ACTOR)
    registry.assign(second, 7, ACTOR)
    found = store.get_json("bot:7")
    assert (found["model_id"], found["capital_per_trade"], found["colour"]) == (second, 123.5, "blue")
    assert registry.get(first)["assigned_to"] == []
    assert registry.get(second)["assigned_to"] == [7] == store.get_json("model:2")["assigned_to"]


def test_model_when_a_bot_is_changed_by_hand_is_assigned_as_the_bot_says(
    registry: ModelRegistry, store: Store, texts: dict[str, bytes]
) -> None:
    first, second = valid(registry, texts["stream"]), valid(registry, texts["other"])
    bot(store, 7)
    registry.assign(first, 7, ACTOR)
    store.client.set("bot:7", dump_json(store.get_json("bot:7") | {"model_id": second}))
    assert [d["assigned_to"] for d in registry.listed()] == [[], [7]]
    registry.delete(first, ACTOR)
    with pytest.raises(ModelConflict, match="used by bot 7"):
        registry.delete(second, ACTOR)


def test_model_when_of_other_features_is_refused_by_the_version(
    registry: ModelRegistry, store: Store, texts: dict[str, bytes]
) -> None:
    stream, cycle = valid(registry, texts["stream"]), valid(registry, texts["cycle"])
    bot(store, 7)
    with pytest.raises(ModelConflict, match=r"feature_version: bot 7 computes 1, model 2 wants 'bars-1'"):
        registry.assign(cycle, 7, ACTOR)
    with pytest.raises(ModelConflict, match=r"feature_version: bot 1 computes 'bars-1', model 1 wants 1"):
        registry.assign(stream, 1, ACTOR)
    registry.assign(cycle, 1, ACTOR)
    assigned = registry.assigned(1)
    assert assigned is not None
    assert assigned["id"] == cycle


@pytest.mark.parametrize("told", [None, True, False])
def test_cycle_bot_when_given_a_model_stays_on_or_off_as_it_was(
    registry: ModelRegistry, store: Store, texts: dict[str, bytes], told: bool | None
) -> None:
    """Without a document it is on: one that is written for its model's sake must say so."""
    if told is not None:
        store.put_json("bot:1", {"bot_id": 1, "kind": "cycle", "enabled": told})
    registry.assign(valid(registry, texts["cycle"]), 1, ACTOR)
    found = BotControl(store, SystemClock()).read(1)
    assert found.error is None
    assert (found.value.enabled, found.value.model_id) == (told is not False, 1)


def test_model_when_assigned_to_a_bot_that_is_not_there_is_refused(
    registry: ModelRegistry, store: Store, texts: dict[str, bytes]
) -> None:
    number = valid(registry, texts["stream"])
    with pytest.raises(ModelConflict, match="there is no bot 9"):
        registry.assign(number, 9, ACTOR)
    assert store.get_json("bot:9") is None


def test_model_when_deleted_is_gone_and_its_id_is_never_given_again(
    registry: ModelRegistry, store: Store, texts: dict[str, bytes]
) -> None:
    number = valid(registry, texts["stream"])
    registry.delete(number, ACTOR)
    assert list(store.client.scan_iter("model:*")) == []
    assert registry.upload(texts["stream"], "m", "*", ACTOR)["id"] == number + 1


def test_models_when_swapped_change_every_bot_that_used_the_old_one(
    registry: ModelRegistry, store: Store, texts: dict[str, bytes]
) -> None:
    old, new = valid(registry, texts["stream"]), valid(registry, texts["other"])
    for number in (7, 8):
        bot(store, number)
        registry.assign(old, number, ACTOR)
    assert registry.swap(old, new, ACTOR) == [7, 8]
    assert [registry.get(n)["assigned_to"] for n in (old, new)] == [[], [7, 8]]


def test_slot_when_models_change_swaps_between_two_predictions(
    registry: ModelRegistry, store: Store, texts: dict[str, bytes]
) -> None:
    first, second = valid(registry, texts["stream"]), valid(registry, texts["other"])
    slot = ModelSlot(registry, FEATURE_NAMES, 1)
    assert slot.current is None
    assert slot.refresh(first)
    assert not slot.refresh(first)
    before = slot.current
    assert before is not None
    assert slot.refresh(second)
    assert slot.current is not None
    assert slot.current.source == "lightgbm:2"
    assert before.predict([0.5] * 30) != slot.current.predict([0.5] * 30)
    assert slot.refresh(99)
    assert (slot.current, slot.problem) == (None, "there is no model 99")


def test_assignment_when_the_model_predicts_something_else_is_refused(
    registry: ModelRegistry, store: Store, texts: dict[str, bytes]
) -> None:
    """A probability taken for a change would buy everything, always."""
    number = valid(registry, trained(NAMES))
    with pytest.raises(ModelConflict, match="objective: bot 1 needs a change, which 'binary' does not predict"):
        registry.assign(number, 1, ACTOR)
    with pytest.raises(ModelRefused, match="objective: a cycle model predicts a change"):
        LoadedModel(registry.raw(number).decode(), "t")
    bot(store, 7)
    ranked = registry.upload(texts["stream"], "m", "*", ACTOR)
    registry.record(
        ranked["id"], ranked["sha256"], {"status": "valid", "feature_version": 1, "objective": "lambdarank"}
    )
    with pytest.raises(ModelConflict, match="objective: bot 7 needs a probability or a change"):
        registry.assign(ranked["id"], 7, ACTOR)


def test_slot_when_the_text_was_changed_behind_the_verdict_loads_nothing(
    registry: ModelRegistry, store: Store, texts: dict[str, bytes]
) -> None:
    number = valid(registry, texts["stream"])
    store.client.set("model:1:text", texts["other"])
    slot = ModelSlot(registry, FEATURE_NAMES, 1)
    slot.refresh(number)
    assert (slot.current, slot.problem) == (None, "model 1: its text is not the one that was validated")
    assert validate(registry, number)["reason"] == "sha256: is not that of the text"


def test_slot_when_the_model_is_of_other_features_names_the_version(
    registry: ModelRegistry, texts: dict[str, bytes]
) -> None:
    slot = ModelSlot(registry, FEATURE_NAMES[::-1], 1)
    slot.refresh(valid(registry, texts["stream"]))
    assert slot.current is None
    assert "feature_version: its features are not the 30 of version 1" in slot.problem


def test_uploads_when_at_once_get_ids_of_their_own(redis_server: RedisServer, registry: ModelRegistry) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def upload(_number: int) -> int:
        client = connect(redis_server.url, timeout_seconds=30)
        number: int = ModelRegistry(Store(client, Keys()), SystemClock()).upload(b"tree\n", "m", "*", ACTOR)["id"]
        client.close()
        return number

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(upload, range(12))) == list(range(1, 13))


def test_feature_versions_when_compared_with_the_core_are_the_same() -> None:
    assert (CYCLE_FEATURES, STREAM_FEATURES) == (VERSION, FEATURE_VERSION)
