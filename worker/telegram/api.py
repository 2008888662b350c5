"""The Telegram Bot API over HTTP: one request a call, no retry, and the token in no message of ours."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import urllib3

from shared.errors import SixbotError, shorten

TIMEOUT_SECONDS = 5.0
LONGEST_TEXT = 4096
DEFAULT_WAIT_SECONDS = 30.0
LONGEST_WAIT_SECONDS = 86_400.0
MAX_ANSWER_BYTES = 4 * 1024 * 1024


class TelegramError(SixbotError):
    """The API refused (``code`` is its error code) or gave no usable answer (``code`` 0)."""

    def __init__(self, code: int, description: str, retry_after: float | None = None) -> None:
        self.code, self.description, self.retry_after = code, description, retry_after
        super().__init__(f"Telegram: {code or 'no answer'} {description}".strip())


class TelegramApi:
    """One bot. Safe to use from several threads."""

    def __init__(self, token: str, base_url: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._token, self._base, self._timeout = token, base_url.rstrip("/"), timeout_seconds
        self._http = urllib3.PoolManager(retries=False)

    def call(self, method: str, arguments: Mapping[str, Any], extra_seconds: float = 0.0) -> Any:
        """The ``result`` of a method; ``extra_seconds`` is what the server may take to have one (long polling).

        Raises TelegramError.
        """
        try:
            answer = self._http.request(
                "POST",
                f"{self._base}/bot{self._token}/{method}",
                body=json.dumps(arguments).encode(),
                headers={"Content-Type": "application/json"},
                timeout=urllib3.Timeout(total=self._timeout + extra_seconds),
                redirect=False,
                preload_content=False,
            )
            try:
                raw = answer.read(MAX_ANSWER_BYTES)
            finally:
                answer.release_conn()
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            # Their messages quote the address, and the address holds the token.
            raise TelegramError(0, type(error).__name__) from None
        return self._result(answer.status, raw)

    def _result(self, status: int, raw: bytes) -> Any:
        try:
            found = json.loads(raw)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            wait = DEFAULT_WAIT_SECONDS if status == 429 else None
            raise TelegramError(status if status >= 400 else 0, "an answer that is no JSON object", wait)
        if found.get("ok") is True and status == 200:
            return found.get("result")
        description = self._without_token(shorten(str(found.get("description", "")), 200))
        code = found.get("error_code")
        code = code if isinstance(code, int) and not isinstance(code, bool) else status
        raise TelegramError(code, description, _wait(found) if code == 429 else None)

    def _without_token(self, text: str) -> str:
        return text.replace(self._token, "***")


def _wait(found: Mapping[str, Any]) -> float:
    """``parameters.retry_after``, else the figure in the description, as older servers had it."""
    parameters = found.get("parameters")
    value = parameters.get("retry_after") if isinstance(parameters, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        told = re.search(r"retry after (\d{1,9})", str(found.get("description", "")), re.IGNORECASE)
        value = float(told.group(1)) if told else DEFAULT_WAIT_SECONDS
    return min(float(value), LONGEST_WAIT_SECONDS)
