"""What Flask and its extensions are told."""

from __future__ import annotations

import os
import secrets
from datetime import timedelta
from typing import Any

from shared.access import SESSION_SECONDS
from shared.config import Config

MAX_BODY_BYTES = 128 * 1024


def flask_config(config: Config) -> dict[str, Any]:
    """Settings for ``app.config.update``."""
    return {
        "SECRET_KEY": secret_key(config),
        "MAX_CONTENT_LENGTH": MAX_BODY_BYTES,
        "MAX_FORM_MEMORY_SIZE": MAX_BODY_BYTES,
        "SESSION_COOKIE_NAME": "sixbot",
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "SESSION_COOKIE_SECURE": config.web_tls,
        "PERMANENT_SESSION_LIFETIME": timedelta(seconds=SESSION_SECONDS),
        "WTF_CSRF_CHECK_DEFAULT": False,
        "WTF_CSRF_TIME_LIMIT": None,
        "WTF_CSRF_SSL_STRICT": False,
        "BOOTSTRAP_SERVE_LOCAL": True,
        "RATELIMIT_ENABLED": True,
        "JSON_SORT_KEYS": False,
    }


def secret_key(config: Config) -> str:
    """``SECRET_KEY``, else one made once and kept in ``SIXBOT_HOME/secret_key`` (0600)."""
    if config.secret_key is not None:
        return config.secret_key.get_secret_value()
    path = config.sixbot_home / "secret_key"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    key = secrets.token_urlsafe(48)
    with os.fdopen(fd, "w") as file:
        file.write(key)
    return key
