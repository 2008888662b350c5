"""The composition root: the one place where the parts of a process are put together, by plain constructor calls."""

from __future__ import annotations

import asyncio
import os
import random
import string
import sys
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import structlog

from shared.accounts import DEFAULT_ACCOUNT, AccountConfig, Mode
from shared.bots import BotControl
from shared.clock import Clock, SystemClock, TradingCalendar
from shared.config import DEFAULT_TICKERS, Config
from shared.errors import ConfigError, StoreError
from shared.keys import Keys
from shared.logs import configure_logging, event_fields
from shared.store import Store, connect
from worker import failpoints
from worker.compose_bots import build_fleet
from worker.core.types import OrderType
from worker.market.base import MarketData
from worker.predictors.base import Predictor
from worker.runtime import AccountLock, AccountLocked, ExitCode, Heartbeat, StopSignals
from worker.trading.book import RedisBook
from worker.trading.cycle import Cycle, CycleOptions
from worker.trading.dead_man import DeadManSwitch
from worker.trading.desk import OrderDesk
from worker.trading.fence import Fence
from worker.trading.gate import RedisGate
from worker.trading.lease import Lease
from worker.trading.mend import Mender
from worker.trading.ports import Notes
from worker.trading.process import TradingProcess, Unit
from worker.trading.pulse import AccountPulse, ProcessPulse
from worker.trading.reconcile import Reconciler
from worker.trading.status import TraderStatus
from worker.trading.switches import SwitchReader
from worker.trading.worker import Parts, Trader
from worker.venues.base import Venue
from worker.watch import KeyWatcher

if TYPE_CHECKING:
    from worker.predictors.grok import GrokPredictor

ENTROPY_LENGTH = 14
EMERGENCY_REDIS_SECONDS = 0.5
SWITCH_SECONDS = 0.0005
"""The longest that a thread that sends or cancels waits for one that computes; Python's own default is 5 ms."""
JOB_PATIENCE_SECONDS = 30.0
STARTING_CASH = Decimal(100_000)
EXCHANGE_LATENCY = timedelta(milliseconds=20)
_LETTERS = (string.ascii_lowercase + string.digits).encode()
_LETTER_OF_BYTE = bytes(_LETTERS[byte % len(_LETTERS)] for byte in range(256))


def entropy() -> str:
    """Fourteen random letters and digits from the operating system, asked once: every order waits for it."""
    return os.urandom(ENTROPY_LENGTH).translate(_LETTER_OF_BYTE).decode()


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
    client = GrokClient(config.grok_api_key.get_secret_value(), config.grok_url, config.grok_model)
    store = Store(connect(config.redis_address()), Keys(config.sixbot_key_prefix))
    market = venue if source is None else SourcedMarket(venue, source)
    tickers, horizon = config.active_tickers, config.predict_horizon_minutes
    return GrokPredictor(client, market, store, clock, tickers, horizon, config.grok_daily_tokens)


def build_trader(
    config: Config,
    account: AccountConfig,
    signals: StopSignals,
    venue: Venue,
    lock: AccountLock,
    pulse: AccountPulse,
    logger: structlog.stdlib.BoundLogger,
    only: int | None = None,
    tell: Notes | None = None,
) -> tuple[Trader, KeyWatcher]:
    """One account's trader, with a connection of its own, and the watcher that wakes it.

    With ``only``, of all bots that one; ``tell`` is told whatever happens as well.
    """
    clock, url = SystemClock(), config.redis_address()
    keys = Keys(config.sixbot_key_prefix)
    store = Store(connect(url), keys)
    calendar = TradingCalendar(ZoneInfo(config.trading_day_tz))
    book, gate = RedisBook(store, account.name, calendar), RedisGate(url, keys, account.name)
    fence = Fence(store, account.name, clock)
    notes = _notes(store, account.name, clock, logger, tell)
    holder: list[Trader] = []

    def progress() -> None:
        if holder:
            holder[0].alive()

    switches = SwitchReader(store, clock)
    desk = OrderDesk(venue, gate, book, clock, notes, fence.in_flight, config.unknown_resolve_seconds, account.name)
    cycle = None
    if account.is_default and only is None:
        options = CycleOptions(config.active_tickers, OrderType(config.order_type), config.limit_offset_pct)
        predictor = open_predictor(config, store)
        cycle = Cycle(
            account.name,
            venue,
            predictor,
            desk,
            book,
            clock,
            calendar,
            notes,
            options,
            entropy,
            switches.read,
            lambda: holder[0].between(),
        )
    names = [known.name for known in config.accounts]
    status = TraderStatus(store, account.name, names, mode_of(config, account), book, clock, calendar)
    fleet = build_fleet(
        config,
        account,
        store,
        venue,
        desk,
        book,
        clock,
        calendar,
        notes,
        switches.read,
        entropy,
        lambda item: holder[0].post(item),
        progress,
        logger,
        only,
    )
    parts = Parts(
        account=account.name,
        store=store,
        venue=venue,
        gate=gate,
        book=book,
        desk=desk,
        reconciler=Reconciler(account.name, venue, desk, book, clock, calendar, notes, progress),
        mender=Mender(store, clock, calendar),
        cycle=cycle,
        fence=fence,
        lease=Lease(store, account.name, lock.identity, entropy()),
        switches=switches,
        status=status,
        heartbeat=pulse,
        clock=clock,
        calendar=calendar,
        notes=notes,
        publishes_predictions=config.predictor == "lightgbm",
        cycle_seconds=config.cycle_seconds,
        dead_man=_dead_man(config, venue, status, clock, logger),
        logger=logger,
        bots=fleet,
    )
    trader = Trader(parts, signals, prepare=_preparation(config, account, store, venue, pulse, clock))
    holder.append(trader)
    watched = [keys.trading_settings, keys.risk_settings, keys.trading_armed, keys.trading_epoch]
    return trader, KeyWatcher(url, watched, trader.wake)


def mode_of(config: Config, account: AccountConfig) -> Mode:
    """What an account's trader says of itself; that of ``default`` speaks for the whole installation."""
    return config.mode if account.is_default else account.mode


def _dead_man(
    config: Config, venue: Venue, status: TraderStatus, clock: Clock, logger: structlog.stdlib.BoundLogger
) -> DeadManSwitch | None:
    """The venue's own switch, where it is configured and the venue has one."""
    seconds = config.dead_man_switch_seconds
    if not seconds:
        return None
    if not venue.capabilities.dead_man_switch:
        logger.warning("no_dead_man_switch", venue=venue.name)
        return None
    return DeadManSwitch(venue, seconds, clock, lambda why: status.fault("dead_man", why))


def _notes(
    store: Store, account: str, clock: Clock, logger: structlog.stdlib.BoundLogger, tell: Notes | None = None
) -> Notes:
    """What happened, into the log and the ``events`` stream; the book writes orders itself, with their change."""

    def notes(kind: str, /, **fields: object) -> None:
        logger.info(kind, **fields)
        if tell is not None:
            tell(kind, **fields)
        if kind == "order":
            return
        told = {"time": clock.now().isoformat(), "account": account, **fields}
        try:
            store.add_event(store.keys.events, event_fields(kind, told))
        except StoreError as error:
            logger.warning("event_lost", kind=kind, error=str(error))

    return notes


def _preparation(
    config: Config, account: AccountConfig, store: Store, venue: Venue, pulse: AccountPulse, clock: Clock
) -> Callable[[], None]:
    """What must exist before the first cycle: on the simulated market, a model. Real accounts bring their own."""

    def progress(done: int, total: int) -> None:
        pulse.extra["progress"] = {"what": "training the first model", "done": done, "total": total}
        pulse.beat(force=done == total)

    def prepare() -> None:
        if not account.is_default or config.predictor != "lightgbm" or account.mode != "simulated":
            return
        from worker.models.bootstrap import ensure_model
        from worker.models.registry import ModelRegistry

        registry = ModelRegistry(store, clock)
        ensure_model(registry, venue, config.active_tickers, config.predict_horizon_minutes, clock, progress)
        pulse.extra.pop("progress", None)

    return prepare


class _Running:
    """A trader between the start and the end of what wakes it."""

    def __init__(self, trader: Trader, watcher: KeyWatcher) -> None:
        self._trader, self._watcher = trader, watcher

    def run(self) -> None:
        self._watcher.start()
        try:
            self._trader.run()
        finally:
            self._watcher.close()


def chosen(config: Config, account: str | None) -> tuple[AccountConfig, ...]:
    """The accounts that a process works for: one, or all without a name. Raises ConfigError."""
    return config.accounts if account is None else (config.account(account),)


def process_name(worker: str, account: str | None) -> str:
    """A process for one further account has a heartbeat of its own beside the one for all."""
    return worker if account in {None, DEFAULT_ACCOUNT} else f"{worker}-{account}"


def run_trading(config: Config, account: str | None) -> ExitCode:
    """The trading worker's process: all accounts, or one, from their locks to the farewell."""
    clock, signals = SystemClock(), StopSignals()
    signals.install()
    accounts = chosen(config, account)
    store = Store(connect(config.redis_address()), Keys(config.sixbot_key_prefix))
    name = process_name("trading", account)
    logger = configure_logging(name, config.log_level, config.log_format, config.log_dir)
    pulse = ProcessPulse(Heartbeat(name, store, clock), [a.name for a in accounts], clock)
    venues = {a.name: open_venue(a, clock) for a in accounts}

    def unit(account: AccountConfig) -> Unit:
        lock, own = AccountLock(config.run_dir, account.name), pulse.accounts[account.name]
        told = logger.bind(account=account.name)
        venue = venues[account.name]
        return Unit(lock, lambda: _Running(*build_trader(config, account, signals, venue, lock, own, told)), own, told)

    try:
        TradingProcess([unit(a) for a in accounts], pulse, signals).run()
    finally:
        for venue in venues.values():
            venue.close()
    return ExitCode.OK


def run_bot(config: Config, bot_id: int, tell: Notes) -> ExitCode:
    """One bot in the foreground, as the trader of its account. Raises AccountLocked naming who trades it already."""
    clock, signals = SystemClock(), StopSignals()
    signals.install()
    store = Store(connect(config.redis_address()), Keys(config.sixbot_key_prefix))
    account = config.account(BotControl(store, clock).read(bot_id).value.account)
    name = process_name("trading", account.name)
    lock = AccountLock(config.run_dir, account.name)
    lock.acquire()
    holder = store.read_raw(store.keys.lease(account.name))
    if holder is not None and not holder.decode(errors="replace").startswith(f"{lock.identity}#"):
        lock.release()
        raise AccountLocked(f"{store.keys.lease(account.name)} is held by {holder.decode(errors='replace')}")
    logger = configure_logging(name, config.log_level, config.log_format, config.log_dir)
    pulse = ProcessPulse(Heartbeat(name, store, clock), [account.name], clock)
    own, venue = pulse.accounts[account.name], open_venue(account, clock)

    def build() -> _Running:
        return _Running(*build_trader(config, account, signals, venue, lock, own, logger, bot_id, tell))

    tell("started", bot_id=bot_id, account=account.name, venue=venue.name, mode=venue.mode)
    try:
        TradingProcess([Unit(lock, build, own, logger)], pulse, signals).run()
    finally:
        venue.close()
        tell("stopped", bot_id=bot_id)
    return ExitCode.OK


def run_emergency(config: Config, account: str | None) -> ExitCode:
    """The emergency worker's process, for all accounts or one."""
    from worker.emergency.account import AccountStop
    from worker.emergency.keys import EmergencyKeys
    from worker.emergency.latch import MemoryFile, inherit, memory_path, read_memories
    from worker.emergency.trader import TraderProcess
    from worker.emergency.worker import EmergencyWorker, write_pid

    clock, url = SystemClock(), config.redis_address()
    accounts = chosen(config, account)
    keys = Keys(config.sixbot_key_prefix)
    store = Store(connect(url, timeout_seconds=EMERGENCY_REDIS_SECONDS), keys)
    name = process_name("emergency", account)
    logger = configure_logging(name, config.log_level, config.log_format, config.log_dir)
    memories = [MemoryFile(memory_path(config.run_dir, a.name)) for a in accounts]
    inherit(memories[0], memories[1:], read_memories(config.run_dir))
    venues = [open_venue(a, clock) for a in accounts]
    stops = [
        AccountStop(a.name, venue, memory, TraderProcess(store, a.name, config.run_dir), clock, logger)
        for a, venue, memory in zip(accounts, venues, memories, strict=True)
    ]
    holder: list[EmergencyWorker] = []
    signals = StopSignals(lambda: holder[0].wake() if holder else None)
    emergency_keys = EmergencyKeys(store, [a.name for a in accounts], clock)
    worker = EmergencyWorker(config, stops, emergency_keys, Heartbeat(name, store, clock), signals, clock, logger)
    holder.append(worker)
    signals.install()
    write_pid(config, accounts[0].name)
    watcher = KeyWatcher(url, [keys.trading_settings, keys.risk_settings], worker.wake)
    watcher.start()
    try:
        worker.run()
    finally:
        watcher.close()
        for venue in venues:
            venue.close()
        for memory in memories:
            memory.close()
    return ExitCode.OK


def run_heartbeat(config: Config, _account: str | None) -> ExitCode:
    """The heartbeat worker's process."""
    from worker.drill import last_passed
    from worker.heartbeat.checks import Checker, probes_of
    from worker.heartbeat.worker import CHECK_INTERVAL_SECONDS, HeartbeatWorker

    clock = SystemClock()
    store = Store(connect(config.redis_address()), Keys(config.sixbot_key_prefix))
    logger = configure_logging("heartbeat", config.log_level, config.log_format, config.log_dir)
    signals = StopSignals()
    signals.install()
    checker = Checker(probes_of(config, clock), clock, CHECK_INTERVAL_SECONDS)
    heartbeat = Heartbeat("heartbeat", store, clock)
    HeartbeatWorker(store, checker, heartbeat, signals, clock, logger, lambda: last_passed(config)).run()
    return ExitCode.OK


def run_exchange(config: Config, account: str | None) -> ExitCode:
    """A simulated account's venue. Raises ConfigError where its port is taken or the venue is a real one."""
    from worker.core.matching import EngineOptions, MatchingEngine
    from worker.venues.simulated.ledger import Ledger
    from worker.venues.simulated.market import SeededMarket
    from worker.venues.simulated.server import Exchange, serve
    from worker.venues.simulated.token import venue_token

    served = config.account(account or DEFAULT_ACCOUNT)
    name, variable = process_name("exchange", account), served.variable("venue")
    if served.venue != "simulated" or served.url is None:
        raise ConfigError(f"the exchange worker is for {variable}=simulated only, and {variable} is {served.venue}")
    logger = configure_logging(name, config.log_level, config.log_format, config.log_dir)
    clock = SystemClock()
    store = Store(connect(config.redis_address()), Keys(config.sixbot_key_prefix))
    signals = StopSignals()
    signals.install()
    market = SeededMarket(config.sim_seed, [*config.active_tickers, *DEFAULT_TICKERS])
    ledger = Ledger(config.sixbot_home / f"{name}.db")
    engine = MatchingEngine(
        ledger.load(STARTING_CASH),
        market.instrument,
        EngineOptions(latency=EXCHANGE_LATENCY),
        random.SystemRandom().random,
    )
    exchange = Exchange(market, engine, ledger, clock, venue_token(served), admin=config.sim_admin)
    heartbeat = Heartbeat(name, store, clock)

    def stopping() -> bool:
        heartbeat.beat()
        return signals.stopping.is_set()

    try:
        asyncio.run(serve(exchange, served.url, lambda: logger.info("listening"), stopping))
    except OSError as error:
        raise ConfigError(f"{served.variable('url')}: {served.url} cannot be listened on: {error}") from error
    finally:
        ledger.close()
    heartbeat.farewell()
    return ExitCode.OK


def run_web(config: Config, _account: str | None) -> ExitCode:
    """gunicorn in this very process; it never returns where it could be started."""
    config.log_dir.mkdir(parents=True, exist_ok=True)
    log = str(config.log_dir / "web.log")
    arguments = ["--worker-class", "gthread", "--workers", "1", "--threads", "8", "--bind", config.web_bind]
    arguments += ["--error-logfile", log, "--no-control-socket", "--graceful-timeout", "5", "web.wsgi:app_from_env()"]
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", *arguments])  # noqa: S606 - our own program
    return ExitCode.FAILURE


def run_jobs(config: Config, _account: str | None) -> ExitCode:
    """The jobs worker's process."""
    from worker.compose_jobs import run_jobs as run

    return run(config, entropy())


WORKERS: dict[str, Callable[[Config, str | None], ExitCode]] = {
    "trading": run_trading,
    "emergency": run_emergency,
    "heartbeat": run_heartbeat,
    "exchange": run_exchange,
    "jobs": run_jobs,
    "web": run_web,
}


def run_worker(name: str, config: Config, account: str | None = None) -> ExitCode:
    """Run one worker until it is told to stop: for one account, or for all. Raises ConfigError for a wrong name."""
    try:
        worker = WORKERS[name]
    except KeyError:
        raise ConfigError(f"no worker is called {name!r}: choose from {', '.join(sorted(WORKERS))}") from None
    failpoints.arm(os.environ.get(failpoints.VARIABLE))
    sys.setswitchinterval(SWITCH_SECONDS)
    return worker(config, account)
