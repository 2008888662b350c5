"""Stream bots on the trader's own modules, with what is outside replaced: frames by hand, a gate that only looks."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import structlog

from shared.bots import BotSettings
from shared.clock import TradingCalendar
from shared.documents import dump_json
from shared.keys import Keys
from shared.store import Store, connect
from tests.builders import switches
from tests.servers.stack import FREE_RISK
from tests.support import RedisServer, eventually
from worker.core.fills import EngineOptions
from worker.core.risk import Denial
from worker.core.types import Instrument
from worker.entropy import entropy
from worker.feeds.base import FeedSink
from worker.feeds.binance import BinanceFeed
from worker.replay.bots import ReplayClock
from worker.trading.bots.documents import BotDocuments
from worker.trading.bots.fleet import Fleet
from worker.trading.bots.pipeline import RHYTHM, Crossing, Decision, RowModel
from worker.trading.bots.runner import BotRunner
from worker.trading.bots.sender import OrderSender
from worker.trading.bots.sources import Sources
from worker.trading.bots.status import BotStatus
from worker.trading.desk import OrderDesk
from worker.trading.memory import MemoryLedger
from worker.trading.ports import Switches, Ticket
from worker.trading.reconcile import Snapshot
from worker.venues.simulated.local import LocalVenue

START = 1_700_000_000_000_000
Tell = Callable[[str], None]
ACCOUNT = "default"
LOT, TICK = Decimal("0.00001"), Decimal("0.01")


class HandFeed(BinanceFeed):
    """Binance's feed without its socket: the messages are put in by hand."""

    def start(self, sink: FeedSink) -> None:
        self._out.sink = sink
        self._out.live()


class OnlyLooks:
    """A gate that notes when it is asked and admits nothing: the way up to it is what is measured."""

    def __init__(self) -> None:
        self.asked, self.at = 0, 0

    def admit(self, ticket: Ticket) -> Denial | None:
        self.at = time.perf_counter_ns()
        self.asked += 1
        return Denial("BENCH", "measured up to here")


@dataclass(slots=True)
class Loaded:
    """One model for all bots, never another one."""

    current: RowModel
    problem: str = ""

    def look(self, model_id: int, buy_class: int = 1) -> None:
        return None


@dataclass(slots=True)
class Rig:
    """A fleet and both of its ends; ``posted`` is what its pipelines found, in the place of the trader's inbox."""

    store: Store
    clock: ReplayClock
    gate: OnlyLooks
    fleet: Fleet
    sender: OrderSender
    posted: list[Decision | Crossing]
    feeds: list[HandFeed]
    switches: Switches
    snapshot: Snapshot

    def turn(self) -> None:
        """One look of the trader's loop."""
        self.fleet.turn(ready=True, switches=self.switches, epoch=1, snapshot=self.snapshot)

    def begin(self, bots: Sequence[BotSettings]) -> None:
        """Write the bots' documents and wait until each has its model."""
        client, keys = self.store.client, self.store.keys
        client.mset({keys.bot(b.bot_id): dump_json(b.plain()) for b in bots})  # type: ignore[arg-type]
        client.sadd(keys.bots, *(b.bot_id for b in bots))
        self.turn()
        eventually(lambda: all(b.lane.model.current is not None for b in self.fleet._bots.values()))


@contextmanager
def redis_store() -> Iterator[Store]:
    """A server of its own, where the bots' documents and their status stand."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        server.start()
        client = connect(server.url)
        try:
            yield Store(client, Keys())
        finally:
            client.close()
            server.stop()


@contextmanager
def rig(store: Store, model: RowModel, symbols: Sequence[str]) -> Iterator[Rig]:
    """Everything put together as ``worker.compose.bots`` does it."""
    clock, calendar, gate = ReplayClock(START), TradingCalendar(ZoneInfo("UTC")), OnlyLooks()
    judged = free_switches()
    ledger = MemoryLedger(clock, calendar, judged)
    venue = LocalVenue(
        clock, {s: Instrument(s, LOT, TICK) for s in symbols}, Decimal(10**6), EngineOptions(), lambda: 1.0
    )
    desk = OrderDesk(venue, gate, ledger, clock, silent, lambda _name: nullcontext(), 60.0)
    sender = OrderSender(ACCOUNT, venue, desk, ledger, clock, calendar, lambda: judged)
    posted, feeds = list[Decision | Crossing](), list[HandFeed]()
    logger: structlog.stdlib.BoundLogger = structlog.get_logger()

    def new_runner(settings: BotSettings) -> BotRunner:
        return BotRunner(settings, sender, desk, ledger, venue, clock, silent, entropy)

    def open_feed(symbols: tuple[str, ...], stale_seconds: float) -> HandFeed:
        feeds.append(HandFeed(symbols, stale_seconds=stale_seconds, clock=lambda: clock.micros))
        return feeds[-1]

    fleet = Fleet(
        ACCOUNT,
        (ACCOUNT,),
        BotDocuments(store),
        sender,
        ledger,
        Sources(open_feed, lambda _symbol: "all", posted.append, RHYTHM, clock, logger),
        BotStatus(store, ACCOUNT, clock, silent),
        clock,
        new_runner,
        lambda: Loaded(model),
        lambda: None,
        logger,
    )
    snapshot = Snapshot(clock.now(), (), venue.account(), ())
    try:
        fleet.recover()
        fleet.start()
        yield Rig(store, clock, gate, fleet, sender, posted, feeds, judged, snapshot)
    finally:
        fleet.close()


def free_switches() -> Switches:
    """On, with limits that do not get in the way."""
    return switches(json.loads(FREE_RISK))


def silent(_kind: str, /, **_fields: object) -> None:
    """The table is enough."""
