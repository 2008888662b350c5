"""What is worth telling somebody, in one line each; pure.

Two sources: the entries of ``events``, and the difference between two looks at the documents that say how trading
stands. Names come from outside (tickers, notes, error texts), so every line is cleaned of what could forge another.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

LONGEST_LINE = 300
MOST_LINES = 20
_INVISIBLE = {"Cc", "Cf", "Zl", "Zp", "Cs", "Co"}
_TOLD_STATES = {"FILLED", "REJECTED", "UNKNOWN", "ABSENT", "EXPIRED"}
_NOTED_KINDS = {"order_adopted", "position_closed", "telegram_unknown_chat", "grok_cap"}
_OWN_KINDS = {"report_lost"}
_STANDING_KINDS = {"stop", "trading", "latch"}
"""Told by ``news``, from the documents, also where an entry was lost."""


class Level(StrEnum):
    """How much is told: stops and errors; orders that filled or went wrong as well; everything."""

    STOPS = "stops"
    ORDERS = "orders"
    ALL = "all"


def clean(text: str, longest: int = LONGEST_LINE) -> str:
    """One visible line: control and direction characters become spaces, what is too long is cut."""
    visible = "".join(" " if unicodedata.category(c) in _INVISIBLE else c for c in text[: 4 * longest])
    line = " ".join(visible.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def line_of(event: Mapping[str, str], level: Level) -> str | None:
    """An entry of ``events`` as a line, or None where this level does not tell it."""
    kind = event.get("event", "")
    if kind in _OWN_KINDS:
        return None  # to tell through a reporter that it does not deliver would never end
    if kind in _STANDING_KINDS:
        return None
    if level is not Level.ALL and (level is Level.STOPS or not _counts(kind, event)):
        return None
    if kind == "order":
        return _order_line(event)
    if kind == "position_closed":
        return clean(
            f"bot {event.get('bot_id', '?')} closed {event.get('ticker', '?')}: {event.get('exit_reason', '?')}, "
            f"profit {event.get('realized_pnl', '?')} after fees"
        )
    told = " ".join(f"{n}={v}" for n, v in event.items() if n not in {"event", "time"} and v)
    return clean(f"{kind}: {told}" if told else kind)


def _counts(kind: str, event: Mapping[str, str]) -> bool:
    if kind == "order":
        canceled = event.get("state") == "CANCELED" and event.get("filled_qty", "0") not in {"", "0"}
        return canceled or event.get("state") in _TOLD_STATES
    return kind in _NOTED_KINDS or (kind == "bot_state" and bool(event.get("config_error")))


def _order_line(event: Mapping[str, str]) -> str:
    parts = [
        event.get("state", "?"),
        event.get("side", "").upper(),
        event.get("filled_qty", ""),
        event.get("ticker", ""),
    ]
    if event.get("avg_fill_price"):
        parts.append(f"at {event['avg_fill_price']}")
    if event.get("note"):
        parts.append(f"({event['note']})")
    return clean(" ".join(p for p in parts if p))


# -- how trading stands ---------------------------------------------------------------------------------------------


def standing(status: object, report: object, latch: object) -> dict[str, str]:
    """What of ``trading_status``, ``stop_report`` and ``stop_latch`` is told when it changes."""
    found, stop, held = (value if isinstance(value, Mapping) else {} for value in (status, report, latch))
    return {
        "state": _text(found.get("state")),
        "why": _text(found.get("stop_reason")),
        "error": _text(found.get("last_error")),
        "stop": f"{_text(stop.get('stop_id'))} {_text(stop.get('state'))}".strip(),
        "stop_text": _stop_text(stop),
        "latch": f"{_text(held.get('reason'))} {_text(held.get('at'))}".strip(),
    }


def _text(value: object) -> str:
    return "" if value is None else clean(str(value))


def _stop_text(stop: Mapping[str, Any]) -> str:
    if not stop:
        return ""
    told = f"stop {_text(stop.get('state'))}: {_text(stop.get('reason'))} by {_text(stop.get('source'))}"
    counts = f"{_text(stop.get('orders_canceled'))} of {_text(stop.get('orders_found'))} orders cancelled"
    held = stop.get("positions_open")
    return f"{told}, {counts}" + (f", positions open: {held}" if isinstance(held, int) else "")


def news(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """What changed from one look to the next. Two errors that differ in their figures only are one."""
    lines = []
    if after["stop"] and after["stop"] != before.get("stop", ""):
        lines.append(after["stop_text"])
    if after["latch"] != before.get("latch", ""):
        reason = after["latch"].rpartition(" ")[0] or after["latch"]
        lines.append(f"latched: {reason}" if after["latch"] else "the latch is lifted")
    if after["state"] != before.get("state", ""):
        why = f" ({after['why']})" if after["why"] else ""
        lines.append(f"trading is {after['state'] or 'unknown'}{why}")
    if _figureless(after["error"]) != _figureless(before.get("error", "")):
        lines.append(f"error: {after['error']}" if after["error"] else "no error any more")
    return [clean(line) for line in lines]


def urgent(before: Mapping[str, str], after: Mapping[str, str]) -> bool:
    """Whether a stop, a latch or the state itself changed."""
    return any(after[name] != before.get(name, "") for name in ("stop", "latch", "state"))


def _figureless(text: str) -> str:
    return re.sub(r"\d+", "#", text)


# -- many at once -----------------------------------------------------------------------------------------------------


def digest(lines: Sequence[str], most: int = MOST_LINES) -> tuple[str, ...]:
    """At most ``most`` lines; the rest as one that counts them by their first word."""
    if len(lines) <= most:
        return tuple(lines)
    kept, rest = lines[: most - 1], lines[most - 1 :]
    counts = Counter(line.partition(" ")[0].rstrip(":") for line in rest)
    told = ", ".join(f"{count} {word}" for word, count in counts.most_common(8))
    return (*kept, clean(f"and {len(rest)} more: {told}"))


def width(text: str) -> int:
    """Length as Telegram counts it: UTF-16 code units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def pages(lines: Iterable[str], longest: int) -> list[str]:
    """Lines joined to texts of at most ``longest`` UTF-16 units each; a line that is too long is broken."""
    found: list[str] = []
    current = ""
    for line in lines:
        for piece in _pieces(line, longest):
            joined = f"{current}\n{piece}" if current else piece
            if width(joined) > longest:
                found.append(current)
                current = piece
            else:
                current = joined
    return [*found, current] if current else found


def _pieces(line: str, longest: int) -> list[str]:
    pieces, current, used = [], "", 0
    for character in line:
        units = width(character)
        if used + units > longest:
            pieces.append(current)
            current, used = "", 0
        current += character
        used += units
    return [*pieces, current] if current else pieces
