"""Bar files, of every kind that is met in the wild, as one series of bars.

Lean zips (equity times in New York, prices × 10,000; crypto in UTC), freqtrade JSON and Feather, Binance kline CSV,
and CSV files with a header. A file that cannot be read is a ConfigError naming the file, the line and the remedy.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

from shared.errors import ConfigError, shorten
from worker.core.types import Bar

NEW_YORK = ZoneInfo("America/New_York")
_LEAN = re.compile(r"(?P<market>equity|crypto|cryptofuture|forex)__\w+?__(?P<step>minute|daily)__(?P<ticker>[a-z0-9]+)")
_LEAN_DAY = re.compile(r"(?P<day>\d{8})_(?P<ticker>[a-z0-9]+)_minute_trade")
TIMES = ("timestamp", "time", "date", "datetime", "open_time", "transact_time")
_MAX_BYTES = 512 * 1024 * 1024
_UNREADABLE = (
    *(OSError, ValueError, KeyError, IndexError, TypeError, EOFError, OverflowError, RecursionError),
    *(zipfile.BadZipFile, zlib.error, csv.Error),
)


@dataclass(frozen=True, slots=True)
class BarSeries:
    """Bars of one ticker, oldest first, one per start; ``sessions`` is true for exchanges that close."""

    ticker: str
    bars: tuple[Bar, ...]
    sessions: bool

    @property
    def step_seconds(self) -> float:
        """The usual distance of two bars: 60 for minutes."""
        gaps = sorted((b.start - a.start).total_seconds() for a, b in pairwise(self.bars[:500]))
        return gaps[len(gaps) // 2] if gaps else 60.0

    def minutes(self) -> BarSeries:
        """This series where its bars are minutes. Raises ConfigError: features, targets and cycles count minutes."""
        if self.step_seconds != 60:
            raise ConfigError(
                f"{self.ticker}: bars of {self.step_seconds:g} s; the cycle's models want one-minute bars"
            )
        return self

    def regular(self) -> BarSeries:
        """Only the regular sessions of the New York exchanges, half days and holidays included; else as it is.

        Raises ConfigError where nothing is left.
        """
        if not self.sessions:
            return self
        hours = session_hours(self.bars[0].start, self.bars[-1].start)
        kept = tuple(b for b in self.bars if _inside(b.start, hours))
        if not kept:
            raise ConfigError(f"{self.ticker}: no bar lies in a regular session (daily bars have none)")
        return BarSeries(self.ticker, kept, True)


def load_bars(path: Path) -> BarSeries:
    """Read one file. Raises ConfigError."""
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file")
    try:
        return _load(path)
    except ConfigError:
        raise
    except _UNREADABLE as error:
        raise ConfigError(f"{path}: cannot be read as bars: {error}") from error


def load_series(paths: Sequence[Path]) -> list[BarSeries]:
    """Read files and join those of the same ticker, sorted. Raises ConfigError."""
    joined: dict[str, list[BarSeries]] = {}
    for path in paths:
        series = load_bars(path)
        joined.setdefault(series.ticker, []).append(series)
    return [
        BarSeries(ticker, _clean((b for s in parts for b in s.bars), paths[0]), any(s.sessions for s in parts))
        for ticker, parts in sorted(joined.items())
    ]


def _load(path: Path) -> BarSeries:
    name = path.name.lower()
    if name.endswith(".zip"):
        return _lean(path)
    if name.endswith(".feather"):
        return BarSeries(_ticker_of(path), _clean(_feather(path), path), False)
    with gzip.open(path) if name.endswith(".gz") else path.open("rb") as file:
        raw = file.read(_MAX_BYTES + 1)
    if len(raw) > _MAX_BYTES:
        raise ConfigError(f"{path}: more than the limit of {_MAX_BYTES} bytes; split the file")
    text = raw.decode("utf-8-sig", errors="strict")
    if name.removesuffix(".gz").endswith(".json"):
        return BarSeries(_ticker_of(path), _clean(_freqtrade(json.loads(text)), path), False)
    return BarSeries(_ticker_of(path), _clean(_csv(text, path), path), False)


def _ticker_of(path: Path) -> str:
    """From the file's name: what stands before the interval, without its source."""
    stem = re.sub(r"^(backtestingpy|binance|ftx)_", "", path.name.split(".")[0])
    match = re.search(r"(?:^|_)([A-Za-z]+[_-]?[A-Za-z]+)[-_](?:\d+[mhd]|monthly|daily)", stem)
    return (match[1] if match else stem).replace("_", "").replace("-", "").upper()


def _clean(bars: Iterable[Bar], path: Path) -> tuple[Bar, ...]:
    """Sorted, one bar per start, every figure checked."""
    found: dict[datetime, Bar] = {}
    for number, bar in enumerate(bars, 1):
        prices = (bar.open, bar.high, bar.low, bar.close)
        if not all(math.isfinite(p) and p > 0 for p in prices) or not bar.low <= min(prices) <= max(prices) <= bar.high:
            raise ConfigError(f"{path}: bar {number} at {bar.start.isoformat()} has no sane prices: {prices}")
        if not math.isfinite(bar.volume) or bar.volume < 0:
            raise ConfigError(f"{path}: bar {number} at {bar.start.isoformat()} has no sane volume: {bar.volume}")
        found[bar.start] = bar
    if not found:
        raise ConfigError(f"{path}: holds no bars")
    return tuple(found[start] for start in sorted(found))


def _lean(path: Path) -> BarSeries:
    match = _LEAN.search(path.name.lower())
    with zipfile.ZipFile(path) as archive:
        member = archive.namelist()[0]
        if "quote" in path.name or "quote" in member:
            raise ConfigError(f"{path}: holds quotes, not trades; use the file that ends in _trade.zip")
        if archive.getinfo(member).file_size > _MAX_BYTES:
            raise ConfigError(f"{path}: {member} is larger than {_MAX_BYTES} bytes unpacked")
        rows = list(csv.reader(io.TextIOWrapper(archive.open(member), encoding="utf-8")))
    if match is None:
        raise ConfigError(
            f"{path}: name it like equity__usa__minute__aapl__20140605_trade.zip, so that its market is known"
        )
    equity, scale = match["market"] == "equity", 10_000.0 if match["market"] == "equity" else 1.0
    start_of = _lean_clock(path, member, match["step"], NEW_YORK if equity else UTC)

    def bars() -> Iterator[Bar]:
        for number, row in enumerate(rows, 1):
            try:
                opened, high, low, close = (float(v) / scale for v in row[1:5])
                yield Bar(start_of(row[0]), opened, high, low, close, float(row[5]))
            except (ValueError, IndexError) as error:
                raise ConfigError(f"{path}: line {number} of {member}: {error}") from error

    return BarSeries(match["ticker"].upper(), _clean(bars(), path), equity)


def _lean_clock(path: Path, member: str, step: str, zone: object) -> Callable[[str], datetime]:
    zone_info = zone if isinstance(zone, ZoneInfo) else UTC
    if step == "daily":
        return lambda text: datetime.strptime(text, "%Y%m%d %H:%M").replace(tzinfo=zone_info).astimezone(UTC)
    day = _LEAN_DAY.search(member)
    if day is None:
        raise ConfigError(f"{path}: {member} does not say its day")
    midnight = datetime.strptime(day["day"], "%Y%m%d").replace(tzinfo=zone_info).astimezone(UTC)
    return lambda text: midnight + timedelta(milliseconds=int(text))


def _freqtrade(rows: Sequence[Sequence[float]]) -> Iterator[Bar]:
    for row in rows:
        yield Bar(_from_ms(row[0]), *(float(v) for v in row[1:6]))


def _feather(path: Path) -> Iterator[Bar]:
    try:
        from pyarrow import feather
    except ImportError:
        raise ConfigError(f"{path}: Feather files need pyarrow: pip install pyarrow") from None
    table = feather.read_table(path).to_pydict()
    names = [table[n] for n in ("date", "open", "high", "low", "close", "volume")]
    for start, *figures in zip(*names, strict=True):
        yield Bar(start.astimezone(UTC), *(float(v) for v in figures))


def _csv(text: str, path: Path) -> Iterator[Bar]:
    rows = csv.reader(io.StringIO(text))
    first = next(rows, None)
    if first is None:
        raise ConfigError(f"{path}: is empty")
    refuse_foreign(text[:200], path)
    if first[0].isdigit():
        for number, row in enumerate([first, *rows], 1):
            try:
                yield from _freqtrade([[float(v) for v in row[:6]]])
            except (ValueError, IndexError, TypeError) as error:
                raise ConfigError(f"{path}: line {number}: {error}") from error
        return
    header = {name.strip().lower(): index for index, name in enumerate(first)}
    missing = {"open", "high", "low", "close", "volume"} - set(header)
    if missing:
        raise ConfigError(
            f"{path}: line 1 names no column {', '.join(sorted(missing))} (got {shorten(','.join(first))}); a CSV of "
            "bars names timestamp, open, high, low, close and volume, one of trades timestamp, price and amount"
        )
    time = next((header[name] for name in TIMES if name in header), 0)
    for number, row in enumerate(rows, 2):
        try:
            figures = [float(row[header[n]]) for n in ("open", "high", "low", "close", "volume")]
            yield Bar(_from_text(row[time]), *figures)
        except (ValueError, IndexError) as error:
            raise ConfigError(f"{path}: line {number}: {error}") from error


def refuse_foreign(start: str, path: Path) -> None:
    """What often lies where a CSV file should. Raises ConfigError."""
    line = start.lstrip().partition("\n")[0]
    if line.lower().startswith(("<!doctype", "<html", "<?xml")):
        raise ConfigError(f"{path}: line 1 is a web page ({shorten(line)}), no data: download the file itself")
    if ";" in line and "," not in line:
        raise ConfigError(f"{path}: line 1 has its columns separated by ';' ({shorten(line)}): use commas")


def epoch_micros(value: float) -> int:
    """Seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their size."""
    if value < 1e11:
        return round(value * 1_000_000)
    if value < 1e14:
        return round(value * 1000)
    return int(value) if value < 1e17 else int(value) // 1000


def _from_ms(value: float) -> datetime:
    return datetime.fromtimestamp(epoch_micros(value) / 1e6, UTC)


def _from_text(text: str) -> datetime:
    if text.replace(".", "", 1).isdigit():
        return _from_ms(float(text))
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


Hours = dict[date, tuple[datetime, datetime]]


def _inside(moment: datetime, hours: Hours) -> bool:
    found = hours.get(moment.astimezone(NEW_YORK).date())
    return found is not None and found[0] <= moment < found[1]


def open_at(hours: Hours) -> Callable[[datetime], bool]:
    """Whether a session is open, by its hours."""
    return lambda moment: _inside(moment, hours)


def session_hours(first: datetime, last: datetime) -> Hours:
    """Open and close of every New York session in between."""
    from exchange_calendars import get_calendar

    start = first.astimezone(NEW_YORK).date() - timedelta(days=7)
    end = last.astimezone(NEW_YORK).date() + timedelta(days=7)
    calendar = get_calendar("XNYS", start=start.isoformat(), end=end.isoformat())
    schedule = calendar.schedule
    return {
        day.date(): (opened.to_pydatetime(), closed.to_pydatetime())
        for day, opened, closed in zip(schedule.index, schedule["open"], schedule["close"], strict=True)
    }
