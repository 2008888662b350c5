"""Alpaca's live trades, stocks or crypto: its msgpack stream over our own socket, in our own loop of coming back.

A server that speaks JSON, whatever it was asked for, is answered in JSON.

Ids are unique within an exchange only, so a repeated trade is known by exchange and id, and trades keep their order.
What Alpaca refuses (402 wrong key, 405 too many symbols, 406 another connection holds the key, 409 no subscription)
stands in ``stats.last_error`` and is counted; it is tried again for ever, since most of them end by themselves.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from shared.accounts import AccountConfig
from shared.clock import parse_rfc3339
from shared.config import Config
from shared.errors import ConfigError
from worker.core.trades import Trade, micros
from worker.feeds import alpaca_conditions as conditions
from worker.feeds.base import STALE_SECONDS, fault_of
from worker.feeds.socket import FeedSocket, SocketLost
from worker.feeds.streaming import OPEN_SECONDS, SocketFeed

DATA_URL = "wss://stream.data.alpaca.markets"
_HEADERS = {"Content-Type": "application/msgpack"}
_REMEMBERED = 50_000
_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


def stream_beside(data_url: str | None) -> str | None:
    """The stream at a data server that is not Alpaca's own: who asks there for prices wants its trades too."""
    if data_url is None:
        return None
    parts = urlsplit(data_url)
    host = parts.netloc
    if host.startswith("data.") and host.endswith(".alpaca.markets"):
        host = f"stream.{host}"
    return f"{'ws' if parts.scheme == 'http' else 'wss'}://{host}"


class AlpacaFeed(SocketFeed):
    """See ``feeds.base.TradeFeed``. Symbols with a slash are crypto; those of one feed are all of one kind.

    Stock trades that make no price (``alpaca_conditions``) are given as not ``priced``; what is no trade is ignored.
    """

    def __init__(
        self,
        symbols: Sequence[str],
        api_key: str,
        secret_key: str,
        *,
        url: str | None = None,
        data_feed: str = "iex",
        stale_seconds: float = STALE_SECONDS,
        clock: Callable[[], int] | None = None,
    ) -> None:
        """``url`` replaces Alpaca's address, whole where it has a path. Raises ConfigError where kinds are mixed."""
        kinds = {"/" in s for s in symbols}
        if len(kinds) != 1:
            raise ConfigError(
                f"one Alpaca feed is for stocks or for crypto, not for both or none: {', '.join(symbols)}"
            )
        super().__init__("alpaca", symbols, stale_seconds=stale_seconds, clock=clock)
        path = "/v1beta3/crypto/us" if kinds.pop() else f"/v2/{data_feed}"
        whole = url is not None and urlsplit(url).path not in ("", "/")
        self._url = url if whole and url is not None else (url or DATA_URL).rstrip("/") + path
        self._keys = {"key": api_key, "secret": secret_key}
        self._seen: OrderedDict[tuple[str, str, int], None] = OrderedDict()

    @classmethod
    def from_config(
        cls,
        config: Config,
        symbols: Sequence[str],
        stale_seconds: float = STALE_SECONDS,
        account: AccountConfig | None = None,
    ) -> AlpacaFeed:
        """With an Alpaca account's own keys, for any other those of ``ALPACA_…``. Raises ConfigError without keys."""
        own = account if account is not None and account.venue == "alpaca" else None
        key = config.alpaca_api_key if own is None else own.api_key
        secret = config.alpaca_secret_key if own is None else own.secret_key
        if key is None or secret is None:
            raise ConfigError("Alpaca's trades need ALPACA_API_KEY and ALPACA_SECRET_KEY")
        return cls(
            symbols,
            key.get_secret_value(),
            secret.get_secret_value(),
            url=config.alpaca_data_stream_url or stream_beside(config.alpaca_data_url if own is None else own.data_url),
            data_feed=config.alpaca_data_feed if own is None else own.data_feed,
            stale_seconds=stale_seconds,
        )

    # -- signing in -----------------------------------------------------------------------------------------------

    def _open(self) -> FeedSocket:
        deadline = monotonic() + OPEN_SECONDS
        connection = FeedSocket(self._url, OPEN_SECONDS, _HEADERS)
        try:
            packed = _packed if self._await(connection, "connected", deadline) else _text
            connection.send(packed({"action": "auth", **self._keys}))
            self._await(connection, "authenticated", deadline)
            connection.send(packed({"action": "subscribe", "trades": list(self._symbols)}))
        except BaseException:
            connection.close()
            raise
        return connection

    def _await(self, connection: FeedSocket, word: str, deadline: float) -> bool:
        """Until the server says it; whether in msgpack. Raises SocketLost where it says an error or nothing in time."""
        while not self._closing.is_set():
            left = deadline - monotonic()
            if left <= 0:
                break
            for message in connection.receive(min(left, 0.5)):
                for row in _rows(message) or ():
                    if not isinstance(row, Mapping):
                        continue
                    if row.get("T") == "error":
                        self.stats.dropped["error"] += 1
                        raise SocketLost(_refusal(row))
                    if row.get("msg") == word:
                        return not _is_text(message)
        raise SocketLost(f"Alpaca did not say {word!r}")

    # -- what comes -----------------------------------------------------------------------------------------------

    def _decode(self, messages: Sequence[bytes], received_at: int) -> tuple[list[Trade], bool]:
        trades: list[Trade] = []
        sensible = False
        for message in messages:
            rows = _rows(message)
            if rows is None:
                self.stats.dropped["shape"] += 1
                continue
            for row in rows:
                kind = row.get("T") if isinstance(row, Mapping) else None
                if kind == "t":
                    understood = self._take(row, received_at, trades)
                    sensible = sensible or understood
                elif kind == "subscription":
                    sensible = True
                elif kind == "error":
                    self.stats.dropped["error"] += 1
                    self._out.lost(_refusal(row))
                elif kind is None:
                    self.stats.dropped["shape"] += 1
                else:
                    self.stats.ignored += 1
        return trades, sensible

    def _take(self, row: Mapping[str, Any], received_at: int, trades: list[Trade]) -> bool:
        """Append the trade of a message; whether it is one, new or not."""
        stats = self.stats
        try:
            trade, told = _trade(row, received_at), tuple(row.get("c") or ())
        except _UNREADABLE:
            stats.dropped["shape"] += 1
            return False
        fault = fault_of(trade) if trade.symbol in self._symbols else "symbol"
        if fault is not None:
            stats.dropped[fault] += 1
            return False
        number = row.get("i")
        if isinstance(number, int) and self._repeated((trade.symbol, str(row.get("x")), number)):
            stats.duplicates += 1
        elif conditions.is_trade(told):
            trades.append(trade)
        else:
            stats.ignored += 1
        return True

    def _repeated(self, key: tuple[str, str, int]) -> bool:
        if key in self._seen:
            return True
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return False


def _trade(row: Mapping[str, Any], received_at: int) -> Trade:
    """The trade of one message. Raises one of ``_UNREADABLE`` where it is none."""
    side, at = row.get("tks"), _micros(row["t"])
    maker = None if side not in ("B", "S") else side == "S"
    priced = conditions.makes_price(row.get("c") or (), row.get("z"), at)
    return Trade(row["S"], float(row["p"]), float(row["s"]), maker, at, received_at, None, priced)


def _micros(time: Any) -> int:
    """Microseconds of a time as msgpack or JSON tells it, nanoseconds cut off."""
    if isinstance(time, str):
        return micros(parse_rfc3339(time))
    at: int = time.to_unix_nano() // 1000
    return at


def _refusal(row: Mapping[str, Any]) -> str:
    return f"Alpaca says {row.get('code')}: {row.get('msg')}"


def _rows(message: bytes) -> list[Any] | None:
    """The messages of one frame, msgpack or JSON; None where it is none of Alpaca's.

    By msgpack's own reader, since msgspec's rounds a time's nanoseconds, at times into the next second.
    """
    import msgpack

    try:
        found = json.loads(message) if _is_text(message) else msgpack.unpackb(message)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException):
        return None
    return found if isinstance(found, list) else None


def _is_text(message: bytes) -> bool:
    """An array of msgpack begins with no character of JSON."""
    return message[:1] in b"[{ \t\r\n"


def _text(message: Mapping[str, Any]) -> str:
    return json.dumps(dict(message))


def _packed(message: Mapping[str, Any]) -> bytes:
    import msgpack

    packed: bytes = msgpack.packb(dict(message))
    return packed
