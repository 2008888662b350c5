"""A signed POST to an address of the user's (n8n, a chat's incoming hook, a program).

Body: ``{"id", "time", "lines": [text], "events": [{…}]}``. Headers: ``X-Sixbot-Timestamp`` (Unix seconds),
``X-Sixbot-Signature`` (``sha256=`` and the hexadecimal HMAC-SHA256 of timestamp, a full stop and the body, under
WEBHOOK_SECRET) and ``Idempotency-Key`` (the id, the same at every attempt).
"""

from __future__ import annotations

import hashlib
import hmac
import json

import urllib3

from shared.clock import Clock
from shared.errors import ReportDelayed, ReportFailed, ReportRefused
from worker.reporters.base import Progress, Report

TIMEOUT_SECONDS = 10.0
LONGEST_WAIT_SECONDS = 86_400.0
TIMESTAMP, SIGNATURE, IDEMPOTENCY = "X-Sixbot-Timestamp", "X-Sixbot-Signature", "Idempotency-Key"


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """``sha256=…``; the timestamp is signed too, so that an old body cannot be sent again under a new one."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class WebhookReporter:
    """Any 2xx is a delivery, 410 a refusal for good; all else is tried again, since a receiver may be mended."""

    def __init__(self, url: str, secret: str, clock: Clock, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._url, self._secret, self._clock = url, secret, clock
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(total=timeout_seconds))

    def report(self, report: Report, progress: Progress) -> None:
        body = json.dumps(report.document(), ensure_ascii=False).encode()
        timestamp = str(int(self._clock.now().timestamp()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "sixbot",
            TIMESTAMP: timestamp,
            SIGNATURE: sign(self._secret, timestamp, body),
            IDEMPOTENCY: report.id,
        }
        try:
            answer = self._http.request(
                "POST", self._url, body=body, headers=headers, redirect=False, preload_content=False
            )
            answer.close()  # what it says beyond its status is not read, however long it is
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            # An address may hold a token in its path, and urllib3's messages quote addresses.
            raise ReportFailed(f"webhook: {type(error).__name__}") from None
        if 200 <= answer.status < 300:
            progress.set(1)
            return
        if answer.status == 410:
            raise ReportRefused("webhook: 410, the receiver is gone for good")
        wait = _seconds(answer.headers.get("Retry-After"))
        if answer.status in {429, 503} and wait is not None:
            raise ReportDelayed(f"webhook: {answer.status}, retry after {wait:g} s", wait)
        raise ReportFailed(f"webhook: HTTP {answer.status}")


def _seconds(text: str | None) -> float | None:
    """``Retry-After`` in seconds; its date form counts as not given."""
    if text is None or not text.strip().isdecimal():
        return None
    return min(float(text), LONGEST_WAIT_SECONDS)
