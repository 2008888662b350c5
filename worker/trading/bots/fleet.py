"""All bots of one account in its trader: their documents, models and feeds, and the one thread that sends for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import ParamSpec

import structlog

from shared.accounts import DEFAULT_ACCOUNT
from shared.bots import CYCLE_BOT, BotSettings
from shared.clock import Clock
from shared.errors import SixbotError, StoreError, StoreRefused, VenueError
from worker.core.ledger import Change
from worker.core.trades import SECOND, moment_of
from worker.core.types import LastPrice
from worker.trading.bots.documents import BotDocument, BotDocuments
from worker.trading.bots.models import NO_MODEL, Model, ModelLoader
from worker.trading.bots.pipeline import Crossing, Decision, Lane
from worker.trading.bots.runner import BotRunner
from worker.trading.bots.sender import OrderSender, too_old
from worker.trading.bots.sources import Sources
from worker.trading.bots.status import Blocked, BotStatus, Shown, blocked_by
from worker.trading.ports import Book, Switches
from worker.trading.reconcile import Snapshot

P = ParamSpec("P")
PRICE_SECONDS = 1.0
QUIET_PRICE_SECONDS = 5.0
"""Where the feed lives and a symbol is quiet, as thin ones are: venues count how often they are asked."""


@dataclass(slots=True)
class _Bot:
    """A stream bot that runs here."""

    runner: BotRunner
    lane: Lane
    document: BotDocument
    late: int = 0


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
        self._account, self._accounts, self._documents = account, accounts, documents
        self._sender, self._book, self._sources, self._status = sender, book, sources, status
        self._clock, self._new_runner = clock, new_runner
        self._progress, self._logger = progress, logger
        self._bots: dict[int, _Bot] = {}
        self._cycle: BotDocument | None = None
        self._venue_prices: dict[str, tuple[float, LastPrice | None]] = {}
        self._lost: dict[int, BotDocument] = {}
        self._loaded = -1
        self._lanes: dict[int, Lane] = {}
        self._symbols: frozenset[str] = frozenset()
        self._regroup = True
        """Whether bots came, went or changed since these two were made."""
        self._models = ModelLoader(lambda: [bot.lane for bot in list(self._bots.values())], new_model, logger)
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
        return self._cycle is not None and self._cycle.error is None and not self._cycle.value.enabled

    @property
    def waits_for_an_answer(self) -> bool:
        """Whether the fate of an order is not known: the venue should be asked soon."""
        return any(b.runner.manager.has_unknown for b in self._bots.values() if b.runner.busy)

    # -- from the trader's loop -----------------------------------------------------------------------------------

    def recover(self) -> None:
        """After the book was reconciled: take over what is open, before any entry. Raises StoreError, VenueError."""
        self._recovered = False
        if self._account == "default":
            self._documents.write_default()
        self._reload()
        orders, positions = self._book.open_orders(), self._book.open_positions()
        names = {o.bot_id for o in orders} | {p.bot_id for p in positions}
        known = {int(n) for n in names if n.isdigit()} - {CYCLE_BOT}
        for bot_id in known - self._bots.keys():
            self._add(bot_id, BotDocument(self._documents.last_good(bot_id), "", None, listed=False))
        for bot in self._bots.values():
            bot.runner.recover(orders, positions)
        self._recovered = True

    def turn(self, *, ready: bool, switches: Switches, epoch: int, snapshot: Snapshot | None) -> None:
        """One look: documents, feeds, and whatever the time or a fill asks for. Raises StoreError."""
        sender = self._sender
        sender.switches, sender.epoch, sender.snapshot = switches, epoch, snapshot
        self._reload()
        stale = float(switches.risk.value.stale_data_seconds)
        if self._regroup:
            self._regroup = False
            self._lanes = {n: b.lane for n, b in self._bots.items() if b.document.value.enabled}
            self._symbols = frozenset(lane.settings.symbol for lane in self._lanes.values())
        busy = [b for b in self._bots.values() if b.runner.busy]
        self._sources.need(self._symbols.union(*(b.runner.open_symbols for b in busy)), stale)
        self._sources.lanes(self._lanes)
        on = ready and snapshot is not None and self._recovered
        self._blocked = blocked_by(switches, on=on, drift="" if snapshot is None else snapshot.drift)
        for bot in list(self._bots.values()):
            if bot.runner.idles(on=on):
                continue
            self._guarded(bot, self._tend, bot)
        self._watch_stops()
        self._drop_finished()
        self._publish()

    def take(self, item: Decision | Crossing) -> None:
        """Something that the pipeline posted. Raises StoreError."""
        last = LastPrice(Decimal(repr(item.price)), moment_of(item.received_at))
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

    def _of(self, bot_id: str) -> _Bot | None:
        return self._bots.get(int(bot_id)) if bot_id.isdigit() else None

    # -- one bot --------------------------------------------------------------------------------------------------

    def _guarded(self, bot: _Bot, step: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """A fault of one bot costs no other its turn; a slow venue costs no sign of life."""
        self._progress()
        try:
            step(*args, **kwargs)
        except StoreError:
            raise
        except SixbotError as error:
            bot.runner.last_denial = str(error)
        except Exception as error:  # the last net of a bot; it is shown and tried again
            self._logger.exception("bot_failed", bot_id=bot.runner.bot_id)
            bot.runner.last_denial = f"{type(error).__name__}: {error}"

    def _tend(self, bot: _Bot) -> None:
        manager = bot.runner.manager
        now = self._clock.now().timestamp()
        for symbol in bot.runner.open_symbols:
            last = self._sources.last(symbol)
            if last is not None:
                bot.runner.on_price(symbol, last)
            self._look_at_venue(bot, symbol)
        manager.on_feed(now, live=all(self._sources.live(p.symbol) for p in manager.positions.values()))
        bot.runner.act()

    def _look_at_venue(self, bot: _Bot, symbol: str) -> None:
        """While a symbol's trades do not arrive the venue's own last price stands in, so that a stop-loss is not blind.

        A feed lives on any symbol's trades, and on the server's answers; a price that is too old is none either.
        """
        live = self._sources.live(symbol)
        if live and not self._quiet(symbol):
            return
        now = self._clock.monotonic()
        asked, last = self._venue_prices.get(symbol, (float("-inf"), None))
        if now >= asked + (QUIET_PRICE_SECONDS if live else PRICE_SECONDS):  # one question for all bots
            try:
                last = self._sender.venue_price(symbol)
            except VenueError as error:
                last = None
                self._logger.info("no_price", symbol=symbol, error=str(error))
            self._venue_prices[symbol] = (now, last)
        if last is not None:
            bot.runner.on_price(symbol, last)

    def _quiet(self, symbol: str) -> bool:
        switches = self._sender.switches
        return switches is None or too_old(self._sources.last(symbol), self._clock.now(), switches.risk.value)

    def _priced(self, bot: _Bot, symbol: str, last: LastPrice) -> None:
        bot.runner.on_price(symbol, last)
        bot.runner.act()

    def _enter(self, bot: _Bot, decision: Decision, last: LastPrice) -> None:
        if not self._sources.live(decision.symbol):
            bot.runner.last_denial = "the feed is not live"
            return
        bid = last.price if decision.bid == decision.price else Decimal(repr(decision.bid))
        why = bot.runner.enter(decision.symbol, bid, last, decision.confidence, f"{self._account}-{decision.second}")
        if why:
            bot.runner.last_denial = why

    # -- documents, models, feeds ---------------------------------------------------------------------------------

    def _reload(self) -> None:
        """Only where a document has changed since the last look."""
        documents = self._documents.read()
        if self._documents.changes == self._loaded:
            return
        lost, self._lost = self._lost, {}
        for bot_id, read in documents.items():
            document = read
            if bot_id != CYCLE_BOT and self._is_lost(read):
                document = self._lost[bot_id] = self._status.explained(read, self._accounts)
            if bot_id == CYCLE_BOT:
                self._cycle = document if self._account == "default" else None
            elif document.value.account == self._account and (document.listed or bot_id in self._bots):
                self._configure(bot_id, document)
            elif bot_id in self._bots:
                self._configure(bot_id, _off(document))
        for bot_id in self._bots.keys() - documents.keys():
            bot = self._bots[bot_id]
            if bot.document.listed:
                self._configure(bot_id, _off(bot.document))
        for bot_id in lost.keys() - self._documents.listed - self._bots.keys():
            self._status.forget(bot_id)
        self._loaded = self._documents.changes

    def _is_lost(self, document: BotDocument) -> bool:
        """Whether a bot that is listed can run nowhere, and this account's trader is the one to say so."""
        known = document.value.account in self._accounts
        teller = document.value.account if known else DEFAULT_ACCOUNT
        return teller == self._account and not (known and document.listed)

    def _configure(self, bot_id: int, document: BotDocument) -> None:
        bot = self._bots.get(bot_id)
        if bot is None:
            if document.listed:
                self._add(bot_id, document)
            return
        if document is bot.document or document == bot.document:
            return
        changed = document.value != bot.document.value
        bot.document = document
        if changed:
            bot.runner.manager.on_config(document.value)
            bot.lane.configure(document.value)
            self._regroup = True
            self._logger.info("bot_configured", bot_id=bot_id, version=document.version)

    def _add(self, bot_id: int, document: BotDocument) -> None:
        self._status.resume(bot_id)
        self._regroup = True
        self._bots[bot_id] = _Bot(self._new_runner(document.value), Lane(document.value, NO_MODEL), document)

    def _drop_finished(self) -> None:
        for bot_id, bot in list(self._bots.items()):
            mine = bot.document.listed and bot.document.value.account == self._account
            if not mine and not bot.runner.busy:
                del self._bots[bot_id]
                self._regroup = True
                if bot_id not in self._documents.listed:
                    self._status.forget(bot_id)

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
        due: dict[int, BotDocument] = {}
        for bot_id, bot in self._bots.items():
            if not self._status.due(bot_id, bot.document):
                continue
            mine = bot.document.value.account == self._account or bot_id in self._lost
            if mine or bot_id not in self._documents.listed:
                due[bot_id] = bot.document
        try:
            self._status.publish(due, self._shown)
            if self._cycle is not None:
                self._status.publish_cycle(self._cycle)
            for bot_id in self._lost.keys() - self._bots.keys():
                self._status.publish_lost(bot_id, self._lost[bot_id])
        except StoreRefused as error:
            self._logger.warning("bot_status_not_published", error=str(error))

    def _shown(self, bot_id: int) -> Shown:
        bot = self._bots[bot_id]
        feed = self._sources.shown(bot.document.value.symbol)
        return Shown(bot.document, bot.runner, bot.lane, feed, bot.late, self._blocked)

    @property
    def bots(self) -> Mapping[int, BotRunner]:
        """The bots that run here, by id."""
        return {n: b.runner for n, b in self._bots.items()}


def _off(document: BotDocument) -> BotDocument:
    """A bot that is another account's now, or nobody's: its open positions are managed to their end."""
    value = document.value.model_copy(update={"enabled": False, "close_positions": False})
    return BotDocument(value, document.version, document.error, listed=False)
