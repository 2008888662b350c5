"""What no trading may rest on: a server that evicts keys, or that is open to the network without a password."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import redis

from shared.errors import ConfigError


def refuse_unsafe_server(client: redis.Redis) -> bool:
    """Raises ConfigError for such a server, with how to mend it; redis-py's errors where it does not answer.

    False: the server does not tell its configuration (a managed one, or a user without the right), so it is believed.
    """
    try:
        found = client.config_get("maxmemory-policy", "bind", "protected-mode", "port", "tls-port")
    except redis.ResponseError:
        return False
    told = {_text(name): _text(value) for name, value in found.items()}
    policy = told.get("maxmemory-policy", "noeviction")
    if policy != "noeviction":
        raise ConfigError(f"this Redis evicts keys (maxmemory-policy {policy}): CONFIG SET maxmemory-policy noeviction")
    if told.get("protected-mode") == "no" and _listens_abroad(told) and is_open_to_all(client):
        raise ConfigError("this Redis is open to the network without a password: set requirepass, or bind 127.0.0.1")
    return True


def is_open_to_all(client: redis.Redis) -> bool:
    """Whether somebody without a password gets in."""
    with suppress(redis.ResponseError):
        found: Any = client.acl_getuser("default")
        if isinstance(found, dict):
            flags = {_text(flag) for flag in found.get("flags", [])}
            return "nopass" in flags and "off" not in flags
    with suppress(redis.ResponseError):
        told = client.config_get("requirepass")
        return not any(_text(value) for value in told.values())
    return False


def _listens_abroad(told: dict[str, str]) -> bool:
    if {told.get("port"), told.get("tls-port")} <= {"0", None}:
        return False
    addresses = told.get("bind", "").split()
    return not addresses or any(a.lstrip("-") not in {"127.0.0.1", "::1", "localhost"} for a in addresses)


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
