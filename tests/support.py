"""Helpers that tests import by name: free ports, waiting on a condition, a real Redis."""

from __future__ import annotations

import itertools
import os
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import redis

from shared.store import connect
from worker.embedded import find_server, server_arguments

PASSWORD = "test-password"
_CHOOSING = threading.Lock()


def free_port() -> int:
    """A port that nobody listens on, nor takes by chance before the test does.

    The kernel hands out ports of its own range to every socket that asks for none, so that one of those is gone now and
    then when a server of the test's binds it; these are of below that range, each process going on from a place of its
    own.
    """
    with _CHOOSING:  # two threads must not begin at the same place
        for port in _candidates(os.getpid()):
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
                return port
    raise AssertionError("unreachable: the candidates have no end")


@cache
def _candidates(pid: int) -> Iterator[int]:
    first, beyond = 10_000, int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = range(first, max(beyond, first + 1000))
    start = random.Random(pid).randrange(len(ports))
    return itertools.cycle([*ports[start:], *ports[:start]])


def eventually(
    condition: Callable[[], object],
    deadline_seconds: float = 60.0,
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
