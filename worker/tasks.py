"""The jobs that ``JOBS`` names. Each reads the configuration of the worker that runs it: a job holds no secret."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from rq import Retry, get_current_job
from rq.job import Job

from shared.config import load_config
from shared.errors import ConfigError, PredictionError, ReportDelayed, ReportFailed, ReportRefused
from worker.compose.jobs import open_reporter
from worker.reporters.base import NoProgress, Progress, Report

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 2, 1800
MOST_ATTEMPTS = 5000
"""With half an hour between them, more than a quarter of a year."""


class JobProgress:
    """How many parts have arrived, in the job's own record."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def get(self) -> int:
        found = self._job.meta.get("parts", 0)
        return found if isinstance(found, int) else 0

    def set(self, parts: int) -> None:
        self._job.meta["parts"] = parts
        self._job.save_meta()  # type: ignore[no-untyped-call]


def report(target: str, report: Mapping[str, Any]) -> str | Retry | None:
    """Deliver one report: None when it arrived, the reason when it never will, or a Retry."""
    job = get_current_job()
    progress: Progress = NoProgress() if job is None else JobProgress(job)
    try:
        open_reporter(load_config(), target).report(Report.of(report), progress)
    except (ReportRefused, ConfigError, ValueError) as error:
        return f"{error}"
    except ReportDelayed as error:
        return _again(job, str(error), math.ceil(error.seconds) + 1)
    except ReportFailed as error:
        tried = (job.number_of_retries or 0) if job is not None else 0
        pause = min(FIRST_PAUSE_SECONDS * 2 ** min(tried, 20), LONGEST_PAUSE_SECONDS)
        return _again(job, str(error), pause)
    return None


def _again(job: Job | None, problem: str, seconds: int) -> Retry:
    if job is not None:
        job.meta["problem"] = problem
        job.save_meta()  # type: ignore[no-untyped-call]
    return Retry(max=MOST_ATTEMPTS, interval=seconds)


def grok() -> dict[str, str]:
    """Ask the language model once and write ``predictions``; the result tells which tickers have none, and why.

    An answer that is none ends the job as done: the schedule asks again.
    """
    from worker.compose.adapters import open_grok

    try:
        return open_grok(load_config()).run()
    except (PredictionError, ConfigError) as error:
        logging.getLogger("jobs").warning("grok_failed: %s", error)
        return {"error": str(error)}
