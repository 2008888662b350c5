"""The web application's process: gunicorn in place of this very process."""

from __future__ import annotations

import os
import sys

from shared.config import Config
from worker.runtime import ExitCode


def run(config: Config, _account: str | None) -> ExitCode:
    """gunicorn in this very process; it never returns where it could be started."""
    config.log_dir.mkdir(parents=True, exist_ok=True)
    log = str(config.log_dir / "web.log")
    arguments = ["--worker-class", "gthread", "--workers", "1", "--threads", "8", "--bind", config.web_bind]
    arguments += ["--error-logfile", log, "--no-control-socket", "--graceful-timeout", "5", "web.wsgi:app_from_env()"]
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", *arguments])  # noqa: S606 - our own program
    return ExitCode.FAILURE
