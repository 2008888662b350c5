"""Configuration: environment, ``.env`` or systemd credentials, checked once at start and named when wrong.

Every variable here stands in ``.env.example`` and docs/reference/settings.md; a test holds the three equal.
"""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from shared.accounts import (
    DEFAULT_ACCOUNT,
    MODES,
    AccountConfig,
    AccountVariables,
    Mode,
    check_venue,
    named,
    prefix_of,
    twins,
)
from shared.errors import ConfigError

DEFAULT_TICKERS = ("AAPL", "MSFT", "NVDA", "AMZN", "GOOGL", "META", "TSLA", "AMD", "SPY", "QQQ")


REPORTERS = ("redis", "stdout", "telegram", "webhook")


class Places(BaseSettings):
    """Where an installation is: all that a stop needs to know."""

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
    redis_url: SecretStr | None = None
    rq_redis_url: SecretStr | None = None
    embedded_redis_port: Annotated[int, Field(ge=1, le=65535)] = 6380
    stop_file: Path | None = None

    @field_validator("redis_url", "rq_redis_url")
    @classmethod
    def _check_redis(cls, value: SecretStr | None) -> SecretStr | None:
        """Said without the value, which may hold a password."""
        if value is not None and not _is_redis_address(value.get_secret_value()):
            raise ValueError("must be an address like redis://[user]:password@host:port/db, rediss:// or unix://")
        return value

    @property
    def run_dir(self) -> Path:
        """Locks, the latch, the stop file: what must survive a restart but is no history."""
        return self.sixbot_home / "run"

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

    @property
    def stop_path(self) -> Path:
        return self.stop_file or self.run_dir / "STOP"

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


class Config(Places):
    """All settings of an installation. Field names are the variables' names in lower case."""

    venue: str = "simulated"
    active_tickers: Annotated[tuple[str, ...], NoDecode] = DEFAULT_TICKERS
    cycle_seconds: Annotated[float, Field(gt=0, le=86400)] = 600
    predictor: Literal["lightgbm", "document", "grok"] = "lightgbm"
    predict_horizon_minutes: Annotated[int, Field(ge=1, le=1440)] = 60
    market_data: Literal["venue", "yfinance", "finnhub"] = "venue"
    order_type: Literal["market", "limit"] = "market"
    limit_offset_pct: Annotated[Decimal, Field(ge=0, lt=1)] = Decimal("0.0005")
    trading_day_tz: str = "America/New_York"

    redis_lost_stop_seconds: Annotated[float, Field(gt=0, le=3600)] = 5
    trader_silent_stop_seconds: Annotated[float, Field(gt=0, le=3600)] = 15
    unknown_resolve_seconds: Annotated[float, Field(gt=0, le=86400)] = 60
    dead_man_switch_seconds: Annotated[float, Field(ge=0, le=86400)] = 0

    sim_venue_url: str = "http://127.0.0.1:5060"
    sim_venue_token: SecretStr | None = None
    sim_seed: int = 6
    sim_admin: bool = False
    sim_fees: Literal["quote", "base"] = "quote"

    alpaca_api_key: SecretStr | None = None
    alpaca_secret_key: SecretStr | None = None
    alpaca_paper: bool = True
    i_understand_live: str = ""
    alpaca_trading_url: str | None = None
    alpaca_data_url: str | None = None
    alpaca_stream_url: str | None = None
    alpaca_data_feed: Literal["iex", "sip"] = "iex"
    alpaca_data_stream_url: str | None = None

    bot_feed: Literal["auto", "simulated", "alpaca", "binance"] = "auto"
    binance_stream_url: str = "wss://stream.binance.com:9443"
    binance_stream_kind: Literal["trade", "aggTrade"] = "trade"
    contract_sizes: Annotated[tuple[str, ...], NoDecode] = ()
    candle_grace_ms: Annotated[int, Field(ge=0, le=10_000)] = 250
    predict_seconds: Annotated[int, Field(ge=1, le=60)] = 2

    grok_api_key: SecretStr | None = None
    grok_base_url: str = "https://api.x.ai"
    grok_model: str = "grok-4"
    grok_seconds: Annotated[int, Field(ge=30, le=86400)] = 600
    grok_daily_tokens: Annotated[int, Field(ge=0, le=10**12)] = 3_000_000
    finnhub_api_key: SecretStr | None = None
    finnhub_url: str = "https://finnhub.io"
    yfinance_url: str | None = None

    jobs_idle_seconds: Annotated[int, Field(ge=1, le=86400)] = 180
    reporters: Annotated[tuple[str, ...], NoDecode] = ("redis",)
    report_level: Literal["stops", "orders", "all"] = "orders"
    telegram_bot_token: SecretStr | None = None
    telegram_chat_ids: Annotated[tuple[int, ...], NoDecode] = ()
    telegram_base_url: str = "https://api.telegram.org"
    telegram_commands: bool = True
    webhook_url: str | None = None
    webhook_secret: SecretStr | None = None

    nested_accounts: dict[str, AccountVariables] = Field(default_factory=dict, validation_alias="accounts")

    web_bind: str = "127.0.0.1:5050"
    web_tls: bool = False
    secret_key: SecretStr | None = None

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"

    @field_validator("active_tickers", mode="before")
    @classmethod
    def _split_tickers(cls, value: object) -> object:
        return tuple(t.strip().upper() for t in value.split(",") if t.strip()) if isinstance(value, str) else value

    @field_validator("active_tickers")
    @classmethod
    def _check_tickers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("must name at least one ticker and none twice, like AAPL,MSFT")
        return value

    @field_validator("reporters", "telegram_chat_ids", "contract_sizes", mode="before")
    @classmethod
    def _split_list(cls, value: object) -> object:
        return tuple(v.strip() for v in value.split(",") if v.strip()) if isinstance(value, str) else value

    @field_validator("reporters")
    @classmethod
    def _check_reporters(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in value if name not in REPORTERS]:
            raise ValueError(f"must be of {', '.join(REPORTERS)}, with commas between them (got {unknown[0]})")
        return value

    @field_validator("webhook_url", "grok_base_url", "finnhub_url", "yfinance_url", "telegram_base_url")
    @classmethod
    def _check_webhook(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("https://", "http://")):
            raise ValueError("must be an http:// or https:// address")
        return value

    @field_validator("web_bind")
    @classmethod
    def _check_bind(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
            raise ValueError("must be address:port with a port from 1 to 65535, like 127.0.0.1:5050 or [::1]:5050")
        return value

    @field_validator("trading_day_tz")
    @classmethod
    def _check_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError("must be a time zone name, like America/New_York or UTC") from error
        return value

    @field_validator("venue")
    @classmethod
    def _check_venue(cls, value: str) -> str:
        return check_venue(value)

    @field_validator("nested_accounts", mode="before")
    @classmethod
    def _name_accounts(cls, value: object) -> object:
        return named(value)

    @model_validator(mode="after")
    def _check_accounts(self) -> Config:
        live = self.i_understand_live == "yes"
        problems = [p for account in self.accounts for p in account.problems(understands_live=live)]
        problems += twins(self.accounts)
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @model_validator(mode="after")
    def _check_wanted(self) -> Config:
        """What is switched on must have what it cannot do without."""
        wanted: tuple[tuple[bool, str, tuple[str, ...]], ...] = (
            ("telegram" in self.reporters, "REPORTERS names telegram", ("telegram_bot_token", "telegram_chat_ids")),
            ("webhook" in self.reporters, "REPORTERS names webhook", ("webhook_url", "webhook_secret")),
            (self.predictor == "grok", "PREDICTOR is grok", ("grok_api_key",)),
            (self.market_data == "finnhub", "MARKET_DATA is finnhub", ("finnhub_api_key",)),
        )
        for on, why, names in wanted:
            if on and (missing := [name.upper() for name in names if not getattr(self, name)]):
                raise ValueError(f"{why}, which needs {' and '.join(missing)}")
        return self

    @property
    def commands_telegram(self) -> bool:
        """Whether allow-listed Telegram chats may look and switch."""
        return self.telegram_commands and self.telegram_bot_token is not None and bool(self.telegram_chat_ids)

    @property
    def needs_jobs(self) -> bool:
        """Whether anything here is done by the jobs worker."""
        told = any(name in self.reporters for name in ("stdout", "telegram", "webhook"))
        return told or self.commands_telegram or self.predictor == "grok"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Secret files may be named like nested variables too."""
        return init_settings, env_settings, dotenv_settings, NestedSecretsSettingsSource(file_secret_settings)

    @property
    def accounts(self) -> tuple[AccountConfig, ...]:
        """Every account of this installation, ``default`` first, the others by name."""
        more = (
            AccountConfig(name=name, home=self.sixbot_home, **variables.model_dump(exclude_unset=True))
            for name, variables in sorted(self.nested_accounts.items())
        )
        return (self._default_account(), *more)

    def account(self, name: str) -> AccountConfig:
        """The account of that name. Raises ConfigError listing the names."""
        for account in self.accounts:
            if account.name == name:
                return account
        known = ", ".join(account.name for account in self.accounts)
        raise ConfigError(f"no account is called {name!r}: choose from {known}, or set {prefix_of(name)}__VENUE")

    def _default_account(self) -> AccountConfig:
        if self.venue == "simulated":
            return AccountConfig(
                name=DEFAULT_ACCOUNT,
                home=self.sixbot_home,
                venue=self.venue,
                url=self.sim_venue_url,
                token=self.sim_venue_token,
            )
        return AccountConfig(
            name=DEFAULT_ACCOUNT,
            home=self.sixbot_home,
            venue=self.venue,
            api_key=self.alpaca_api_key,
            secret_key=self.alpaca_secret_key,
            paper=self.alpaca_paper,
            crypto_only=all("/" in ticker for ticker in self.active_tickers),
            url=self.alpaca_trading_url,
            data_url=self.alpaca_data_url,
            stream_url=self.alpaca_stream_url,
            data_feed=self.alpaca_data_feed,
        )

    @property
    def mode(self) -> Mode:
        """That of its most dangerous account."""
        return max((account.mode for account in self.accounts), key=MODES.index)

    @property
    def log_dir(self) -> Path:
        return self.sixbot_home / "log"

    @property
    def model_dir(self) -> Path:
        """Reports of models that were trained here."""
        return self.sixbot_home / "models"

    def queue_address(self) -> str:
        """Where RQ keeps its jobs: ``RQ_REDIS_URL``, else the same Redis. Raises ConfigError where there is none."""
        return self.redis_address() if self.rq_redis_url is None else self.rq_redis_url.get_secret_value()


def load_config(**overrides: object) -> Config:
    """Read the configuration. Raises ConfigError naming each variable, its problem and the range."""
    try:
        return Config(**overrides, **_credentials())  # type: ignore[arg-type]
    except ValidationError as error:
        problems = [
            f"{_variable(item['loc'])}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_url=False, include_input=False)
        ]
        raise ConfigError("; ".join(problems)) from None
    except SettingsError:
        raise ConfigError(
            "ACCOUNTS: cannot be read: write ACCOUNTS__NAME__VENUE and so on, one variable each"
        ) from None


def _is_redis_address(text: str) -> bool:
    """Whether redis-py takes it, and takes all of it: it would read a database that is no number as 0."""
    try:
        address = urlsplit(text)
        port = address.port
    except ValueError:
        return False
    if address.scheme == "unix":
        return bool(address.path)
    database = address.path.strip("/")
    return address.scheme in {"redis", "rediss"} and port != 0 and (not database or database.isdecimal())


def _credentials() -> dict[str, Any]:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return {"_secrets_dir": folder} if folder else {}


def load_for_a_stop() -> tuple[Places, str]:
    """Where the stop goes, and what is wrong with the rest of the configuration, which must not keep anybody from it.

    Raises ConfigError where the places themselves are wrong.
    """
    try:
        return load_config(), ""
    except ConfigError as error:
        try:
            return Places(**_credentials()), str(error)
        except ValidationError:
            raise error from None


def _variable(place: tuple[int | str, ...]) -> str:
    """The variable that a validation error is about."""
    parts = [str(part).upper() for part in place]
    if len(parts) > 1 and parts[0] == "ACCOUNTS":
        return "__".join([prefix_of(parts[1]), *parts[2:]])
    return ".".join(parts) or "configuration"
