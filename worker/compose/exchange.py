"""The simulated venue's process."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from decimal import Decimal

from shared.accounts import DEFAULT_ACCOUNT
from shared.config import DEFAULT_TICKERS, Config
from shared.errors import ConfigError
from worker.compose.process import Process, process_name
from worker.core.fills import EngineOptions
from worker.core.matching import MatchingEngine
from worker.runtime import ExitCode
from worker.venues.simulated.exchange import Exchange
from worker.venues.simulated.ledger import Ledger
from worker.venues.simulated.market import SeededMarket
from worker.venues.simulated.server import Gateway, serve
from worker.venues.simulated.token import venue_token

STARTING_CASH = Decimal(100_000)
LATENCY = timedelta(milliseconds=20)


def run(config: Config, account: str | None) -> ExitCode:
    """A simulated account's venue. Raises ConfigError where its port is taken or the venue is a real one."""
    served = config.account(account or DEFAULT_ACCOUNT)
    name, variable = process_name("exchange", account), served.variable("venue")
    if served.venue != "simulated" or served.url is None:
        raise ConfigError(f"the exchange worker is for {variable}=simulated only, and {variable} is {served.venue}")
    process = Process.begin(name, config)
    market = SeededMarket(config.sim_seed, [*config.active_tickers, *DEFAULT_TICKERS])
    ledger = Ledger(config.sixbot_home / f"{name}.db")
    options = EngineOptions(latency=LATENCY, fees_in_base=config.sim_fees == "base")
    engine = MatchingEngine(ledger.load(STARTING_CASH), market.instrument, options, random.SystemRandom().random)
    exchange = Exchange(market, engine, ledger, process.clock)
    gateway = Gateway(exchange, venue_token(served), admin=config.sim_admin)
    heartbeat = process.heartbeat()

    def stopping() -> bool:
        heartbeat.beat()
        return process.signals.stopping.is_set()

    try:
        asyncio.run(serve(gateway, served.url, lambda: process.logger.info("listening"), stopping))
    except OSError as error:
        raise ConfigError(f"{served.variable('url')}: {served.url} cannot be listened on: {error}") from error
    finally:
        ledger.close()
    heartbeat.farewell()
    return ExitCode.OK
