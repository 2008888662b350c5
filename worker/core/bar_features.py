"""Feature table ``bars-1``: what a cycle model sees of the last 61 one-minute bars of one session.

Columns, in order: log returns over 1, 5, 10, 30, 60 bars · population standard deviation (ddof 0) of the last 10, 30,
60 one-bar log returns · close ÷ mean of the last 10, 30, 60 closes − 1 · RSI 14 by simple means (Cutler) · volume ÷
mean of the last 60 volumes (0 where that is 0) · minute of the session.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from worker.core.types import Bar

if TYPE_CHECKING:
    import numpy as np

VERSION = "bars-1"
WINDOW = 61
RETURNS = (1, 5, 10, 30, 60)
SPANS = (10, 30, 60)
RSI_SPAN = 14
NAMES: tuple[str, ...] = (
    *(f"log_return_{k}" for k in RETURNS),
    *(f"volatility_{k}" for k in SPANS),
    *(f"mean_distance_{k}" for k in SPANS),
    f"rsi_{RSI_SPAN}",
    "volume_ratio_60",
    "session_minute",
)
_CHUNK = 20_000
_NEW_YORK = ZoneInfo("America/New_York")
_OPEN_MINUTE = 9 * 60 + 30


def session_minute(start: datetime, *, sessions: bool) -> int:
    """Minutes since 9:30 in New York for exchanges that close, since midnight UTC for those that do not."""
    if not sessions:
        return start.hour * 60 + start.minute
    local = start.astimezone(_NEW_YORK)
    return local.hour * 60 + local.minute - _OPEN_MINUTE


def session_of(start: datetime, *, sessions: bool) -> date | None:
    """Which session a bar belongs to; all bars of a market that never closes are of one."""
    return start.astimezone(_NEW_YORK).date() if sessions else None


def split_sessions(bars: Sequence[Bar], *, sessions: bool) -> list[Sequence[Bar]]:
    """Runs of bars of one session each; nothing is ever computed across two."""
    if not sessions or not bars:
        return [bars] if bars else []
    runs: list[list[Bar]] = []
    last: date | None = None
    for bar in bars:
        session = session_of(bar.start, sessions=True)
        if session != last:
            runs.append([])
            last = session
        runs[-1].append(bar)
    return [*runs]


def feature_matrix(bars: Sequence[Bar], *, sessions: bool) -> np.ndarray[Any, Any]:
    """Rows for the bars of one session from its 61st on: shape ``(max(len − 60, 0), 14)``, float64.

    Row ``i`` sees bars ``i`` to ``i + 60`` only, so it is known at the close of bar ``i + 60``.
    """
    import numpy as np

    count = len(bars) - WINDOW + 1
    if count <= 0:
        return np.empty((0, len(NAMES)))
    close = np.array([b.close for b in bars])
    volume = np.array([b.volume for b in bars])
    minutes = np.array([session_minute(b.start, sessions=sessions) for b in bars], dtype=float)
    chunks = [
        _chunk(
            close[i : i + _CHUNK + WINDOW - 1],
            volume[i : i + _CHUNK + WINDOW - 1],
            minutes[i : i + _CHUNK + WINDOW - 1],
        )
        for i in range(0, count, _CHUNK)
    ]
    return np.concatenate(chunks)


def _chunk(close: Any, volume: Any, minutes: Any) -> Any:
    import numpy as np
    from numpy.lib.stride_tricks import sliding_window_view

    last = WINDOW - 1
    log = np.log(close)
    steps = np.diff(log)
    now = close[last:]
    columns = [log[last:] - log[last - k : len(log) - k] for k in RETURNS]
    columns += [sliding_window_view(steps, k)[last - k :].std(axis=1) for k in SPANS]
    columns += [now / sliding_window_view(close, k)[last - k + 1 :].mean(axis=1) - 1 for k in SPANS]
    columns.append(_rsi(np.diff(close), last))
    mean_volume = sliding_window_view(volume, 60)[last - 59 :].mean(axis=1)
    safe = np.where(mean_volume > 0, mean_volume, 1.0)
    columns.append(np.where(mean_volume > 0, volume[last:] / safe, 0.0))
    columns.append(minutes[last:])
    return np.column_stack(columns)


def _rsi(changes: Any, last: int) -> Any:
    import numpy as np
    from numpy.lib.stride_tricks import sliding_window_view

    windows = sliding_window_view(changes, RSI_SPAN)[last - RSI_SPAN :]
    gain = np.where(windows > 0, windows, 0.0).mean(axis=1)
    loss = np.where(windows < 0, -windows, 0.0).mean(axis=1)
    ratio = gain / np.where(loss > 0, loss, 1.0)
    return np.where(loss > 0, 100 - 100 / (1 + ratio), np.where(gain > 0, 100.0, 50.0))


def targets(bars: Sequence[Bar], horizon: int) -> np.ndarray[Any, Any]:
    """close[t + horizon] ÷ close[t] − 1 for every row of ``feature_matrix``; NaN where the session ends before."""
    import numpy as np

    close = np.array([b.close for b in bars])
    rows = np.full(max(len(bars) - WINDOW + 1, 0), np.nan)
    known = len(bars) - (WINDOW - 1) - horizon
    if known > 0:
        start = WINDOW - 1
        rows[:known] = close[start + horizon : start + horizon + known] / close[start : start + known] - 1
    return rows
