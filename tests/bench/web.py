"""``/api/status`` through gunicorn, against a bare route that reads the same keys."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from shared.access import Access
from shared.clock import SystemClock
from shared.keys import Keys
from shared.store import Store, connect
from tests.bench.bare import KEYS
from tests.bench.compute import Tell
from tests.bench.table import Row, median, milliseconds, p99
from tests.support import RedisServer, eventually, free_port

RATE, SECONDS = 200, 3
APPS = {"bare": "tests.bench.bare:app()", "real": "web.wsgi:app_from_env()"}


def rows(tell: Tell) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        server.start()
        client = connect(server.url)
        store = Store(client, Keys())
        for key in KEYS:
            store.put_json(key, {f"field_{n}": "2026-03-02T15:00:00Z" for n in range(20)})
        token = Access(store, SystemClock()).create_token("bench", ["read"])
        try:
            spent = {name: _serve(name, server.url, Path(folder), token, tell) for name in APPS}
        finally:
            client.close()
            server.stop()
    bare, real = spent["bare"], spent["real"]
    return [
        Row(
            f"/api/status through gunicorn at {RATE} requests/s",
            milliseconds(median(real)),
            milliseconds(p99(real)),
            f"{median(real) / median(bare):.2f} × bare route",
            f"bare route {milliseconds(median(bare))}, p99 {milliseconds(p99(bare))}",
            "≤ 1.5 × bare, p99 ≤ 3 ms",
            "50–100 ms, 500–1000 when asking the venue (recorded)",
        )
    ]


def _serve(name: str, url: str, home: Path, token: str, tell: Tell) -> list[float]:
    tell(f"/api/status, {name}: {SECONDS} s")
    bind = f"127.0.0.1:{free_port()}"
    environment = {**os.environ, "REDIS_URL": url, "SIXBOT_HOME": str(home), "VENUE": "simulated"}
    arguments = ["--worker-class", "gthread", "--workers", "1", "--threads", "8", "--bind", bind]
    arguments += ["--no-control-socket", "--error-logfile", str(home / f"{name}.log"), APPS[name]]
    process = subprocess.Popen([sys.executable, "-m", "gunicorn", *arguments], env=environment)
    try:
        eventually(lambda: _answers(bind, token), 60, what=f"{name} answers")
        return _paced(bind, token)
    finally:
        process.terminate()
        process.wait(30)


def _answers(bind: str, token: str) -> bool:
    try:
        return len(_ask(http.client.HTTPConnection(bind, timeout=5), token)) > 0
    except OSError:
        return False


def _ask(connection: http.client.HTTPConnection, token: str) -> bytes:
    connection.request("GET", "/api/status", headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, json.dumps(body.decode())
    return body


def _paced(bind: str, token: str) -> list[float]:
    connection = http.client.HTTPConnection(bind, timeout=5)
    spent = []
    for _ in range(RATE):
        _ask(connection, token)
    begin = time.perf_counter()
    for number in range(RATE * SECONDS):
        time.sleep(max(begin + number / RATE - time.perf_counter(), 0))
        start = time.perf_counter()
        _ask(connection, token)
        spent.append(time.perf_counter() - start)
    connection.close()
    return spent
