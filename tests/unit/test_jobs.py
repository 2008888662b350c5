"""The list of jobs, who starts their worker, and which settings belong together."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rq.utils import import_attribute

from shared.config import Config, load_config
from shared.errors import ConfigError
from shared.jobs import JOB_SECONDS
from shared.keys import JOBS
from tests.builders import NOW
from worker.core.types import Bar, LastPrice, Prediction
from worker.predictors.base import Market, PredictionSet
from worker.predictors.sourced import SourcedPredictor
from worker.supervisor.up import worker_specs
from worker.venues.base import Capabilities

UNIT = Path(__file__).parents[2] / "deploy/systemd/sixbot-jobs.service"


@pytest.mark.parametrize("name", JOBS)
def test_job_when_named_resolves_to_a_function_with_a_time_limit(name: str) -> None:
    """A frontend knows the name only: a typing error here would be a job that never runs."""
    assert callable(import_attribute(JOBS[name]))
    assert JOB_SECONDS[name] > 0


def test_unit_when_it_stops_waits_longer_than_any_job_that_must_not_be_cut_off() -> None:
    """A training may take hours and leaves nothing when it is cut off."""
    timeout = next(line for line in UNIT.read_text().splitlines() if line.startswith("TimeoutStopSec="))
    assert int(timeout.partition("=")[2]) > max(s for name, s in JOB_SECONDS.items() if name != "train_model")


@pytest.mark.parametrize(
    ("settings", "starts"),
    [
        ({}, False),
        ({"reporters": ("stdout",)}, True),
        ({"reporters": ("redis", "webhook"), "webhook_url": "http://x", "webhook_secret": "s"}, True),
        ({"telegram_bot_token": "t", "telegram_chat_ids": (1,)}, True),
        ({"telegram_bot_token": "t", "telegram_chat_ids": (1,), "telegram_commands": False}, False),
        ({"telegram_bot_token": "t"}, False),
        ({"predictor": "grok", "grok_api_key": "k"}, True),
    ],
)
def test_up_when_something_needs_jobs_starts_them(settings: dict[str, Any], starts: bool) -> None:
    config = Config(_env_file=None, **settings)
    assert ("jobs" in [spec.name for spec in worker_specs(config)]) is starts
    assert "jobs" in [spec.name for spec in worker_specs(config, jobs=True)]


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"REPORTERS": "telegram"}, "TELEGRAM_BOT_TOKEN and TELEGRAM_CHAT_IDS"),
        ({"REPORTERS": "webhook", "WEBHOOK_URL": "http://x"}, "WEBHOOK_SECRET"),
        ({"REPORTERS": "fax"}, "REPORTERS"),
        ({"WEBHOOK_URL": "ftp://x"}, "WEBHOOK_URL"),
        ({"TELEGRAM_CHAT_IDS": "@me"}, "TELEGRAM_CHAT_IDS"),
        ({"PREDICTOR": "grok"}, "GROK_API_KEY"),
        ({"MARKET_DATA": "finnhub"}, "FINNHUB_API_KEY"),
        ({"GROK_SECONDS": "1"}, "GROK_SECONDS"),
    ],
)
def test_settings_when_they_do_not_fit_together_name_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], told: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=told):
        load_config(_env_file=None)


def test_settings_when_set_for_telegram_and_grok_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", "1:a")
    monkeypatch.setenv("TELEGRAM_BASE_URL", "http://t")
    monkeypatch.setenv("GROK_BASE_URL", "http://g/v1")
    monkeypatch.setenv("TELEGRAM_CHAT_IDS", "5, -100")
    found = load_config(_env_file=None)
    assert found.telegram_bot_token is not None
    assert found.telegram_bot_token.get_secret_value() == "1:a"
    assert (found.telegram_base_url, found.grok_base_url, found.telegram_chat_ids) == (
        "http://t",
        "http://g/v1",
        (5, -100),
    )


class Somewhere:
    """A venue, or a source, whose bars close at ``close``."""

    name = "somewhere"

    def __init__(self, close: float) -> None:
        self.close = close
        self.capabilities = Capabilities(sessions=True)

    def last_price(self, ticker: str) -> LastPrice:
        raise NotImplementedError

    def bars(self, tickers: Sequence[str], count: int, until: datetime) -> dict[str, list[Bar]]:
        bar = Bar(until - timedelta(minutes=1), self.close, self.close, self.close, self.close, 1)
        return {ticker: [bar] for ticker in tickers}


class Echo:
    """Predicts the last close, where the market has sessions."""

    def predict(
        self, tickers: Sequence[str], market: Market, now: datetime, stale_data_seconds: float
    ) -> PredictionSet:
        assert market.capabilities.sessions
        bars = market.bars(tickers, 1, now)
        return PredictionSet({t: Prediction(bars[t][-1].close, None, now, "echo") for t in tickers})


def test_predictor_when_sourced_sees_the_sources_bars_and_the_venues_sessions() -> None:
    found = SourcedPredictor(Echo(), Somewhere(2.0)).predict(["A"], Somewhere(1.0), NOW, 15)
    assert found.predictions["A"].change_pct == 2.0
