"""The bots of one account, put together; and one bot alone, in the foreground."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from shared.accounts import AccountConfig
from shared.bots import BotSettings
from shared.clock import Clock, TradingCalendar
from shared.config import Config
from shared.errors import ConfigError
from shared.store import Store
from worker.feeds.base import TradeFeed
from worker.models.registry import ModelRegistry
from worker.trading.bots.documents import BotDocuments
from worker.trading.bots.fleet import Fleet, Model
from worker.trading.bots.pipeline import Post, Rhythm
from worker.trading.bots.runner import BotRunner
from worker.trading.bots.sender import OrderSender
from worker.trading.bots.sources import OpenFeed, Sources
from worker.trading.bots.status import BotStatus
from worker.trading.desk import OrderDesk
from worker.trading.ports import Book, Notes, Switches
from worker.venues.base import Venue


def build_fleet(
    config: Config,
    account: AccountConfig,
    store: Store,
    venue: Venue,
    desk: OrderDesk,
    book: Book,
    clock: Clock,
    calendar: TradingCalendar,
    notes: Notes,
    read_switches: Callable[[], Switches],
    entropy: Callable[[], str],
    post: Post,
    progress: Callable[[], None],
    logger: structlog.stdlib.BoundLogger,
    only: int | None = None,
) -> Fleet:
    """Everything that the account's stream bots need; ``only`` runs one of them."""
    sender = OrderSender(account.name, venue, desk, book, clock, calendar, read_switches)

    def new_runner(settings: BotSettings) -> BotRunner:
        return BotRunner(settings, sender, desk, book, venue, clock, notes, entropy, progress)

    fleet = Fleet(
        account.name,
        tuple(known.name for known in config.accounts),
        BotDocuments(store, only),
        sender,
        book,
        Sources(feed_opener(config, account), feed_group(config, account), post, rhythm_of(config), clock, logger),
        BotStatus(store, account.name, clock, notes),
        clock,
        new_runner,
        model_opener(store, clock),
        progress,
        logger,
    )
    desk.on_change = fleet.on_change
    return fleet


def rhythm_of(config: Config) -> Rhythm:
    """``PREDICT_SECONDS`` and ``CANDLE_GRACE_MS``."""
    return Rhythm(config.predict_seconds, config.candle_grace_ms)


def model_opener(store: Store, clock: Clock) -> Callable[[], Model]:
    """A place for a model of the registry, one per bot."""
    registry = ModelRegistry(store, clock)

    def new_model() -> Model:
        from worker.core.features import FEATURE_NAMES, FEATURE_VERSION
        from worker.predictors.slot import ModelSlot

        return ModelSlot(registry, FEATURE_NAMES, FEATURE_VERSION)

    return new_model


def feed_kind(config: Config, account: AccountConfig) -> str:
    """``BOT_FEED``, or what the account's venue has."""
    if config.bot_feed != "auto":
        return config.bot_feed
    return "binance" if account.venue.startswith("ccxt:binance") else account.venue


def feed_opener(config: Config, account: AccountConfig) -> OpenFeed:
    """Opens feeds for an account. A feed's library is imported where it is used."""

    def open_feed(symbols: tuple[str, ...], stale_seconds: float) -> TradeFeed:
        kind = feed_kind(config, account)
        if kind == "binance":
            from worker.feeds.binance import BinanceFeed

            return BinanceFeed.from_config(config, symbols, stale_seconds)
        if kind == "alpaca":
            from worker.feeds.alpaca import AlpacaFeed

            return AlpacaFeed.from_config(config, symbols, stale_seconds)
        if kind == "simulated":
            from worker.feeds.simulated import SimulatedFeed
            from worker.venues.simulated.token import venue_token

            url = account.url or config.sim_venue_url
            return SimulatedFeed(symbols, url, venue_token(account), stale_seconds=stale_seconds)
        raise ConfigError(f"no live trades are known for the venue {account.venue}: set BOT_FEED")

    return open_feed


def feed_group(config: Config, account: AccountConfig) -> Callable[[str], str]:
    """Alpaca allows one connection for stocks and one for crypto, a key."""
    if feed_kind(config, account) != "alpaca":
        return lambda _symbol: ""
    return lambda symbol: "crypto" if "/" in symbol else "stocks"
