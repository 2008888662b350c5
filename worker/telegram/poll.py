"""Long polling for commands, in a thread of its own, so that a stop waits for no job."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any, cast

import structlog

from shared.clock import Clock, rfc3339
from shared.errors import SixbotError, StoreError
from shared.logs import event_fields
from shared.store import Store, translated_errors
from worker.core.telling import pages
from worker.telegram.api import LONGEST_TEXT, TelegramApi, TelegramError
from worker.telegram.bot import Bot, Message

LISTEN_SECONDS = 20
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 10.0
OFFSET_SECONDS = 5 * 86_400
"""How long an offset holds: after a week without an update Telegram numbers the next one at random."""
NOTE_AGAIN_SECONDS = 3600.0
MOST_NOTED = 100


class CommandListener:
    """Takes updates one by one, each once: ``telegram:offset`` is written after an update is done with.

    A stop that a crash cut off before that is done again, which changes nothing. Updates below the offset are dropped
    also when the server sends them again. With Redis away the offset is kept in memory, and a stop still works.
    """

    def __init__(
        self,
        api: TelegramApi,
        bot: Bot,
        allowed: Collection[int],
        store: Store,
        clock: Clock,
        logger: structlog.stdlib.BoundLogger,
        is_leader: Callable[[], bool],
        send: Callable[[TelegramApi, int, str], None],
    ) -> None:
        self._api, self._bot, self._allowed, self._store = api, bot, frozenset(allowed), store
        self._clock, self._logger, self._is_leader, self._send = clock, logger, is_leader, send
        self._offset: int | None = None
        self._offset_until = float("-inf")
        self._noted: dict[int, float] = {}
        self._pause = FIRST_PAUSE_SECONDS
        self._problem = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telegram", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop. A poll that waits for the server is left behind: what it would bring comes again."""
        self._stopping.set()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not self._is_leader():
                self._offset = None
                self._stopping.wait(1.0)
                continue
            try:
                self.turn()
            except TelegramError as error:
                self._wait(error.retry_after, str(error))
            except SixbotError as error:
                self._wait(None, type(error).__name__)
            except Exception:  # the last net: one update may be lost, the ear is not
                self._logger.exception("telegram_failed")
                self._wait(None, "an error of ours")
            else:
                self._pause, self._problem = FIRST_PAUSE_SECONDS, ""

    def _wait(self, asked: float | None, problem: str) -> None:
        if problem != self._problem:
            self._logger.warning("telegram_paused", why=problem)
        self._problem = problem
        self._stopping.wait(self._pause if asked is None else asked)
        self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)

    def turn(self) -> None:
        """Listen once and do what was said. Raises TelegramError, StoreError."""
        if self._offset is None or (self._offset and self._clock.monotonic() >= self._offset_until):
            self._offset = self._read_offset()
            self._offset_until = self._clock.monotonic() + OFFSET_SECONDS
        asked: dict[str, Any] = {"timeout": LISTEN_SECONDS, "allowed_updates": ["message"]}
        if self._offset:
            asked["offset"] = self._offset
        updates = self._api.call("getUpdates", asked, LISTEN_SECONDS)
        if self._stopping.is_set():
            return
        answers: list[tuple[int, str]] = []
        for update in updates if isinstance(updates, list) else []:
            number = update.get("update_id") if isinstance(update, dict) else None
            if isinstance(number, bool) or not isinstance(number, int) or number < self._offset:
                continue
            answers += self._take(update)
            self._offset, self._offset_until = number + 1, self._clock.monotonic() + OFFSET_SECONDS
            self._keep_offset()

        self._tell(answers)

    def _take(self, update: object) -> list[tuple[int, str]]:
        """Do it; answers wait until everything that was said is done, since sending one may take its time."""
        message = Message.of(update)
        if message is None:
            return []
        if message.chat_id not in self._allowed:
            self._note_stranger(message)
            return []
        text = self._bot.answer(message)
        return [(message.chat_id, page) for page in pages(text.splitlines(), LONGEST_TEXT)] if text else []

    def _tell(self, answers: Sequence[tuple[int, str]]) -> None:
        for chat_id, page in answers:
            try:
                self._send(self._api, chat_id, page)
            except TelegramError as error:  # it is done; only the answer is lost
                self._logger.warning("telegram_answer_lost", why=str(error))

    def _note_stranger(self, message: Message) -> None:
        """Unknown chats get no answer; each is noted once an hour, and not more than a hundred of them."""
        now = self._clock.monotonic()
        self._noted = {chat: at for chat, at in self._noted.items() if now - at < NOTE_AGAIN_SECONDS}
        if message.chat_id in self._noted or len(self._noted) >= MOST_NOTED:
            return
        self._noted[message.chat_id] = now
        self._logger.warning("telegram_unknown_chat", chat=message.chat_id, sender=message.sender)
        fields = {"time": rfc3339(self._clock.now()), "chat": message.chat_id, "sender": message.sender}
        try:
            self._store.add_event(self._store.keys.events, event_fields("telegram_unknown_chat", fields))
        except StoreError:
            self._logger.info("event_lost")

    # -- where we are ---------------------------------------------------------------------------------------------

    def _read_offset(self) -> int:
        try:
            with translated_errors():
                raw = cast("bytes | None", self._store.client.get(self._store.keys.telegram_offset))
            return int(raw) if raw is not None else 0
        except ValueError:
            return 0
        except StoreError:
            self._logger.warning("telegram_offset_unknown")
            return 0

    def _keep_offset(self) -> None:
        try:
            with translated_errors():
                self._store.client.set(self._store.keys.telegram_offset, str(self._offset), ex=OFFSET_SECONDS)
        except StoreError:
            self._logger.warning("telegram_offset_not_kept")
