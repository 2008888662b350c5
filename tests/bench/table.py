"""Rows of the benchmark: a figure next to its limit and to the habit it replaces."""

from __future__ import annotations

import gc
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

LIBRARIES = ("redis", "flask", "gunicorn", "numpy", "lightgbm", "urllib3")


@dataclass(frozen=True, slots=True)
class Row:
    """``ratio`` is the figure against the limit measured in the same run, where there is one."""

    path: str
    median: str
    p99: str = "–"
    ratio: str = "–"
    limit: str = "–"
    reach: str = "–"
    habit: str = "–"


HEADINGS = ("path", "median", "p99", "ratio", "limit, same run", "to reach", "today's habit")


def cells(row: Row) -> tuple[str, ...]:
    return (row.path, row.median, row.p99, row.ratio, row.limit, row.reach, row.habit)


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.3f} ms"


def p99(values: Sequence[float]) -> float:
    return sorted(values)[min(int(len(values) * 0.99), len(values) - 1)]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def timed(call: Callable[[], object], count: int) -> list[float]:
    """Seconds of each of ``count`` calls, after a tenth as many unmeasured."""
    for _ in range(max(count // 10, 1)):
        call()
    gc.collect()
    spent = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    return spent


def machine() -> str:
    """Processor, cores, versions, date."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    load = psutil.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC · {names[0] if names else platform.machine()}, "
        f"{psutil.cpu_count()} cores, load {load:.1f} at the end · {platform.system()} {platform.release()} · "
        f"Python {platform.python_version()}, {libraries}"
    )


def markdown(rows: Sequence[Row]) -> str:
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + " --- |" * len(HEADINGS)]
    lines += ["| " + " | ".join(cells(row)) + " |" for row in rows]
    return "\n".join(lines)
