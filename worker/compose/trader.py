"""One account's trader, put together."""

from __future__ import annotations

from collections.abc import Callable
from zoneinfo import ZoneInfo

import structlog

from shared.accounts import AccountConfig, Mode
from shared.clock import Clock, TradingCalendar, rfc3339
from shared.config import Config
from shared.errors import StoreError
from shared.logs import event_fields
from shared.store import Store, connect
from worker.compose.account import TradingAccount
from worker.compose.adapters import open_predictor
from worker.compose.bots import build_fleet
from worker.compose.process import Process
from worker.core.types import OrderType
from worker.entropy import entropy
from worker.runtime import AccountLock
from worker.trading.book import RedisBook
from worker.trading.cycle import Cycle, CycleOptions
from worker.trading.dead_man import DeadManSwitch
from worker.trading.desk import OrderDesk
from worker.trading.fence import Fence
from worker.trading.gate import RedisGate
from worker.trading.lease import Lease
from worker.trading.mend import Mender
from worker.trading.ports import Notes
from worker.trading.pulse import AccountPulse
from worker.trading.reconcile import Reconciler
from worker.trading.status import TraderStatus
from worker.trading.switches import SwitchReader
from worker.trading.worker import Parts, Trader
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
) -> tuple[Trader, KeyWatcher]:
    """One account's trader, with a connection of its own, and the watcher that wakes it.

    With ``only``, of all bots that one; ``tell`` is told whatever happens as well.
    """
    config, clock, keys, url = process.config, process.clock, process.keys, process.config.redis_address()
    store, calendar = Store(connect(url), keys), TradingCalendar(ZoneInfo(config.trading_day_tz))
    notes = _notes(store, account.name, clock, logger, tell)
    book, gate = RedisBook(store, account.name, calendar), RedisGate(url, keys, account.name)
    fence, switches = Fence(store, account.name, clock), SwitchReader(store, clock)
    desk = OrderDesk(venue, gate, book, clock, notes, fence.in_flight, config.unknown_resolve_seconds, account.name)
    status = TraderStatus(
        store, account.name, [a.name for a in config.accounts], mode_of(config, account), book, clock, calendar
    )
    shared = TradingAccount(config, account, store, venue, desk, book, switches, clock, calendar, notes, logger)
    holder: list[Trader] = []

    def progress() -> None:
        if holder:
            holder[0].alive()

    parts = Parts(
        account=account.name,
        store=store,
        venue=venue,
        gate=gate,
        book=book,
        desk=desk,
        reconciler=Reconciler(account.name, venue, desk, book, clock, calendar, notes, progress),
        mender=Mender(store, clock, calendar),
        cycle=_cycle(shared, lambda: holder[0].between()) if account.is_default and only is None else None,
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
        bots=build_fleet(shared, lambda item: holder[0].post(item), progress, only),
    )
    trader = Trader(parts, process.signals, prepare=_preparation(config, account, store, venue, pulse, clock))
    holder.append(trader)
    watched = [keys.trading_settings, keys.risk_settings, keys.trading_armed, keys.trading_epoch]
    return trader, KeyWatcher(url, watched, trader.wake)


def _cycle(account: TradingAccount, between: Callable[[], None]) -> Cycle:
    """The default bot, which decides by the predictor that the configuration names."""
    config = account.config
    return Cycle(
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
        told = {"time": rfc3339(clock.now()), "account": account, **fields}
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
