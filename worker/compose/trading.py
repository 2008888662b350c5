"""The trading worker's process: the traders of all accounts or one, or a single bot in the foreground."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import redis

from shared.clock import SystemClock
from shared.config import Config
from shared.keys import Keys
from shared.store import Store, connect, translated_errors
from worker.compose.adapters import open_venue
from worker.compose.process import Process, chosen, process_name
from worker.compose.trader import build_trader
from worker.redis_safety import refuse_unsafe_server
from worker.runtime import AccountLock, AccountLocked, ExitCode
from worker.trading.ports import Notes
from worker.trading.process import TradingProcess, Unit
from worker.trading.pulse import ProcessPulse
from worker.trading.worker import Trader


def run(config: Config, account: str | None) -> ExitCode:
    """All accounts, or one, from their locks to the farewell."""
    accounts = chosen(config, account)
    process = Process.begin(process_name("trading", account), config)
    with suppress(redis.RedisError, OSError):  # one that is not there yet is looked at when it is
        refuse_unsafe_server(process.store.client)
    pulse = ProcessPulse(process.heartbeat(), [a.name for a in accounts], process.clock)
    venues = {a.name: open_venue(a, process.clock) for a in accounts}

    def unit(name: str) -> Unit:
        traded, venue, own = config.account(name), venues[name], pulse.accounts[name]
        lock, logger = AccountLock(config.run_dir, name), process.logger.bind(account=name)

        def build() -> Trader:
            with translated_errors():
                refuse_unsafe_server(process.store.client)
            return build_trader(process, traded, venue, lock, own, logger)

        return Unit(lock, build, own, logger)

    try:
        TradingProcess([unit(name) for name in venues], pulse, process.signals).run()
    finally:
        for venue in venues.values():
            venue.close()
    return ExitCode.OK


def run_bot(config: Config, bot_id: int, account_name: str, configure: Callable[[], object], tell: Notes) -> ExitCode:
    """One bot in the foreground, as the trader of its account; ``configure`` writes its document once that is certain.

    Raises AccountLocked naming who trades the account already.
    """
    clock = SystemClock()
    store = Store(connect(config.redis_address()), Keys(config.sixbot_key_prefix))
    account = config.account(account_name)
    with translated_errors():
        refuse_unsafe_server(store.client)
    lock = AccountLock(config.run_dir, account.name)
    lock.acquire()
    holder = store.read_raw(store.keys.lease(account.name))
    if holder is not None and not holder.decode(errors="replace").startswith(f"{lock.identity}#"):
        lock.release()
        raise AccountLocked(f"{store.keys.lease(account.name)} is held by {holder.decode(errors='replace')}")
    configure()
    process = Process.begin(process_name("trading", account.name), config)
    pulse = ProcessPulse(process.heartbeat(), [account.name], clock)
    own, venue = pulse.accounts[account.name], open_venue(account, clock)

    def build() -> Trader:
        return build_trader(process, account, venue, lock, own, process.logger, bot_id, tell)

    tell("started", bot_id=bot_id, account=account.name, venue=venue.name, mode=venue.mode)
    try:
        TradingProcess([Unit(lock, build, own, process.logger)], pulse, process.signals).run()
    finally:
        venue.close()
        tell("stopped", bot_id=bot_id)
    return ExitCode.OK
