"""Types of settings whose values need more than pydantic's own check; each says what it takes without showing it."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_settings import NoDecode


def split(value: object) -> object:
    """A text with commas as its parts; anything else as it is."""
    return tuple(v.strip() for v in value.split(",") if v.strip()) if isinstance(value, str) else value


def _upper(value: object) -> object:
    return split(value.upper()) if isinstance(value, str) else value


def _tickers(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value or len(set(value)) != len(value):
        raise ValueError("must name at least one ticker and none twice, like AAPL,MSFT")
    return value


def _http(value: str) -> str:
    if not value.startswith(("https://", "http://")):
        raise ValueError("must be an http:// or https:// address")
    return value


def _bind(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ValueError("must be address:port with a port from 1 to 65535, like 127.0.0.1:5050 or [::1]:5050")
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError("must be a time zone name, like America/New_York or UTC") from error
    return value


def _redis(value: SecretStr) -> SecretStr:
    """Said without the value, which may hold a password."""
    if not _is_redis_address(value.get_secret_value()):
        raise ValueError("must be an address like redis://[user]:password@host:port/db, rediss:// or unix://")
    return value


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


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split)]
Numbers = Annotated[tuple[int, ...], NoDecode, BeforeValidator(split)]
Tickers = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_upper), AfterValidator(_tickers)]
HttpAddress = Annotated[str, AfterValidator(_http)]
BindAddress = Annotated[str, AfterValidator(_bind)]
RedisAddress = Annotated[SecretStr, AfterValidator(_redis)]
ZoneName = Annotated[str, AfterValidator(_zone)]
