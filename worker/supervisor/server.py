"""The embedded server's place in an installation: its password, its port, its address in ``SIXBOT_HOME/redis.url``."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import redis

from shared.config import Config
from shared.errors import ConfigError
from shared.store import connect
from worker.embedded import find_server, server_arguments
from worker.supervisor.process import Spec


def embedded_server(config: Config) -> Spec:
    """How to run it; writes ``redis.url`` (0600). Raises ConfigError where the port is somebody else's."""
    home = config.sixbot_home.resolve()
    data = home / "redis"
    data.mkdir(parents=True, exist_ok=True)
    password = _password(home / "redis.url")
    url = f"redis://default:{quote(password, safe='')}@127.0.0.1:{config.embedded_redis_port}/0"
    _refuse_taken_port(config.embedded_redis_port)
    _write_private(home / "redis.url", url)
    arguments = (str(find_server()), *server_arguments(config.embedded_redis_port, password, data))
    return Spec("server", arguments, ready=lambda: answers(url))


def answers(url: str) -> bool:
    """Whether a server answers with our password and has loaded its data."""
    client = connect(url, timeout_seconds=0.5)
    try:
        return bool(client.ping())
    except (redis.RedisError, OSError):
        return False
    finally:
        client.close()


def _password(path: Path) -> str:
    try:
        held = urlsplit(path.read_text().strip()).password
    except (OSError, ValueError):
        held = None
    return unquote(held) if held else secrets.token_urlsafe(24)


def _refuse_taken_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConfigError(
                f"EMBEDDED_REDIS_PORT: port {port} is taken ({error.strerror}): another sixbot may run already "
                "(stop it), or choose another port, or set REDIS_URL to use the server that runs there"
            ) from None


def _write_private(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text + "\n")
