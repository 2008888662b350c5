"""Binance's market frames as trades: spot and USDT futures, ``trade`` and ``aggTrade``, wrapped or bare.

Binance writes prices as quoted numbers, so a quoted number counts as a number here. Of the futures' ``trade`` stream
only ``"X": "MARKET"`` are trades; the others are insurance fund and liquidation bookings. Both kinds tell the same
trades with ids of their own, so that of one symbol only one kind counts: the one asked for, until that comes the one
that does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from worker.core.trades import LARGEST, SMALLEST, Trade
from worker.feeds.base import EARLIEST, LATEST, FeedStats

_FIRST, _LAST = EARLIEST // 1000, LATEST // 1000
_RENUMBERED_MS = 30_000
"""A trade so much younger than the last one is no repetition of it, whatever its id: the venue counts anew."""
_Id = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
_Amount = Annotated[float, msgspec.Meta(ge=SMALLEST, lt=LARGEST)]
_Time = Annotated[int, msgspec.Meta(ge=_FIRST, lt=_LAST)]
_Booked = Literal["MARKET"]


class _Trade(msgspec.Struct, tag_field="e", tag="trade", gc=False):
    """Bounds are checked while decoding, where it costs next to nothing; ``_fault`` finds the words afterwards.

    Fields in the order in which the futures' stream sends them are found without a search.
    """

    T: _Time
    s: str
    t: _Id
    p: _Amount
    q: _Amount
    m: bool
    X: _Booked = "MARKET"


class _Aggregate(msgspec.Struct, tag_field="e", tag="aggTrade", gc=False):
    s: str
    p: _Amount
    q: _Amount
    T: _Time
    m: bool
    t: _Id = msgspec.field(name="a")
    X: _Booked = "MARKET"


class _Wrapped(msgspec.Struct, gc=False):
    data: _Trade | _Aggregate


class _Event(msgspec.Struct, kw_only=True):
    """Anything that Binance may say, taken as it is."""

    e: str = ""
    p: Any = None
    q: Any = None
    T: Any = None
    X: Any = "MARKET"
    code: int | None = None
    msg: str | None = None


class _Other(_Event):
    """Answers, errors, events that are not ours, and trades that are none."""

    stream: str | None = None
    data: _Event | None = None
    id: int | str | None = None
    error: _Event | None = None


_WRAPPED = msgspec.json.Decoder(_Wrapped, strict=False).decode
_BARE: msgspec.json.Decoder[_Trade | _Aggregate] = msgspec.json.Decoder(_Trade | _Aggregate, strict=False)
_OTHER = msgspec.json.Decoder(_Other)
StreamKind = Literal["trade", "aggTrade"]
KINDS: dict[StreamKind, type] = {"trade": _Trade, "aggTrade": _Aggregate}
_OURS = frozenset(KINDS)


class _Symbol:
    """What we call it, which kind counts, and the id and venue time in milliseconds of its last trade."""

    __slots__ = ("at", "kind", "last", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.begin(None)

    def begin(self, kind: type | None) -> None:
        """From now on this kind counts, and its ids."""
        self.kind, self.last, self.at = kind, -1, _LAST


class BinanceDecoder:
    """Frames to trades, counting into ``stats`` what is none and why. ``acknowledged`` is the id of the last answer.

    ``names`` maps the wire's symbols to ours; None takes every symbol by its own name. ``kind`` is the one asked for: a
    server that sends the other one alone is understood. None takes the kind that comes first.
    """

    def __init__(
        self, stats: FeedStats, names: Mapping[str, str] | None = None, kind: StreamKind | None = None
    ) -> None:
        self._stats, self._open = stats, names is None
        self._kind: type | None = None if kind is None else KINDS[kind]
        self._symbols = {wire: _Symbol(name) for wire, name in (names or {}).items()}
        self.acknowledged: int | str | None = None

    def decode(self, frame: bytes, received_at: int) -> Trade | None:
        """The trade of one frame, or None. Never raises."""
        try:
            found = _WRAPPED(frame).data
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            bare = self._other(frame)
            if bare is None:
                return None
            found = bare
        symbol = self._symbols.get(found.s)
        if symbol is None or type(found) is not symbol.kind:
            symbol = self._settled(symbol, found)
            if symbol is None:
                return None
        number, at = found.t, found.T
        if number <= symbol.last and at < symbol.at + _RENUMBERED_MS:
            self._stats.duplicates += 1
            return None
        symbol.last, symbol.at = number, at
        return Trade(symbol.name, found.p, found.q, found.m, at * 1000, received_at, number)

    def _settled(self, symbol: _Symbol | None, found: _Trade | _Aggregate) -> _Symbol | None:
        """The symbol where this is its first trade; None where its trades, or those of this kind, do not count."""
        if symbol is None:
            if not self._open:
                self._stats.dropped["symbol"] += 1
                return None
            symbol = self._symbols.setdefault(found.s, _Symbol(found.s))
        kind = type(found)
        if kind is symbol.kind:
            return symbol
        if symbol.kind is not None and kind is not self._kind:
            self._stats.ignored += 1
            return None
        symbol.begin(kind)
        return symbol

    def _other(self, frame: bytes) -> _Trade | _Aggregate | None:
        """A bare trade, or the count of what it is instead."""
        try:
            other = _OTHER.decode(frame)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self._garbage(frame)
            return None
        event = other.data or other
        kind = event.e
        if kind in _OURS:
            if other.data is None:
                try:
                    return _BARE.decode(frame)
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    pass
            if event.X == "MARKET":
                self._stats.dropped[_fault(event)] += 1
            else:
                self._stats.ignored += 1
        elif kind or other.stream is not None:
            self._stats.ignored += 1
        elif other.error is not None or other.code is not None:
            said = other.error or other
            self._stats.dropped["error"] += 1
            self._stats.last_error = f"the server says {said.code}: {said.msg}"
        elif other.id is not None:
            self.acknowledged = other.id
        else:
            self._stats.dropped["shape"] += 1
        return None

    def _garbage(self, frame: bytes) -> None:
        """Neither a trade nor one of the server's own words: of another shape, or no JSON at all."""
        try:
            msgspec.json.decode(frame)
            reason = "shape"
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            reason = "json"
        self._stats.dropped[reason] += 1


def _fault(event: _Event) -> str:
    """Why this is no trade: the first of its figures that is out of bounds, else its shape."""
    bounds = (("price", event.p, SMALLEST, LARGEST), ("quantity", event.q, SMALLEST, LARGEST))
    for name, value, least, end in (*bounds, ("time", event.T, _FIRST, _LAST)):
        try:
            if not least <= float(value) < end:
                return name
        except (TypeError, ValueError, OverflowError):
            return "shape"
    return "shape"
