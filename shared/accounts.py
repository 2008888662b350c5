"""Accounts: a venue with its credentials. ``default`` comes from ``VENUE`` and the venue's own variables, more from
nested ones, like ``ACCOUNTS__BINANCE_TEST__VENUE`` for the account ``binance-test``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr

Mode = Literal["simulated", "paper", "live"]

DEFAULT_ACCOUNT = "default"
SUPPORTED_VENUES = ("simulated", "alpaca")
MODES: tuple[Mode, ...] = ("simulated", "paper", "live")
"""From harmless to real money."""

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
MOST_LETTERS = 40

_APPLIES = {
    "simulated": {"venue", "url", "token"},
    "alpaca": {
        "venue",
        "api_key",
        "secret_key",
        "paper",
        "crypto_only",
        "data_feed",
        "url",
        "data_url",
        "stream_url",
    },
}
_DEFAULTS_OWN = {
    "simulated": {"venue": "VENUE", "url": "SIM_VENUE_URL", "token": "SIM_VENUE_TOKEN"},
    "alpaca": {
        "venue": "VENUE",
        "api_key": "ALPACA_API_KEY",
        "secret_key": "ALPACA_SECRET_KEY",
        "paper": "ALPACA_PAPER",
        "crypto_only": "ACTIVE_TICKERS",
        "data_feed": "ALPACA_DATA_FEED",
        "url": "ALPACA_TRADING_URL",
        "data_url": "ALPACA_DATA_URL",
        "stream_url": "ALPACA_STREAM_URL",
    },
}


def _check_venue(value: str) -> str:
    if value not in SUPPORTED_VENUES:
        raise ValueError(f"{value!r} is not supported: choose {' or '.join(SUPPORTED_VENUES)}")
    return value


VenueName = Annotated[str, AfterValidator(_check_venue)]


class AccountVariables(BaseModel):
    """What ``ACCOUNTS__{NAME}__{FIELD}`` sets; which fields apply depends on the venue."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    venue: VenueName
    api_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    passphrase: SecretStr | None = None
    paper: bool = True
    testnet: bool = False
    crypto_only: bool = False
    url: str | None = None
    data_url: str | None = None
    stream_url: str | None = None
    data_feed: Literal["iex", "sip"] = "iex"
    token: SecretStr | None = None


_HTTP = ("http://", "https://")


class AccountConfig(AccountVariables):
    """One account as every process knows it. ``home`` is ``SIXBOT_HOME``."""

    name: str
    home: Path

    @property
    def is_default(self) -> bool:
        return self.name == DEFAULT_ACCOUNT

    @property
    def mode(self) -> Mode:
        if self.venue == "simulated":
            return "simulated"
        return "paper" if self.paper else "live"

    def variable(self, field: str) -> str:
        """The name of the variable that sets a field of this account."""
        if self.is_default:
            return _DEFAULTS_OWN[self.venue][field]
        return f"{prefix_of(self.name)}__{field.upper()}"

    def missing(self) -> list[str]:
        """Variables without which its venue cannot be opened."""
        needed = ("api_key", "secret_key") if self.venue == "alpaca" else ("url",)
        return [self.variable(field) for field in needed if getattr(self, field) is None]

    def problems(self, *, understands_live: bool) -> Iterator[str]:
        """What is wrong with it by itself, each with its variable."""
        if not self.is_default:
            for field in sorted(self.model_fields_set - _APPLIES[self.venue] - {"name", "home"}):
                yield f"{self.variable(field)} does not apply to {self.variable('venue')}={self.venue}"
            if self.venue == "simulated" and self.url is None:
                yield f"{self.variable('url')} is missing: a simulated account needs an exchange of its own"
        yield from self._address_problems()
        if self.mode == "live" and not understands_live:
            paper = self.variable("paper")
            yield f"{paper}=false trades real money: set I_UNDERSTAND_LIVE=yes as well, or {paper}=true"

    def _address_problems(self) -> Iterator[str]:
        for field, schemes in (("url", _HTTP), ("data_url", _HTTP), ("stream_url", ("ws://", "wss://"))):
            address = getattr(self, field)
            if address is None:
                continue
            if not address.startswith(schemes):
                yield f"{self.variable(field)} must be an address that begins with {' or '.join(schemes)}"
            elif self.venue == "alpaca" and field != "stream_url" and address.rstrip("/").endswith("/v2"):
                yield f"{self.variable(field)} must be without /v2, which is put there by itself"

    @property
    def _identity(self) -> tuple[str, str] | None:
        """What two accounts must not share: the account at the venue."""
        if self.venue == "simulated":
            return None if self.url is None else ("url", self.url.rstrip("/"))
        return None if self.api_key is None else ("api_key", self.api_key.get_secret_value())


def twins(accounts: Iterable[AccountConfig]) -> Iterator[str]:
    """Accounts that are one and the same at the venue: two traders and two stops would work against each other."""
    seen: dict[tuple[str, str, str], AccountConfig] = {}
    for account in accounts:
        identity = account._identity
        if identity is None:
            continue
        first = seen.setdefault((account.venue, *identity), account)
        if first is not account:
            field = identity[0]
            yield f"{account.variable(field)} is the same as {first.variable(field)}: one account, two names"


def prefix_of(name: str) -> str:
    """``binance-test`` → ``ACCOUNTS__BINANCE_TEST``."""
    return f"ACCOUNTS__{name.upper().replace('-', '_')}"


def named(found: object) -> object:
    """Environment names to account names: ``BINANCE_TEST`` is ``binance-test``. Raises ValueError."""
    if not isinstance(found, dict):
        return found
    accounts: dict[str, object] = {}
    for raw, variables in found.items():
        name = str(raw).lower().replace("_", "-")
        if name == DEFAULT_ACCOUNT:
            raise ValueError("the account default is set by VENUE and the venue's own variables, not by ACCOUNTS__")
        if not NAME.fullmatch(name) or len(name) > MOST_LETTERS:
            raise ValueError(f"{raw!r} is no account name: letters, digits and single _ between them, at most 40")
        if not isinstance(variables, dict):
            raise ValueError(f"{prefix_of(name)} sets nothing: write {prefix_of(name)}__VENUE and so on")
        if name in accounts:
            raise ValueError(f"the account {name} is named twice")
        accounts[name] = variables
    return accounts
