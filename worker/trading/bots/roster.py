"""Which stream bots run in an account's trader, by their documents and by what the book holds of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import structlog

from shared.accounts import DEFAULT_ACCOUNT
from shared.bots import CYCLE_BOT, BotSettings
from worker.trading.bots.documents import BotDocument, BotDocuments, switched_off
from worker.trading.bots.models import NO_MODEL
from worker.trading.bots.pipeline import Lane
from worker.trading.bots.runner import BotRunner
from worker.trading.bots.status import BotStatus


@dataclass(slots=True)
class Bot:
    """A stream bot that runs here; ``late`` counts decisions that came when the next one was due."""

    runner: BotRunner
    lane: Lane
    document: BotDocument
    late: int = 0


class Roster:
    """The bots of one account. Only its trader thread changes it; any thread may take a copy of ``bots``."""

    def __init__(
        self,
        account: str,
        accounts: tuple[str, ...],
        documents: BotDocuments,
        status: BotStatus,
        new_runner: Callable[[BotSettings], BotRunner],
        logger: structlog.stdlib.BoundLogger,
    ) -> None:
        self._account, self._accounts, self._documents = account, accounts, documents
        self._status, self._new_runner, self._logger = status, new_runner, logger
        self.bots: dict[int, Bot] = {}
        self.lost: dict[int, BotDocument] = {}
        """Listed bots that can run nowhere, and of which this account's trader is the one to say so."""
        self.cycle: BotDocument | None = None
        """Bot 1, in the default account."""
        self.lanes: Mapping[int, Lane] = {}
        """The bots that want predictions; another object where any came, went or changed."""
        self.symbols: frozenset[str] = frozenset()
        """What those trade."""
        self._loaded, self._regroup = -1, True

    # -- from the documents ---------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Write bot 1's document where it is missing, and read all. Raises StoreError."""
        if self._account == DEFAULT_ACCOUNT:
            self._documents.write_default()
        self.reload()

    def reload(self) -> None:
        """Only where a document has changed since the last look. Raises StoreError."""
        documents = self._documents.read()
        if self._documents.changes == self._loaded:
            return
        lost, self.lost = self.lost, {}
        for bot_id, read in documents.items():
            document = read
            if bot_id != CYCLE_BOT and self._is_lost(read):
                document = self.lost[bot_id] = self._status.explained(read, self._accounts)
            if bot_id == CYCLE_BOT:
                self.cycle = document if self._account == DEFAULT_ACCOUNT else None
            elif document.value.account == self._account and (document.listed or bot_id in self.bots):
                self._configure(bot_id, document)
            elif bot_id in self.bots:
                self._configure(bot_id, _off(document))
        for bot_id in self.bots.keys() - documents.keys():
            bot = self.bots[bot_id]
            if bot.document.listed:
                self._configure(bot_id, _off(bot.document))
        for bot_id in lost.keys() - self._documents.listed - self.bots.keys():
            self._status.forget(bot_id)
        self._loaded = self._documents.changes

    def group(self) -> None:
        """Make ``lanes`` and ``symbols`` anew where bots came, went or changed."""
        if self._regroup:
            self._regroup = False
            self.lanes = {n: b.lane for n, b in self.bots.items() if b.document.value.enabled}
            self.symbols = frozenset(lane.settings.symbol for lane in self.lanes.values())

    def _is_lost(self, document: BotDocument) -> bool:
        known = document.value.account in self._accounts
        teller = document.value.account if known else DEFAULT_ACCOUNT
        return teller == self._account and not (known and document.listed)

    def _configure(self, bot_id: int, document: BotDocument) -> None:
        bot = self.bots.get(bot_id)
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
        self.bots[bot_id] = Bot(self._new_runner(document.value), Lane(document.value, NO_MODEL), document)

    # -- from the book --------------------------------------------------------------------------------------------

    def keep(self, bot_ids: Collection[int]) -> None:
        """Bots that have something open run, listed or not, until it is closed. Raises StoreError."""
        for bot_id in bot_ids:
            if bot_id not in self.bots and bot_id != CYCLE_BOT:
                self._add(bot_id, BotDocument(self._documents.last_good(bot_id), "", None, listed=False))

    def drop_finished(self) -> None:
        """Let go of those that are not this account's any more and hold nothing. Raises StoreError."""
        for bot_id, bot in list(self.bots.items()):
            mine = bot.document.listed and bot.document.value.account == self._account
            if not mine and not bot.runner.busy:
                del self.bots[bot_id]
                self._regroup = True
                if bot_id not in self._documents.listed:
                    self._status.forget(bot_id)

    # -- what is told ---------------------------------------------------------------------------------------------

    def told_here(self, bot_id: int, document: BotDocument) -> bool:
        """Whether this account's trader is the one to write a bot's status."""
        mine = document.value.account == self._account or bot_id in self.lost
        return mine or bot_id not in self._documents.listed


def _off(document: BotDocument) -> BotDocument:
    """A bot that is another account's now, or nobody's: its open positions are managed to their end."""
    return BotDocument(switched_off(document.value), document.version, document.error, listed=False)
