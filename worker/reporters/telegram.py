"""Reports as Telegram messages: HTML with everything escaped, in parts of at most 4096 characters."""

from __future__ import annotations

import html

from shared.errors import ReportDelayed, ReportFailed, ReportRefused
from worker.core.telling import pages
from worker.reporters.base import Progress, Report
from worker.telegram.api import LONGEST_TEXT, TelegramApi, TelegramError


class TelegramReporter:
    """One chat. Text stands in a code block, so that no name in it becomes a link, a mention or a command."""

    def __init__(self, api: TelegramApi, chat_id: int) -> None:
        self._api, self._chat_id = api, chat_id

    def report(self, report: Report, progress: Progress) -> None:
        texts = pages(report.lines, LONGEST_TEXT)
        for number in range(progress.get(), len(texts)):
            try:
                self._send(texts[number])
            except TelegramError as error:
                raise _reported(error) from None
            progress.set(number + 1)

    def _send(self, text: str) -> None:
        try:
            send_text(self._api, self._chat_id, text)
        except TelegramError as error:
            if error.code != 400 or "parse entities" not in error.description.lower():
                raise
            # Telegram's parser and ours disagree: without markup there is nothing to parse.
            self._api.call("sendMessage", {"chat_id": self._chat_id, "text": text})


def send_text(api: TelegramApi, chat_id: int, text: str) -> None:
    """Send one text of at most 4096 characters as it stands. Raises TelegramError."""
    api.call(
        "sendMessage",
        {
            "chat_id": chat_id,
            "text": f"<pre>{html.escape(text, quote=False)}</pre>",
            "parse_mode": "HTML",
            "link_preview_options": {"is_disabled": True},
        },
    )


def _reported(error: TelegramError) -> ReportRefused | ReportDelayed | ReportFailed:
    """400 and 403 stay what they are (no such chat, blocked); a wrong token (401, 404) may be mended."""
    if error.retry_after is not None:
        return ReportDelayed(str(error), error.retry_after)
    if error.code in {400, 403}:
        return ReportRefused(str(error))
    return ReportFailed(str(error))
