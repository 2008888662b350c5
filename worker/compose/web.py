"""The web application's process: gunicorn in place of this very process."""

from __future__ import annotations

import os
import socket
import sys

from shared.config import Config
from shared.errors import ConfigError
from worker.runtime import ExitCode


def run(config: Config, _account: str | None) -> ExitCode:
    """gunicorn in this very process; it never returns where it could be started. Raises ConfigError."""
    _refuse_taken(config.web_bind)
    config.log_dir.mkdir(parents=True, exist_ok=True)
    log = str(config.log_dir / "web.log")
    arguments = ["--worker-class", "gthread", "--workers", "1", "--threads", "8", "--bind", config.web_bind]
    arguments += ["--error-logfile", log, "--no-control-socket", "--graceful-timeout", "5", "web.wsgi:app_from_env()"]
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", *arguments])  # noqa: S606 - our own program
    return ExitCode.FAILURE


def _refuse_taken(bind: str) -> None:
    """gunicorn says it in its log only, after it has tried for five seconds."""
    host, _, port = bind.rpartition(":")
    host = host.strip("[]")
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, int(port)))
    except OSError as error:
        why = error.strerror or error
        raise ConfigError(
            f"WEB_BIND: {bind} cannot be listened on ({why}): choose another, or end what is there"
        ) from None
