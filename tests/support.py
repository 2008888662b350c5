"""Helpers that tests import by name: free ports, waiting on a condition, a real Redis."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from shared.store import connect
from worker.embedded import find_server, server_arguments

PASSWORD = "test-password"


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def eventually(
    condition: Callable[[], object],
    deadline_seconds: float = 30.0,
    what: str = "",
    tell: Callable[[], str] | None = None,
) -> object:
    """Poll until ``condition`` returns something true and return it; fail, saying what was awaited and what is."""
    end = time.monotonic() + deadline_seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    told = f" {tell()}" if tell is not None else ""
    pytest.fail(f"did not happen within {deadline_seconds:g} s: {what or condition}{told}")


class RedisServer:
    """A real server on a free loopback port, its data in a folder of the test's."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.port = directory, free_port()
        self.url = f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [str(find_server()), *server_arguments(self.port, PASSWORD, self.directory)],
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C ends the tests, which end what they have started
        )
        eventually(self._answers, what="the Redis server of the test answers")

    def _answers(self) -> bool:
        client = connect(self.url)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
