"""One account's trader, put together."""

from __future__ import annotations

from collections.abc import Callable
from zoneinfo import ZoneInfo

import structlog

from shared.accounts import AccountConfig, Mode
from shared.clock import Clock, TradingCalendar
from shared.config import Config
from shared.keys import Keys
from shared.store import Store, connect
from worker.compose.account import TradingAccount
from worker.compose.adapters import open_predictor
from worker.compose.bots import build_fleet
from worker.compose.notes import event_notes
from worker.compose.preparation import preparation
from worker.compose.process import Process
from worker.core.types import OrderType
from worker.entropy import entropy
from worker.runtime import AccountLock
from worker.trading.book import RedisBook
from worker.trading.bots.pipeline import Crossing, Decision
from worker.trading.cycle import Cycle, CycleOptions
from worker.trading.cycles import Cycles
from worker.trading.dead_man import DeadManSwitch
from worker.trading.desk import OrderDesk
from worker.trading.fence import Fence
from worker.trading.gate import RedisGate
from worker.trading.halt import HaltRequest
from worker.trading.inbox import Inbox, Intake
from worker.trading.keepalive import KeepAlive
from worker.trading.lease import Lease
from worker.trading.mend import Mender
from worker.trading.oversight import Oversight
from worker.trading.ports import Notes
from worker.trading.pulse import AccountPulse
from worker.trading.readiness import Readiness
from worker.trading.reconcile import Reconciler, Snapshot
from worker.trading.session import Session
from worker.trading.startup import Startup
from worker.trading.status import TraderStatus
from worker.trading.switches import SwitchReader
from worker.trading.tenure import Admission, Tenure
from worker.trading.worker import Service, Trader
from worker.venues.base import Venue
from worker.watch import KeyWatcher


def build_trader(
    process: Process,
    account: AccountConfig,
    venue: Venue,
    lock: AccountLock,
    pulse: AccountPulse,
    logger: structlog.stdlib.BoundLogger,
    only: int | None = None,
    tell: Notes | None = None,
) -> Trader:
    """One account's trader, with connections of its own.

    With ``only``, of all bots that one; ``tell`` is told whatever happens as well.
    """
    name, config, clock, keys, signals = account.name, process.config, process.clock, process.keys, process.signals
    url = config.redis_address()
    store, calendar = Store(connect(url), keys), TradingCalendar(ZoneInfo(config.trading_day_tz))
    notes = event_notes(store, name, clock, logger, tell)
    book, gate = RedisBook(store, name, calendar), RedisGate(url, keys, name)
    fence, switches = Fence(store, name, clock), SwitchReader(store, clock)
    desk = OrderDesk(venue, gate, book, clock, notes, fence.in_flight, config.unknown_resolve_seconds, name)
    shared = TradingAccount(config, account, store, venue, desk, book, switches, clock, calendar, notes, logger)

    names = [known.name for known in config.accounts]
    status = TraderStatus(store, name, names, mode_of(config, account), book, clock, calendar)
    readiness = Readiness(switches, fence, status, clock, logger)
    tenure = Tenure(Lease(store, name, lock.identity, entropy()), fence, gate, book, clock)
    dead_man = _dead_man(config, venue, status, clock, logger)
    keepalive = KeepAlive(pulse, tenure, fence, dead_man)
    reconciler = Reconciler(name, venue, desk, book, clock, calendar, notes, keepalive.beat)
    halt = HaltRequest(pulse, clock)
    mender = Mender(store, clock, calendar)
    oversight = Oversight(reconciler, mender, book, fence, switches, status, halt, clock, calendar)

    inbox = Inbox()

    def post(found: Decision | Crossing) -> None:
        if not isinstance(found, Decision):
            inbox.put(found)
        elif not inbox.offer(found):
            bots.missed(found)

    bots = build_fleet(shared, post, keepalive.beat, only)
    intake = Intake(inbox, desk, bots, oversight, clock, logger)

    def between() -> Snapshot | None:
        keepalive.beat()
        intake.between()
        found = oversight.meanwhile()
        if found is not None:
            readiness.tell_anew()
        return found

    alone = only is not None or not account.is_default
    cycles = None if alone else _cycles(shared, oversight, status, pulse, between)
    session = Session(
        Admission(tenure, pulse, intake, signals, notes),
        preparation(config, account, store, venue, pulse, clock),
        Startup(mender, oversight, bots, intake, signals, logger),
        keepalive,
        oversight,
        readiness,
        cycles,
        bots,
        intake,
        signals,
    )
    watcher = _watcher(url, keys, fence, inbox)
    services: list[Service] = [bots, watcher] if dead_man is None else [bots, dead_man, watcher]
    return Trader(session, tenure, readiness, pulse, inbox, intake, venue.stream_updates, services, signals, logger)


def _watcher(url: str, keys: Keys, fence: Fence, inbox: Inbox) -> KeyWatcher:
    """Acknowledges a new epoch in its own thread, whatever the loop waits for, and lets the loop look."""

    def wake() -> None:
        fence.acknowledge()
        inbox.wake()

    watched = [keys.trading_settings, keys.risk_settings, keys.trading_armed, keys.trading_epoch]
    return KeyWatcher(url, watched, wake)


def _cycles(
    account: TradingAccount,
    oversight: Oversight,
    status: TraderStatus,
    pulse: AccountPulse,
    between: Callable[[], Snapshot | None],
) -> Cycles:
    """The default bot, which decides by the predictor that the configuration names."""
    config = account.config
    cycle = Cycle(
        account.name,
        account.venue,
        open_predictor(config, account.store),
        account.desk,
        account.book,
        account.clock,
        account.calendar,
        account.notes,
        CycleOptions(config.active_tickers, OrderType(config.order_type), config.limit_offset_pct),
        entropy,
        account.switches.read,
        between,
    )
    return Cycles(
        cycle,
        config.cycle_seconds,
        oversight,
        status,
        account.book,
        pulse,
        account.clock,
        account.logger,
        publishes_predictions=config.predictor == "lightgbm",
    )


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
