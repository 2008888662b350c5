"""For gunicorn: ``gunicorn "web.wsgi:app_from_env()"``."""

from __future__ import annotations

from flask import Flask

from shared.config import load_config
from shared.keys import Keys
from shared.logs import configure_logging
from shared.store import Store, connect
from web.app import create_app


def app_from_env() -> Flask:
    """The app as the environment configures it. Raises ConfigError."""
    config = load_config()
    configure_logging("web", config.log_level, config.log_format, config.log_dir)
    return create_app(config, Store(connect(config.redis_address()), Keys(config.sixbot_key_prefix)))
