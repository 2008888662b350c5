"""Where an installation is: all that a stop needs to know."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import ConfigError
from shared.fields import RedisAddress


class Places(BaseSettings):
    """The part of the configuration that is read even where the rest is wrong."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_ignore_empty=True,
        env_nested_delimiter="__",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    sixbot_home: Path = Path("var")
    sixbot_key_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9:_.-]{0,40}$")] = ""
    redis_url: RedisAddress | None = None
    rq_redis_url: RedisAddress | None = None
    embedded_redis_port: Annotated[int, Field(ge=1, le=65535)] = 6380
    stop_file: Path | None = None

    @property
    def run_dir(self) -> Path:
        """Locks, the latch, the stop file: what must survive a restart but is no history."""
        return self.sixbot_home / "run"

    @property
    def log_dir(self) -> Path:
        return self.sixbot_home / "log"

    @property
    def model_dir(self) -> Path:
        """Reports of models that were trained here."""
        return self.sixbot_home / "models"

    @property
    def stop_path(self) -> Path:
        return self.stop_file or self.run_dir / "STOP"

    def make_home(self) -> None:
        """Make the folder of locks and latches. Raises ConfigError where nothing can be written there."""
        why = "it is read-only"
        try:
            self.run_dir.mkdir(parents=True, exist_ok=True)
            if os.access(self.run_dir, os.W_OK | os.X_OK):
                return
        except OSError as error:
            why = error.strerror or str(error)
        raise ConfigError(f"SIXBOT_HOME: nothing can be written under {self.sixbot_home}: {why}")

    def redis_address(self) -> str:
        """``REDIS_URL``, else the embedded server's, whose password stands in ``SIXBOT_HOME/redis.url``.

        Raises ConfigError where there is neither.
        """
        if self.redis_url is not None:
            return self.redis_url.get_secret_value()
        path = self.sixbot_home / "redis.url"
        try:
            return path.read_text().strip()
        except FileNotFoundError:
            raise ConfigError(
                f"no Redis is known: set REDIS_URL, or start the embedded server with `sixbot up` (it writes {path})"
            ) from None

    def queue_address(self) -> str:
        """Where RQ keeps its jobs: ``RQ_REDIS_URL``, else the same Redis. Raises ConfigError where there is none."""
        return self.redis_address() if self.rq_redis_url is None else self.rq_redis_url.get_secret_value()
