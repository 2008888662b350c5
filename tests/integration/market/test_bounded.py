"""A slow source costs whoever asks a bounded wait, and each minute is read once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from shared.errors import VenueUnavailable
from tests.builders import NOW
from tests.support import eventually
from worker.core.types import Bar, LastPrice
from worker.market.bounded import BoundedData


class Source:
    """Answers when the gate is open."""

    name = "source"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.calls = 0
        self.error: Exception | None = None

    def last_price(self, ticker: str) -> LastPrice:
        raise VenueUnavailable("none")

    def bars(self, tickers: Sequence[str], count: int, until: datetime) -> dict[str, list[Bar]]:
        self.calls += 1
        assert self.gate.wait(30)
        if self.error is not None:
            raise self.error
        return {ticker: [Bar(until, 1, 1, 1, 1, 1)] for ticker in tickers}


def test_bars_when_the_source_is_slow_are_unavailable_and_there_for_the_next_question() -> None:
    source = Source()
    bounded = BoundedData(source, 0.01)
    for _ in range(3):
        with pytest.raises(VenueUnavailable, match="no answer"):
            bounded.bars(["A"], 60, NOW)
    source.gate.set()
    eventually(lambda: _answers(bounded), what="the late answer")
    assert source.calls == 1
    bounded.bars(["A"], 60, NOW + timedelta(seconds=20))
    assert source.calls == 1
    eventually(lambda: _answers(bounded, NOW + timedelta(minutes=1)), what="the next minute")
    assert source.calls == 2


def _answers(bounded: BoundedData, until: datetime = NOW) -> bool:
    try:
        return len(bounded.bars(["A"], 60, until)["A"]) == 1
    except VenueUnavailable:
        return False


@pytest.mark.parametrize("error", [VenueUnavailable("refused"), ValueError("a library's own")])
def test_bars_when_the_source_fails_are_asked_for_again(error: Exception) -> None:
    source = Source()
    source.gate.set()
    source.error = error
    bounded = BoundedData(source, 30)
    with pytest.raises(VenueUnavailable, match=str(error)):
        bounded.bars(["A"], 60, NOW)
    source.error = None
    assert _answers(bounded)
