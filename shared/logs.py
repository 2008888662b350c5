"""Logs: structlog, one JSON object a line, in a rotated file per worker; secrets never reach it."""

from __future__ import annotations

import logging
import logging.handlers
import re
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import structlog

_SECRET_NAME = re.compile(r"(secret|password|token|api_key|authorization|credential)", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@\s]+(@)")
_MAX_BYTES, _BACKUPS = 5_000_000, 3


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blank what looks like a secret, by its field's name or as the password in a URL."""
    for name, value in event.items():
        if _SECRET_NAME.search(name):
            event[name] = "***"
        elif isinstance(value, str) and "://" in value:
            event[name] = _URL_PASSWORD.sub(r"\1***\2", value)
    return event


def configure_logging(
    name: str, level: str = "INFO", style: str = "json", directory: Path | None = None
) -> structlog.stdlib.BoundLogger:
    """Set up this process's logging: ``directory/NAME.jsonl`` where given, and stderr."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    as_json = structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ],
        foreign_pre_chain=shared,
    )
    as_text = structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.dev.ConsoleRenderer(colors=False),
        ],
        foreign_pre_chain=shared,
    )
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    stderr = logging.StreamHandler(sys.stderr)
    stderr.setFormatter(as_json if style == "json" else as_text)
    root.addHandler(stderr)
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        file = logging.handlers.RotatingFileHandler(
            directory / f"{name}.jsonl", maxBytes=_MAX_BYTES, backupCount=_BACKUPS, encoding="utf-8"
        )
        file.setFormatter(as_json)
        root.addHandler(file)
    root.setLevel(level)
    for noisy in ("urllib3", "websockets", "aiohttp.access", "alpaca"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def event_fields(kind: str, fields: Mapping[str, object]) -> dict[str, str]:
    """An entry of the ``events`` stream: its kind and its fields as text, truth as in JSON."""
    told = {name: str(value) for name, value in fields.items() if value is not None}
    return {"event": kind} | {n: told[n].lower() if isinstance(fields[n], bool) else told[n] for n in told}
