"""A language model as a predictor (xAI's chat completions), asked by a job and never in the trading path.

What it answers is judged as strictly as what a person writes: a figure that is odd is no prediction.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import urllib3
from redis.client import Pipeline

from shared.clock import Clock, rfc3339
from shared.documents import parse_json
from shared.errors import DocumentError, PredictionError, VenueUnavailable, shorten
from shared.store import MAX_RECORD_BYTES, Store, translated_errors
from worker.core.types import Bar
from worker.predictors.base import Market

TIMEOUT_SECONDS = 240.0
BARS = 60
LARGEST_CHANGE = 0.5
KEPT_SECONDS = 7 * 86_400
SYSTEM = (
    "You forecast prices. Answer with one JSON object and nothing else: "
    '{"predictions": {"TICKER": {"change_pct": number, "confidence": number}}}. '
    "change_pct is the expected relative change over the horizon as a fraction (0.01 is one per cent), confidence is "
    "from 0 to 1. Leave out a ticker that you cannot judge."
)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. Unlike OpenAI's, xAI's completion tokens do not hold the reasoning tokens."""

    prompt: int = 0
    completion: int = 0
    reasoning: int = 0
    total: int = 0

    @classmethod
    def of(cls, found: object) -> Usage:
        """What an answer says; what it leaves out counts as nothing, except the total, which is then the sum."""
        usage = found if isinstance(found, Mapping) else {}
        details = usage.get("completion_tokens_details")
        prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
        reasoning = _count(details.get("reasoning_tokens") if isinstance(details, Mapping) else None)
        return cls(prompt, completion, reasoning, _count(usage.get("total_tokens")) or prompt + completion + reasoning)


class GrokClient:
    """One question, one answer, no retry."""

    def __init__(self, key: str, url: str, model: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._key, self._url, self._model = key, url.rstrip("/").removesuffix("/v1"), model
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(total=timeout_seconds))

    @property
    def model(self) -> str:
        return self._model

    def ask(self, system: str, question: str) -> tuple[str, Usage]:
        """The text of the answer and what it cost. Raises PredictionError."""
        messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
        body = json.dumps({"model": self._model, "messages": messages, "temperature": 0, "stream": False}).encode()
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        try:
            answer = self._http.request(
                "POST", f"{self._url}/v1/chat/completions", body=body, headers=headers, redirect=False
            )
            raw = answer.data
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise PredictionError(f"grok: {type(error).__name__}") from None
        if answer.status != 200:
            raise PredictionError(f"grok: HTTP {answer.status} {shorten(raw[:200].decode(errors='replace'))}")
        return _text_of(raw)


def _text_of(raw: bytes) -> tuple[str, Usage]:
    try:
        found = parse_json(raw, MAX_RECORD_BYTES)
        choice = found["choices"][0]
        text, finish = choice["message"]["content"], choice.get("finish_reason")
    except (DocumentError, KeyError, IndexError, TypeError, AttributeError):
        raise PredictionError("grok: an answer without a message") from None
    if not isinstance(text, str) or finish not in (None, "stop"):
        raise PredictionError(f"grok: an answer that is cut off (finish_reason {shorten(finish)})")
    return text, Usage.of(found.get("usage"))


def parse_answer(text: str, tickers: Sequence[str]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Predictions by ticker, and for every other ticker why there is none. Raises PredictionError: no usable answer."""
    try:
        found = parse_json(text.strip().encode())
    except (DocumentError, UnicodeEncodeError):
        raise PredictionError(f"grok: the answer is not one JSON object: {shorten(text)}") from None
    entries = found.get("predictions") if isinstance(found, dict) else None
    if not isinstance(entries, dict):
        raise PredictionError("grok: the answer has no predictions")
    good: dict[str, dict[str, Any]] = {}
    notes: dict[str, str] = {}
    for ticker in tickers:
        entry = entries.get(ticker)
        change = _figure(entry, "change_pct")
        confidence = _figure(entry, "confidence")
        if change is None or abs(change) > LARGEST_CHANGE:
            notes[ticker] = f"no change_pct within ±{LARGEST_CHANGE:g}: {shorten(entry)}"
        elif confidence is None or not 0 <= confidence <= 1:
            notes[ticker] = f"no confidence from 0 to 1: {shorten(entry)}"
        else:
            good[ticker] = {"change_pct": change, "confidence": confidence}
    return good, notes


class GrokPredictor:
    """Asks once per call, writes ``predictions`` and counts the tokens of the day."""

    def __init__(
        self,
        client: GrokClient,
        market: Market,
        store: Store,
        clock: Clock,
        tickers: Sequence[str],
        horizon_minutes: int,
        daily_tokens: int = 0,
    ) -> None:
        """``daily_tokens`` is the cap of a UTC day; 0 is none."""
        self._client, self._market, self._store, self._clock = client, market, store, clock
        self._tickers, self._horizon, self._daily_tokens = tuple(tickers), horizon_minutes, daily_tokens

    def run(self) -> dict[str, str]:
        """Returns why a ticker has no prediction. Raises PredictionError and StoreError; then nothing is written."""
        now = self._clock.now()
        self._check_cap()
        try:
            bars = self._market.bars(self._tickers, BARS, now)
        except VenueUnavailable as error:
            raise PredictionError(f"grok: no bars to show: {error}") from error
        asked = [ticker for ticker in self._tickers if bars.get(ticker)]
        if not asked:
            raise PredictionError("grok: no ticker has bars")
        text, usage = self._client.ask(SYSTEM, self._question(asked, bars))
        self._count(usage)
        good, notes = parse_answer(text, asked)
        at = rfc3339(now)
        entries = {t: {**e, "source": f"grok:{self._client.model}", "time": at} for t, e in good.items()}
        self._store.merge_json(self._store.keys.predictions, lambda found: {**found, **entries} if entries else None)
        return {**{t: "no bars" for t in self._tickers if t not in asked}, **notes}

    def _check_cap(self) -> None:
        """Raises PredictionError where the day's tokens are used; the first time on a day it is an event too.

        The call before may go beyond the cap: what it will cost is known afterwards only.
        """
        if not self._daily_tokens:
            return
        key, client = self._key(), self._store.client
        with translated_errors():
            found = cast("bytes | None", client.hget(key, "total"))
        used = int(found) if found is not None and found.isdigit() else 0
        if used < self._daily_tokens:
            return
        why = f"grok: {used:,} tokens are used today, and GROK_DAILY_TOKENS is {self._daily_tokens:,}"
        with translated_errors():
            refused = client.hincrby(key, "refused", 1)
        if refused == 1:
            self._store.add_event(self._store.keys.events, {"event": "grok_cap", "problem": why})
        raise PredictionError(f"{why}: not asked until the next day (UTC)")

    def _key(self) -> str:
        return self._store.keys.grok_tokens(self._clock.now().date().isoformat())

    def _question(self, asked: Sequence[str], bars: Mapping[str, Sequence[Bar]]) -> str:
        shown = {
            ticker: {
                "closes": [round(b.close, 6) for b in bars[ticker]],
                "volumes": [round(b.volume, 2) for b in bars[ticker]],
                "last_minute": rfc3339(bars[ticker][-1].start),
            }
            for ticker in asked
        }
        return json.dumps({"horizon_minutes": self._horizon, "bar_minutes": 1, "tickers": shown})

    def _count(self, usage: Usage) -> None:
        key = self._key()
        with translated_errors(), self._store.client.pipeline(transaction=True) as pipe:
            _add(pipe, key, {"calls": 1, "prompt": usage.prompt, "completion": usage.completion})
            _add(pipe, key, {"reasoning": usage.reasoning, "total": usage.total})
            pipe.expire(key, KEPT_SECONDS)
            pipe.execute()


def _add(pipe: Pipeline, key: str, counts: Mapping[str, int]) -> None:
    for name, count in counts.items():
        pipe.hincrby(key, name, count)


def _figure(entry: object, name: str) -> float | None:
    value = cast("Mapping[str, Any]", entry).get(name) if isinstance(entry, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e6 or not math.isfinite(value):
        return None
    return float(value)


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**12 else 0
