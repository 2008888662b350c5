"""Workers that a stop does not need, brought into the middle of their work, so that a test can end them there."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import urllib3

from shared.config import Config
from shared.jobs import enqueue, queue_connection
from shared.store import Store
from tests.servers.stack import Stack
from tests.support import eventually


class MuteReceiver:
    """A webhook's receiver that takes the connection and never answers: a job that delivers to it stays at work."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/hook"
        self._taken: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                taken, _ = self._listener.accept()
            except OSError:
                return
            self._taken.append(taken)

    @property
    def calls(self) -> int:
        return len(self._taken)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(30)
        for taken in self._taken:
            taken.close()


@contextmanager
def mute_receiver() -> Iterator[MuteReceiver]:
    receiver = MuteReceiver()
    yield receiver
    receiver.close()


def start_busy_jobs(stack: Stack, receiver: MuteReceiver) -> None:
    """A jobs worker whose job is in progress when this returns."""
    before = receiver.calls
    secret = "a-secret-of-the-test"
    stack.start("jobs", REPORTERS="redis,webhook", WEBHOOK_URL=receiver.url, WEBHOOK_SECRET=secret)
    config = Config(_env_file=None, redis_url=stack.server.url, sixbot_home=stack.home)
    queue = queue_connection(config, Store(stack.redis))
    report = {"id": "r1", "time": "2026-03-02T15:00:00Z", "lines": ["busy"], "events": []}
    enqueue(queue, "report", target="webhook", report=report)
    queue.close()
    eventually(lambda: receiver.calls > before, 60, what=f"a job in progress: {stack.output('jobs')[-2000:]}")


def start_web(stack: Stack) -> None:
    """The web, answering when this returns."""
    stack.launch("web")

    def answers() -> bool:
        try:
            return urllib3.request("GET", f"http://{stack.environment['WEB_BIND']}/livez", retries=False).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    eventually(answers, 60, what=f"the web: {stack.output('web')[-2000:]}")


def kill_all_of(stack: Stack, name: str) -> None:
    """SIGKILL to a worker and the processes that it has made."""
    os.killpg(stack.processes[name].pid, signal.SIGKILL)
    stack.processes[name].wait(30)
