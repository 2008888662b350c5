"""Training in a child process that exits, so that its memory goes with it.

The child reads a job from stdin and writes JSON lines: ``{"done": n, "total": m}`` while it works, then one result.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from shared.errors import ConfigError, SixbotError
from worker.core.types import Bar
from worker.feeds.bars import BarSeries
from worker.models.training import TrainedModel

Progress = Callable[[int, int], None]


def train_in_child(series: Sequence[BarSeries], horizon: int, progress: Progress) -> TrainedModel:
    """Train elsewhere, on the same machine. Raises ConfigError (too little data) or SixbotError (the child failed)."""
    job = json.dumps({"horizon": horizon, "series": [_dump(s) for s in series]})
    child = subprocess.Popen(
        [sys.executable, "-m", "worker.models.child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        try:
            result = _converse(child, job, progress)
        except BaseException:
            child.kill()
            raise
    if "error" in result:
        raise ConfigError(str(result["error"]))
    if child.returncode or "text" not in result:
        raise SixbotError(f"the training process ended with code {child.returncode}")
    return TrainedModel(result["text"], result["feature_version"], result["horizon_minutes"], result["metrics"])


def _converse(child: subprocess.Popen[str], job: str, progress: Progress) -> dict[str, Any]:
    """Give the job, pass progress on, return the last thing said."""
    if child.stdin is None or child.stdout is None:
        raise SixbotError("the training process has no pipes")
    with contextlib.suppress(BrokenPipeError):  # a child that died early is told of by its exit code
        child.stdin.write(job)
        child.stdin.close()
    result: dict[str, Any] = {}
    for line in child.stdout:
        result = json.loads(line)
        if "done" in result:
            progress(result["done"], result["total"])
    return result


def _dump(series: BarSeries) -> dict[str, Any]:
    rows = [[b.start.timestamp(), b.open, b.high, b.low, b.close, b.volume] for b in series.bars]
    return {"ticker": series.ticker, "sessions": series.sessions, "bars": rows}


def _load(found: dict[str, Any]) -> BarSeries:
    from datetime import UTC, datetime

    bars = tuple(Bar(datetime.fromtimestamp(row[0], UTC), *row[1:]) for row in found["bars"])
    return BarSeries(found["ticker"], bars, found["sessions"])


def _main() -> None:
    from worker.models.training import train

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; whoever asked for this ends it
    job = json.load(sys.stdin)

    def say(value: object) -> None:
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()

    try:
        model = train([_load(s) for s in job["series"]], job["horizon"], lambda d, t: say({"done": d, "total": t}))
    except ConfigError as error:
        say({"error": str(error)})
        return
    say(
        {
            "text": model.text,
            "feature_version": model.feature_version,
            "horizon_minutes": model.horizon_minutes,
            "metrics": model.metrics,
        }
    )


if __name__ == "__main__":
    _main()
