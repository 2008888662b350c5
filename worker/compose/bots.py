"""The bots of one account, put together; and one bot alone, in the foreground."""

from __future__ import annotations

from collections.abc import Callable

from shared.accounts import AccountConfig
from shared.bots import BotSettings
from shared.clock import Clock
from shared.config import Config
from shared.errors import ConfigError
from shared.store import Store
from worker.compose.account import TradingAccount
from worker.entropy import entropy
from worker.feeds.base import TradeFeed
from worker.models.registry import ModelRegistry
from worker.trading.bots.documents import BotDocuments
from worker.trading.bots.fleet import Fleet
from worker.trading.bots.models import Model
from worker.trading.bots.pipeline import Post, Rhythm
from worker.trading.bots.runner import BotRunner
from worker.trading.bots.sender import OrderSender
from worker.trading.bots.sources import OpenFeed, Sources
from worker.trading.bots.status import BotStatus


def build_fleet(account: TradingAccount, post: Post, progress: Callable[[], None], only: int | None = None) -> Fleet:
    """Everything that the account's stream bots need; ``only`` runs one of them."""
    config, settings, store, clock = account.config, account.settings, account.store, account.clock
    venue, desk, book, notes = account.venue, account.desk, account.book, account.notes
    sender = OrderSender(account.name, venue, desk, book, clock, account.calendar, account.switches.read)

    def new_runner(bot: BotSettings) -> BotRunner:
        return BotRunner(bot, sender, desk, book, venue, clock, notes, entropy, progress)

    opener, group = feed_opener(config, settings), feed_group(config, settings)
    fleet = Fleet(
        account.name,
        tuple(known.name for known in config.accounts),
        BotDocuments(store, only, clock),
        sender,
        book,
        Sources(opener, group, post, rhythm_of(config), clock, account.logger),
        BotStatus(store, account.name, clock, notes),
        clock,
        new_runner,
        model_opener(store, clock),
        progress,
        account.logger,
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

            return AlpacaFeed.from_config(config, symbols, stale_seconds, account)
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
