"""A job that runs nothing but what ``JOBS`` names.

RQ imports whatever a job's record says. A record can be forged by anyone who may write to Redis, so here a function
that is not on the list, a callback and a webhook of RQ's own are none.
"""

from __future__ import annotations

from typing import Any

from rq.job import Job

from shared.errors import SixbotError, shorten
from shared.keys import JOBS


class JobForbidden(SixbotError):
    """A job names a function that is not on the list."""


class AllowedJob(Job):
    """RQ's job, held to the list."""

    @property
    def func(self) -> Any:
        if self.instance is not None or self.func_name not in JOBS.values():
            raise JobForbidden(f"not a job of sixbot: {shorten(self.func_name)}")
        return super().func

    @property
    def success_callback(self) -> None:
        return None

    @property
    def failure_callback(self) -> None:
        return None

    @property
    def stopped_callback(self) -> None:
        return None

    def send_webhooks(self, status: object, *, exc_string: str | None = None) -> None:
        """None are sent."""
