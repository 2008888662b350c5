"""Binance's public trade streams: spot and USDT futures, many symbols over one connection.

USDT futures tell quantities in base units; coin-margined ones count contracts of 100 or 10 USD (``CONTRACT_SIZES``).

The streams stand in the address and are asked for once more in words: the answer shows that the server listens even
where nobody trades. Binance ends every connection after 24 hours; that is a gap of a second like any other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit, urlunsplit

from shared.config import Config
from worker.core.trades import Trade
from worker.feeds.base import STALE_SECONDS
from worker.feeds.binance_wire import KINDS, BinanceDecoder, StreamKind
from worker.feeds.contracts import Contracts, read_contracts
from worker.feeds.socket import FeedSocket
from worker.feeds.streaming import OPEN_SECONDS, SocketFeed

SPOT_URL = "wss://stream.binance.com:9443"
_A_REQUEST = 100
_BETWEEN_REQUESTS_SECONDS = 0.3
"""Binance closes a connection that sends more than five messages a second."""


def wire_name(symbol: str) -> str:
    """``BTC/USDC`` or ``btcusdc`` as Binance writes it: ``BTCUSDC``."""
    return symbol.replace("/", "").replace("-", "").upper()


def stream_address(base: str, streams: Sequence[str]) -> str:
    """The combined stream's address. A base with a query or a path of its own is taken as it is."""
    parts = urlsplit(base)
    if parts.query or parts.path.rstrip("/") not in ("", "/stream"):
        return base
    return urlunsplit((parts.scheme, parts.netloc, "/stream", "streams=" + "/".join(streams[:_A_REQUEST]), ""))


def named_kind(address: str) -> StreamKind | None:
    """The kind that an address asks for by itself; None where it does not, or for both."""
    found: list[StreamKind] = [kind for kind in KINDS if f"@{kind}".lower() in address.lower()]
    return found[0] if len(found) == 1 else None


class BinanceFeed(SocketFeed):
    """See ``feeds.base.TradeFeed``. Symbols keep the spelling they were given in."""

    def __init__(
        self,
        symbols: Sequence[str],
        url: str = SPOT_URL,
        *,
        kind: StreamKind = "trade",
        stale_seconds: float = STALE_SECONDS,
        clock: Callable[[], int] | None = None,
        contracts: Contracts | None = None,
    ) -> None:
        super().__init__("binance", symbols, stale_seconds=stale_seconds, clock=clock, contracts=contracts)
        names = {wire_name(s): s for s in symbols}
        kind = named_kind(url) or kind
        self._streams = [f"{wire.lower()}@{kind}" for wire in names]
        self._url = stream_address(url, self._streams)
        self._decoder = BinanceDecoder(self.stats, names, kind)
        self._asked = 0

    @classmethod
    def from_config(cls, config: Config, symbols: Sequence[str], stale_seconds: float = STALE_SECONDS) -> BinanceFeed:
        return cls(
            symbols,
            config.binance_stream_url,
            kind=config.binance_stream_kind,
            stale_seconds=stale_seconds,
            contracts=read_contracts(config.contract_sizes),
        )

    def _open(self) -> FeedSocket:
        connection = FeedSocket(self._url, OPEN_SECONDS)
        for first in range(0, len(self._streams), _A_REQUEST):
            if first:
                self._closing.wait(_BETWEEN_REQUESTS_SECONDS)
            self._asked += 1
            wanted = self._streams[first : first + _A_REQUEST]
            connection.send(json.dumps({"method": "SUBSCRIBE", "params": wanted, "id": self._asked}))
        return connection

    def _decode(self, messages: Sequence[bytes], received_at: int) -> tuple[list[Trade], bool]:
        decode, dropped = self._decoder.decode, self.stats.dropped
        before = sum(dropped.values()) if dropped else 0
        trades = [trade for message in messages if (trade := decode(message, received_at)) is not None]
        if trades:
            return trades, True
        return trades, sum(dropped.values()) - before < len(messages)
