"""Opens what a setting names. A library is imported here, where it is used, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.accounts import DEFAULT_ACCOUNT, AccountConfig
from shared.clock import Clock, SystemClock
from shared.config import Config
from shared.errors import ConfigError
from shared.keys import Keys
from shared.store import Store, connect
from worker.market.base import MarketData
from worker.predictors.base import Predictor
from worker.venues.base import Venue

if TYPE_CHECKING:
    from worker.predictors.grok import GrokPredictor

JOB_PATIENCE_SECONDS = 30.0


def open_venue(account: AccountConfig, clock: Clock) -> Venue:
    """The account's venue. Its library is imported here and nowhere else. Raises ConfigError."""
    if account.venue == "simulated":
        from worker.venues.simulated.client import SimulatedVenue

        return SimulatedVenue.from_account(account, clock)
    if account.venue == "alpaca":
        from worker.venues.alpaca import AlpacaVenue

        return AlpacaVenue.from_account(account, clock)
    raise ConfigError(f"{account.variable('venue')}: unknown venue {account.venue!r}")


def open_predictor(config: Config, store: Store) -> Predictor:
    """The predictor that ``PREDICTOR`` names."""
    if config.predictor in {"document", "grok"}:
        from worker.predictors.document import DocumentPredictor

        return DocumentPredictor(store, 2 * config.grok_seconds if config.predictor == "grok" else 0)
    from worker.models.registry import ModelRegistry
    from worker.predictors.lightgbm import LightGBMPredictor

    predictor: Predictor = LightGBMPredictor(ModelRegistry(store, SystemClock()))
    source = open_market_data(config)
    if source is None:
        return predictor
    from worker.predictors.sourced import SourcedPredictor

    return SourcedPredictor(predictor, source)


def open_market_data(config: Config, wait_seconds: float = 3.0) -> MarketData | None:
    """What ``MARKET_DATA`` names, or None for the venue's own bars. Raises ConfigError where its package is absent."""
    if config.market_data == "finnhub" and config.finnhub_api_key is not None:
        from worker.market.bounded import BoundedData
        from worker.market.finnhub import FinnhubData

        key = config.finnhub_api_key.get_secret_value()
        return BoundedData(FinnhubData(key, config.finnhub_url, SystemClock()), wait_seconds)
    if config.market_data == "yfinance":
        from worker.market.bounded import BoundedData
        from worker.market.yahoo import YahooData

        return BoundedData(YahooData(config.yfinance_url, config.run_dir / "yfinance"), wait_seconds)
    return None


def open_grok(config: Config) -> GrokPredictor:
    """The predictor that a job runs, over the same bars as a model would have. Raises ConfigError."""
    from worker.predictors.grok import GrokClient, GrokPredictor
    from worker.predictors.sourced import SourcedMarket

    if config.grok_api_key is None:
        raise ConfigError("GROK_API_KEY is not set")
    clock = SystemClock()
    venue = open_venue(config.account(DEFAULT_ACCOUNT), clock)
    source = open_market_data(config, JOB_PATIENCE_SECONDS)
    client = GrokClient(config.grok_api_key.get_secret_value(), config.grok_base_url, config.grok_model)
    store = Store(connect(config.redis_address()), Keys(config.sixbot_key_prefix))
    market = venue if source is None else SourcedMarket(venue, source)
    tickers, horizon = config.active_tickers, config.predict_horizon_minutes
    return GrokPredictor(client, market, store, clock, tickers, horizon, config.grok_daily_tokens)
