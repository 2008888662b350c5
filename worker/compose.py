"""The composition root: the one place where the parts of a process are put together, by plain constructor calls."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from zoneinfo import ZoneInfo

from shared.clock import Clock, SystemClock, TradingCalendar
from shared.config import Config
from shared.errors import ConfigError, StoreError
from shared.keys import Keys
from shared.logs import configure_logging, event_fields
from shared.store import Store, connect
from worker.core.types import OrderType
from worker.predictors.base import Predictor
from worker.runtime import AccountLock, ExitCode, Heartbeat, StopSignals
from worker.trading.book import RedisBook
from worker.trading.cycle import Cycle, CycleOptions
from worker.trading.desk import OrderDesk
from worker.trading.fence import Fence
from worker.trading.gate import RedisGate
from worker.trading.lease import Lease
from worker.trading.reconcile import Reconciler
from worker.trading.status import TraderStatus
from worker.trading.switches import SwitchReader
from worker.trading.worker import Parts, Trader
from worker.venues.base import Venue
from worker.watch import KeyWatcher

ENTROPY_LENGTH = 14
_LETTERS = string.ascii_lowercase + string.digits


def entropy() -> str:
    """Fourteen random letters and digits from the operating system."""
    source = random.SystemRandom()
    return "".join(source.choice(_LETTERS) for _ in range(ENTROPY_LENGTH))


def open_venue(config: Config, clock: Clock) -> Venue:
    """The venue of account ``default``. Its library is imported here and nowhere else. Raises ConfigError."""
    if config.venue == "simulated":
        from worker.venues.simulated.client import SimulatedVenue

        return SimulatedVenue.from_config(config, clock)
    if config.venue == "alpaca":
        from worker.venues.alpaca import AlpacaVenue

        return AlpacaVenue.from_config(config, clock)
    raise ConfigError(f"VENUE: unknown venue {config.venue!r}")


def open_predictor(config: Config, store: Store) -> Predictor:
    """The predictor that ``PREDICTOR`` names."""
    if config.predictor == "document":
        from worker.predictors.document import DocumentPredictor

        return DocumentPredictor(store)
    from worker.predictors.lightgbm import LightGBMPredictor

    return LightGBMPredictor(store)


def build_trader(
    config: Config, account: str, signals: StopSignals, venue: Venue, lock: AccountLock
) -> tuple[Trader, KeyWatcher]:
    """One account's trader and the watcher that wakes it."""
    clock, url = SystemClock(), config.redis_address()
    keys = Keys(config.sixbot_key_prefix)
    store = Store(connect(url), keys)
    logger = configure_logging("trading", config.log_level, config.log_format, config.log_dir)
    calendar = TradingCalendar(ZoneInfo(config.trading_day_tz))
    book, gate = RedisBook(store, account, calendar), RedisGate(url, keys, account)
    fence = Fence(store, account, clock)

    def notes(kind: str, /, **fields: object) -> None:
        logger.info(kind, **fields)
        if kind == "order":
            return  # the book wrote that event with the change itself
        try:
            store.add_event(keys.events, event_fields(kind, {"time": clock.now().isoformat(), **fields}))
        except StoreError as error:
            logger.warning("event_lost", kind=kind, error=str(error))

    holder: list[Trader] = []

    def progress() -> None:
        if holder:
            holder[0].alive()

    switches = SwitchReader(store, clock)
    desk = OrderDesk(venue, gate, book, clock, notes, fence.in_flight, config.unknown_resolve_seconds)
    reconciler = Reconciler(account, venue, desk, book, clock, calendar, notes, progress)
    options = CycleOptions(config.active_tickers, OrderType(config.order_type), config.limit_offset_pct)
    predictor = open_predictor(config, store)
    cycle = Cycle(
        account, venue, predictor, desk, book, clock, calendar, notes, options, entropy, switches.read, progress
    )
    heartbeat = Heartbeat("trading", store, clock)
    parts = Parts(
        account=account,
        store=store,
        venue=venue,
        gate=gate,
        book=book,
        desk=desk,
        reconciler=reconciler,
        cycle=cycle,
        fence=fence,
        lease=Lease(store, account, lock.identity, entropy()),
        switches=switches,
        status=TraderStatus(store, account, config.mode, book, clock, calendar),
        heartbeat=heartbeat,
        clock=clock,
        calendar=calendar,
        notes=notes,
        publishes_predictions=config.predictor != "document",
        cycle_seconds=config.cycle_seconds,
        logger=logger,
    )
    trader = Trader(parts, signals, prepare=_nothing_to_prepare)
    holder.append(trader)
    return trader, KeyWatcher(
        url, [keys.trading_settings, keys.risk_settings, keys.trading_armed, keys.trading_epoch], trader.wake
    )


def _nothing_to_prepare() -> None:
    return


def run_trading(config: Config, account: str) -> ExitCode:
    """The trading worker's process, from its lock to its farewell."""
    signals = StopSignals()
    signals.install()
    lock = AccountLock(config.run_dir, account)
    lock.acquire()
    venue = open_venue(config, SystemClock())
    try:
        trader, watcher = build_trader(config, account, signals, venue, lock)
        watcher.start()
        try:
            trader.run()
        finally:
            watcher.close()
    finally:
        venue.close()
        lock.release()
    return ExitCode.OK


WORKERS: dict[str, Callable[[Config, str], ExitCode]] = {"trading": run_trading}


def run_worker(name: str, config: Config, account: str = "default") -> ExitCode:
    """Run one worker until it is told to stop. Raises ConfigError for a name that is none."""
    try:
        worker = WORKERS[name]
    except KeyError:
        raise ConfigError(f"no worker is called {name!r}: choose from {', '.join(sorted(WORKERS))}") from None
    return worker(config, account)
