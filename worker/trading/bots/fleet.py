"""All bots of one account in its trader, and the one thread that sends for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TypeVarTuple

import structlog

from shared.bots import BotSettings
from shared.clock import Clock
from shared.errors import SixbotError, StoreError, StoreRefused
from worker.core.ledger import Change
from worker.core.trades import SECOND, moment_of
from worker.core.types import LastPrice
from worker.trading.bots.documents import BotDocuments
from worker.trading.bots.models import Model, ModelLoader
from worker.trading.bots.pipeline import Crossing, Decision
from worker.trading.bots.roster import Bot, Roster
from worker.trading.bots.runner import BotRunner
from worker.trading.bots.sender import OrderSender
from worker.trading.bots.sources import Sources
from worker.trading.bots.stand_in import StandInPrices
from worker.trading.bots.status import Blocked, BotStatus, Shown, blocked_by
from worker.trading.ports import Book, Switches
from worker.trading.reconcile import Snapshot

Arguments = TypeVarTuple("Arguments")


class Fleet:
    """The account's trader thread calls everything here, except where it says otherwise."""

    def __init__(
        self,
        account: str,
        accounts: tuple[str, ...],
        documents: BotDocuments,
        sender: OrderSender,
        book: Book,
        sources: Sources,
        status: BotStatus,
        clock: Clock,
        new_runner: Callable[[BotSettings], BotRunner],
        new_model: Callable[[], Model],
        progress: Callable[[], None],
        logger: structlog.stdlib.BoundLogger,
    ) -> None:
        self._account, self._sender, self._book, self._sources = account, sender, book, sources
        self._status, self._clock, self._progress, self._logger = status, clock, progress, logger
        self._roster = Roster(account, accounts, documents, status, new_runner, logger)
        self._bots = self._roster.bots
        self._models = ModelLoader(lambda: [bot.lane for bot in list(self._bots.values())], new_model, logger)
        self._stand_in = StandInPrices(sender, sources, clock, logger)
        self._told = (0.0, 0, LastPrice(Decimal(0), moment_of(0)))
        self._recovered = False
        self._blocked: Blocked | None = Blocked("the account is not reconciled yet", off=True)

    def start(self) -> None:
        """Begin to look for models; feeds begin with the first bot that needs one."""
        self._models.start()

    def close(self) -> None:
        """End feeds and threads. What is open stays open, with its exits at the venue."""
        self._models.stop()
        self._sources.close()
        self._models.join(2)

    @property
    def cycle_paused(self) -> bool:
        """Whether bot 1 says of itself that it is off."""
        cycle = self._roster.cycle
        return cycle is not None and cycle.error is None and not cycle.value.enabled

    @property
    def waits_for_an_answer(self) -> bool:
        """Whether the fate of an order is not known: the venue should be asked soon."""
        return any(b.runner.manager.has_unknown for b in self._bots.values() if b.runner.busy)

    @property
    def bots(self) -> Mapping[int, BotRunner]:
        """The bots that run here, by id."""
        return {n: b.runner for n, b in self._bots.items()}

    # -- from the trader's loop -----------------------------------------------------------------------------------

    def recover(self) -> None:
        """After the book was reconciled: take over what is open, before any entry. Raises StoreError, VenueError."""
        self._recovered = False
        self._roster.begin()
        orders, positions = self._book.open_orders(), self._book.open_positions()
        names = {o.bot_id for o in orders} | {p.bot_id for p in positions}
        self._roster.keep({int(n) for n in names if n.isdigit()})
        for bot in self._bots.values():
            bot.runner.recover(orders, positions)
        self._recovered = True

    def turn(self, *, ready: bool, switches: Switches, epoch: int, snapshot: Snapshot | None) -> None:
        """One look: documents, feeds, and whatever the time or a fill asks for. Raises StoreError."""
        sender, roster = self._sender, self._roster
        sender.switches, sender.epoch, sender.snapshot = switches, epoch, snapshot
        roster.reload()
        roster.group()
        busy = [b for b in self._bots.values() if b.runner.busy]
        needed = roster.symbols.union(*(b.runner.open_symbols for b in busy))
        self._sources.need(needed, float(switches.risk.value.stale_data_seconds))
        self._sources.lanes(roster.lanes)
        on = ready and snapshot is not None and self._recovered
        self._blocked = blocked_by(switches, on=on, drift="" if snapshot is None else snapshot.drift)
        for bot in list(self._bots.values()):
            if not bot.runner.idles(on=on):
                self._guarded(bot, self._tend, bot)
        self._watch_stops()
        roster.drop_finished()
        self._publish()

    def take(self, item: Decision | Crossing) -> None:
        """Something that the pipeline posted. Raises StoreError."""
        last = self._price_of(item)
        if isinstance(item, Crossing):
            for bot in self._bots.values():
                if any(p.symbol == item.symbol for p in bot.runner.manager.positions.values()):
                    self._guarded(bot, self._priced, bot, item.symbol, last)
            self._watch_stops()
            return
        found = self._bots.get(item.bot_id)
        if found is None:
            return
        if self._sources.now() - item.decided_at > self._sources.rhythm.predict_seconds * SECOND:
            found.late += 1  # the next one is due
            return
        self._guarded(found, self._enter, found, item, last)

    def missed(self, decision: Decision) -> None:
        """Count a decision that was dropped because too much waited. Any thread may call."""
        found = self._bots.get(decision.bot_id)
        if found is not None:
            found.late += 1

    def _price_of(self, item: Decision | Crossing) -> LastPrice:
        """Of a symbol's last trade, which many bots may decide on: made once."""
        price, at, last = self._told
        if price != item.price or at != item.received_at:
            last = LastPrice(Decimal(repr(item.price)), moment_of(item.received_at))
            self._told = (item.price, item.received_at, last)
        return last

    def act(self) -> None:
        """Whatever the last news of orders asks for. Raises StoreError."""
        for bot in list(self._bots.values()):
            if not bot.runner.manager.is_settled:
                self._guarded(bot, bot.runner.act)
        self._watch_stops()

    def on_change(self, change: Change) -> None:
        """An order changed in the book."""
        own = self._of(change.after.order.bot_id)
        if own is not None:
            own.runner.on_change(change)
        for before, after in change.moved:
            bot = self._of(after.bot_id)
            if bot is not None:
                bot.runner.on_position(before, after, by_own=bot is own)

    def _of(self, bot_id: str) -> Bot | None:
        return self._bots.get(int(bot_id)) if bot_id.isdigit() else None

    # -- one bot --------------------------------------------------------------------------------------------------

    def _guarded(self, bot: Bot, step: Callable[[*Arguments], object], *arguments: *Arguments) -> None:
        """A fault of one bot costs no other its turn; a slow venue costs no sign of life."""
        self._progress()
        try:
            step(*arguments)
        except StoreError:
            raise
        except SixbotError as error:
            bot.runner.last_denial = str(error)
        except Exception as error:  # the last net of a bot; it is shown and tried again
            self._logger.exception("bot_failed", bot_id=bot.runner.bot_id)
            bot.runner.last_denial = f"{type(error).__name__}: {error}"

    def _tend(self, bot: Bot) -> None:
        manager = bot.runner.manager
        now = self._clock.now().timestamp()
        for symbol in bot.runner.open_symbols:
            last = self._sources.last(symbol)
            if last is not None:
                bot.runner.on_price(symbol, last)
            last = self._stand_in.of(symbol)
            if last is not None:
                bot.runner.on_price(symbol, last)
        manager.on_feed(now, live=all(self._sources.live(p.symbol) for p in manager.positions.values()))
        bot.runner.act()

    def _priced(self, bot: Bot, symbol: str, last: LastPrice) -> None:
        bot.runner.on_price(symbol, last)
        bot.runner.act()

    def _enter(self, bot: Bot, decision: Decision, last: LastPrice) -> None:
        if not self._sources.live(decision.symbol):
            bot.runner.last_denial = "the feed is not live"
            return
        bid = last.price if decision.bid == decision.price else Decimal(repr(decision.bid))
        why = bot.runner.enter(decision.symbol, bid, last, decision.confidence, f"{self._account}-{decision.second}")
        if why:
            bot.runner.last_denial = why

    def _watch_stops(self) -> None:
        """Tell the pipeline the highest stop-loss of each symbol."""
        stops: dict[str, Decimal] = {}
        for bot in [b for b in self._bots.values() if b.runner.busy]:
            for symbol in bot.runner.open_symbols:
                stop = bot.runner.manager.highest_stop(symbol)
                if stop is not None:
                    stops[symbol] = max(stop, stops.get(symbol, stop))
        self._sources.watch(stops)

    # -- status ---------------------------------------------------------------------------------------------------

    def _publish(self) -> None:
        roster, status = self._roster, self._status
        due = {n: b.document for n, b in self._bots.items() if status.due(n, b.document)}
        due = {n: document for n, document in due.items() if roster.told_here(n, document)}
        try:
            status.publish(due, self._shown)
            if roster.cycle is not None:
                status.publish_cycle(roster.cycle)
            status.publish_lost({n: document for n, document in roster.lost.items() if n not in self._bots})
        except StoreRefused as error:
            self._logger.warning("bot_status_not_published", error=str(error))

    def _shown(self, bot_id: int) -> Shown:
        bot = self._bots[bot_id]
        feed = self._sources.shown(bot.document.value.symbol)
        return Shown(bot.document, bot.runner, bot.lane, feed, bot.late, self._blocked)
