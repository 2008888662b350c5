"""What the whole suite shares: a real Redis of its own per test process, and the way to the recorded data."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from shared.keys import Keys
from shared.store import Store, connect
from tests.support import RedisServer

PATIENCE_SECONDS = 30
"""For a Redis of the test's that nobody breaks: a busy machine may take longer than our workers would wait."""
IN_MEMORY, ROOM = Path("/dev/shm"), 2 * 2**30


settings.register_profile(
    "suite", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))
"""The same examples in every run, and no limits of time; HYPOTHESIS_PROFILE=search looks for new ones."""


def pytest_configure() -> None:
    """Ctrl-C reaches what tests start, also in a run that a shell has put behind itself. Folders of tests lie in memory
    where there is room: every write of the Redis servers waits for the disk."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if "TMPDIR" in os.environ or not os.access(IN_MEMORY, os.W_OK):
        return
    if shutil.disk_usage(IN_MEMORY).free > ROOM and not os.statvfs(IN_MEMORY).f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = str(IN_MEMORY)
        tempfile.tempdir = None


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for the tests of this process; each test gets it empty through ``store`` or ``redis_url``."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    client = connect(redis_server.url, timeout_seconds=PATIENCE_SECONDS)
    client.flushall()
    client.close()
    return redis_server.url


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    client = connect(redis_url, timeout_seconds=PATIENCE_SECONDS)
    yield Store(client, Keys())
    client.close()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that the test may kill."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def data() -> Path:
    """The recorded market data; a test that needs it skips, naming it, where it is absent."""
    root = Path(os.environ.get("SIXBOT_TEST_DATA", "../shared/data")).resolve()
    if not root.is_dir():
        pytest.skip(f"recorded data is absent: {root} (SIXBOT_TEST_DATA)")
    return root
