"""What systemd is told by the workers whose units have a watchdog: ready, alive, and stopping."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.forked import fork
from tests.support import RedisServer, eventually, free_port


class ServiceManager:
    """The other end of ``$NOTIFY_SOCKET``."""

    def __init__(self, path: Path) -> None:
        self.path, self.heard = path, ""
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._channel.bind(str(path))
        self._channel.settimeout(0.2)

    def hears(self, word: str, times: int = 1) -> Callable[[], bool]:
        """A condition: the word has come that often by now."""

        def listen() -> bool:
            with contextlib.suppress(TimeoutError):
                self.heard += self._channel.recv(4096).decode() + "\n"
            return self.heard.count(word) >= times

        return listen

    def close(self) -> None:
        self._channel.close()


class Worker:
    """A worker's process whose venue is away, and what it tells."""

    def __init__(self, name: str, redis_url: str, folder: Path) -> None:
        self.manager, self._output = ServiceManager(folder / "notify"), folder / "out"
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": str(self.manager.path),
            "REDIS_URL": redis_url,
            "SIXBOT_HOME": str(folder),
            "SIM_VENUE_URL": f"http://127.0.0.1:{free_port()}",
        }
        self._process = fork(["worker", name], environment, self._output)

    def told(self, word: str, times: int = 1) -> None:
        """Wait until it has said that word so often."""
        eventually(self.manager.hears(word, times), 90, what=f"{word} {times} times; heard {self.manager.heard!r}")

    def drain(self) -> int:
        """SIGTERM, its farewell, and its exit code."""
        self._process.send_signal(signal.SIGTERM)
        self.told("STOPPING=1")
        return self._process.wait(30)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self.manager.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str, str], Worker]]:
    started = []

    def run(name: str, redis_url: str) -> Worker:
        started.append(Worker(name, redis_url, tmp_path))
        return started[-1]

    yield run
    for worker in started:
        worker.end()


WITH_A_WATCHDOG = pytest.mark.parametrize("name", ["emergency", "heartbeat", "trading"])


@WITH_A_WATCHDOG
def test_worker_when_its_venue_is_away_says_ready_alive_and_stopping(
    name: str, redis_url: str, start: Callable[[str, str], Worker]
) -> None:
    """An outage at the venue must not become a restart every fifteen seconds here."""
    worker = start(name, redis_url)
    worker.told("READY=1")
    worker.told("WATCHDOG=1", times=2)
    assert worker.drain() == 0


@pytest.mark.parametrize("name", ["emergency", "heartbeat", "jobs", "trading"])
def test_worker_when_redis_goes_away_still_says_that_it_is_alive(
    name: str, own_redis: RedisServer, start: Callable[[str, str], Worker]
) -> None:
    """Above all the emergency worker, which then has a stop to carry out."""
    worker = start(name, own_redis.url)
    worker.told("READY=1")
    own_redis.stop()
    beats = worker.manager.heard.count("WATCHDOG=1")
    worker.told("WATCHDOG=1", times=beats + 2)
    assert worker.drain() == 0
