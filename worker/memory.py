"""Memory as the kernel shares it out: PSS, summed over the processes of an installation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Use:
    """One process tree's memory in MB."""

    name: str
    pid: int
    pss_mb: float
    rss_mb: float


def memory_of(processes: Iterable[tuple[str, int]]) -> Sequence[Use]:
    """PSS and RSS of each process with its children (``up``: without them); one that is gone is left out."""
    rows = []
    for name, pid in processes:
        try:
            root = psutil.Process(pid)
            family = [root] if name == "up" else [root, *root.children(recursive=True)]
        except psutil.Error:
            continue
        pss = sum(_pss(p.pid) for p in family)
        rss = sum(_rss(p) for p in family)
        rows.append(Use(name, pid, round(pss, 1), round(rss, 1)))
    return rows


def _pss(pid: int) -> float:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except (OSError, ValueError):
        return 0.0
    return 0.0


def _rss(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss / 1_048_576)
    except psutil.Error:
        return 0.0
