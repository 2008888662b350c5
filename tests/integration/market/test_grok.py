"""The language model as a predictor: strict with its answers, exact with its tokens, harmless when it is odd."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.clock import ManualClock
from shared.documents import parse_json
from shared.errors import PredictionError, VenueUnavailable
from shared.store import Store
from tests.builders import NOW
from tests.servers.market import KEY, XaiServer
from worker.core.types import Bar
from worker.predictors.document import DocumentPredictor
from worker.predictors.grok import GrokClient, GrokPredictor, Usage
from worker.venues.base import Capabilities

TICKERS = ("AAPL", "MSFT", "NONE")
GOOD = {"AAPL": {"change_pct": 0.012, "confidence": 0.6}, "MSFT": {"change_pct": -0.003, "confidence": 0.9}}


class Bars:
    """A market with a few bars, or none at all."""

    capabilities = Capabilities()
    away = False

    def bars(self, tickers: Sequence[str], count: int, until: datetime) -> dict[str, list[Bar]]:
        if self.away:
            raise VenueUnavailable("away")
        bar = Bar(NOW - timedelta(minutes=1), 1.0, 1.0, 1.0, 1.25, 5.0)
        return {ticker: [] if ticker == "NONE" else [bar] for ticker in tickers}


@pytest.fixture
def server() -> Iterator[XaiServer]:
    with XaiServer() as running:
        running.text = json.dumps({"predictions": GOOD})
        yield running


@pytest.fixture
def grok(server: XaiServer, store: Store) -> GrokPredictor:
    return GrokPredictor(GrokClient(KEY, server.url, "grok-4", 5), Bars(), store, ManualClock(NOW), TICKERS, 60)


def tokens(store: Store) -> dict[str, int]:
    found: Any = store.client.hgetall(store.keys.grok_tokens(NOW.date().isoformat()))
    return {k.decode(): int(v) for k, v in found.items()}


def test_predictions_when_answered_are_what_the_trader_reads(
    server: XaiServer, grok: GrokPredictor, store: Store
) -> None:
    store.put_json(store.keys.predictions, {"SPY": {"change_pct": 0.1, "source": "mine"}})
    assert grok.run() == {"NONE": "no bars"}
    found = DocumentPredictor(store).predict(TICKERS, Bars(), NOW + timedelta(seconds=5), 15)
    assert {t: (p.change_pct, p.confidence, p.source) for t, p in found.predictions.items()} == {
        "AAPL": (0.012, 0.6, "grok:grok-4"),
        "MSFT": (-0.003, 0.9, "grok:grok-4"),
    }
    assert store.get_json(store.keys.predictions)["SPY"]["source"] == "mine"
    question = json.loads(server.asked[0]["messages"][1]["content"])
    assert (question["horizon_minutes"], question["tickers"]["AAPL"]["closes"]) == (60, [1.25])


def test_predictions_when_the_source_answers_seldom_hold_as_long_as_it_says(grok: GrokPredictor, store: Store) -> None:
    grok.run()
    later = NOW + timedelta(seconds=900)
    assert DocumentPredictor(store).predict(["AAPL"], Bars(), later, 15).predictions == {}
    assert set(DocumentPredictor(store, 1200).predict(["AAPL"], Bars(), later, 15).predictions) == {"AAPL"}


def test_question_when_the_days_tokens_are_used_is_not_asked_and_that_is_told_once(
    server: XaiServer, store: Store
) -> None:
    clock = ManualClock(NOW)
    grok = GrokPredictor(GrokClient(KEY, server.url, "grok-4", 5), Bars(), store, clock, TICKERS, 60, 6000)
    grok.run()
    for _ in range(2):
        with pytest.raises(PredictionError, match="6,690 tokens are used today, and GROK_DAILY_TOKENS is 6,000"):
            grok.run()
    assert (len(server.asked), tokens(store)["refused"]) == (1, 2)
    events = [fields[b"event"] for _, fields in store.client.xrange(store.keys.events)]
    assert events == [b"grok_cap"]
    clock.advance(86_400)
    grok.run()
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot predict prices.",
        "```json\n{}\n```",
        '{"predictions": {"AAPL": {"change_pct": NaN, "confidence": 0.5}}}',
        '{"predictions": {"AAPL": {"change_pct": 1e999, "confidence": 0.5}}}',
        '{"predictions": {"AAPL": {}, "AAPL": {}}}',
        '{"predictions": []}',
        '{"predictions": null}',
        "[1]",
        '{"predictions": {"AAPL": {"change_pct": 0.01, "confidence": 0.5}}} and more',
        "[" * 5000,
    ],
)
def test_answer_when_it_is_not_the_json_asked_for_writes_nothing(
    server: XaiServer, grok: GrokPredictor, store: Store, text: str
) -> None:
    server.text = text
    with pytest.raises(PredictionError):
        grok.run()
    assert store.get_json(store.keys.predictions) is None
    assert tokens(store)["total"] == 6690  # it has cost what it cost


@pytest.mark.parametrize(
    "entry",
    [
        {"change_pct": "0.01", "confidence": 0.5},
        {"change_pct": True, "confidence": 0.5},
        {"change_pct": 0.51, "confidence": 0.5},
        {"change_pct": -7, "confidence": 0.5},
        {"change_pct": 10**400, "confidence": 0.5},
        {"change_pct": 0.01, "confidence": 1.5},
        {"change_pct": 0.01},
        {"confidence": 0.5},
        [0.01],
        None,
    ],
)
def test_entry_when_it_is_odd_is_no_prediction_and_costs_the_others_nothing(
    server: XaiServer, grok: GrokPredictor, store: Store, entry: Any
) -> None:
    server.text = json.dumps({"predictions": {**GOOD, "AAPL": entry, "EVIL": GOOD["MSFT"]}})
    assert set(grok.run()) == {"AAPL", "NONE"}
    assert set(store.get_json(store.keys.predictions)) == {"MSFT"}


@pytest.mark.parametrize(
    "lie", [401, 429, 500, "", "<html>", '{"choices": []}', '{"choices": [{"message": {}}]}', "reset"]
)
def test_call_when_it_fails_is_no_prediction_and_names_no_key(
    server: XaiServer, grok: GrokPredictor, store: Store, lie: Any
) -> None:
    server.lie("/v1/chat/completions", lie)
    with pytest.raises(PredictionError) as caught:
        grok.run()
    assert KEY not in str(caught.value)
    assert server.requests.total() == 1
    assert store.get_json(store.keys.predictions) is None


def test_answer_when_cut_off_is_none(server: XaiServer, grok: GrokPredictor) -> None:
    server.finish = "length"
    with pytest.raises(PredictionError, match="length"):
        grok.run()


def test_question_when_no_bars_can_be_had_is_not_asked(
    server: XaiServer, grok: GrokPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bars, "away", True)
    with pytest.raises(PredictionError, match="no bars"):
        grok.run()
    assert server.asked == []


def test_tokens_when_reasoning_is_not_in_the_completion_are_counted_apart(
    server: XaiServer, grok: GrokPredictor, store: Store, data: Path
) -> None:
    server.usage = parse_json((data / "misc/xai_usage.jsonl").read_bytes().splitlines()[0])["usage"]
    grok.run()
    grok.run()
    assert tokens(store) == {"calls": 2, "prompt": 9286, "completion": 2374, "reasoning": 1720, "total": 13380}


@pytest.mark.parametrize("usage", [None, [], {"prompt_tokens": "5"}, {"prompt_tokens": -1}, {"total_tokens": True}])
def test_tokens_when_the_usage_is_odd_count_as_nothing(usage: Any) -> None:
    assert Usage.of(usage) == Usage()


def test_tokens_when_there_is_no_total_are_summed() -> None:
    found = {"prompt_tokens": 5, "completion_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 2}}
    assert Usage.of(found).total == 10
