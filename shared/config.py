"""Configuration: environment, ``.env`` or systemd credentials, checked once at start and named when wrong.

Every variable here stands in ``.env.example`` and docs/reference/settings.md; a test holds the three equal.
"""

from __future__ import annotations

import os
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsError,
)

from shared.accounts import (
    DEFAULT_ACCOUNT,
    MODES,
    AccountConfig,
    AccountVariables,
    Mode,
    VenueName,
    named,
    prefix_of,
    twins,
)
from shared.errors import ConfigError
from shared.fields import BindAddress, HttpAddress, Names, Numbers, Tickers, ZoneName
from shared.places import Places

DEFAULT_TICKERS = ("AAPL", "MSFT", "NVDA", "AMZN", "GOOGL", "META", "TSLA", "AMD", "SPY", "QQQ")
REPORTERS = ("redis", "stdout", "telegram", "webhook")


class Config(Places):
    """All settings of an installation. Field names are the variables' names in lower case."""

    venue: VenueName = "simulated"
    active_tickers: Tickers = DEFAULT_TICKERS
    cycle_seconds: Annotated[float, Field(gt=0, le=86400)] = 600
    predictor: Literal["lightgbm", "document", "grok"] = "lightgbm"
    predict_horizon_minutes: Annotated[int, Field(ge=1, le=1440)] = 60
    market_data: Literal["venue", "yfinance", "finnhub"] = "venue"
    order_type: Literal["market", "limit"] = "market"
    limit_offset_pct: Annotated[Decimal, Field(ge=0, lt=1)] = Decimal("0.0005")
    trading_day_tz: ZoneName = "America/New_York"

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
    contract_sizes: Names = ()
    candle_grace_ms: Annotated[int, Field(ge=0, le=10_000)] = 250
    predict_seconds: Annotated[int, Field(ge=1, le=60)] = 2

    grok_api_key: SecretStr | None = None
    grok_base_url: HttpAddress = "https://api.x.ai"
    grok_model: str = "grok-4"
    grok_seconds: Annotated[int, Field(ge=30, le=86400)] = 600
    grok_daily_tokens: Annotated[int, Field(ge=0, le=10**12)] = 3_000_000
    finnhub_api_key: SecretStr | None = None
    finnhub_url: HttpAddress = "https://finnhub.io"
    yfinance_url: HttpAddress | None = None

    jobs_idle_seconds: Annotated[int, Field(ge=1, le=86400)] = 180
    reporters: Names = ("redis",)
    report_level: Literal["stops", "orders", "all"] = "orders"
    telegram_bot_token: SecretStr | None = None
    telegram_chat_ids: Numbers = ()
    telegram_base_url: HttpAddress = "https://api.telegram.org"
    telegram_commands: bool = True
    webhook_url: HttpAddress | None = None
    webhook_secret: SecretStr | None = None

    nested_accounts: dict[str, AccountVariables] = Field(default_factory=dict, validation_alias="accounts")

    web_bind: BindAddress = "127.0.0.1:5050"
    web_tls: bool = False
    secret_key: SecretStr | None = None

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"

    @field_validator("reporters")
    @classmethod
    def _check_reporters(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in value if name not in REPORTERS]:
            raise ValueError(f"must be of {', '.join(REPORTERS)}, with commas between them (got {unknown[0]})")
        return value

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
        wanted: tuple[tuple[bool, str, dict[str, object]], ...] = (
            (
                "telegram" in self.reporters,
                "REPORTERS names telegram",
                {"TELEGRAM_BOT_TOKEN": self.telegram_bot_token, "TELEGRAM_CHAT_IDS": self.telegram_chat_ids},
            ),
            (
                "webhook" in self.reporters,
                "REPORTERS names webhook",
                {"WEBHOOK_URL": self.webhook_url, "WEBHOOK_SECRET": self.webhook_secret},
            ),
            (self.predictor == "grok", "PREDICTOR is grok", {"GROK_API_KEY": self.grok_api_key}),
            (self.market_data == "finnhub", "MARKET_DATA is finnhub", {"FINNHUB_API_KEY": self.finnhub_api_key}),
        )
        for on, why, needed in wanted:
            if on and (missing := [name for name, value in needed.items() if not value]):
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


def load_config(**overrides: object) -> Config:
    """Read the configuration. Raises ConfigError naming each variable, its problem and the range."""
    try:
        return Config(**overrides, **_credentials())  # type: ignore[arg-type]  # pydantic checks them
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
