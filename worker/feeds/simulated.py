"""The simulated venue's trades, live: its seeded market over a websocket, pinned prices included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import quote

import msgspec

from worker.core.trades import Trade
from worker.feeds.base import STALE_SECONDS, fault_of
from worker.feeds.socket import FeedSocket
from worker.feeds.streaming import OPEN_SECONDS, SocketFeed


class _Tick(msgspec.Struct, gc=False):
    symbol: str
    price: float
    quantity: float
    is_buyer_maker: bool
    venue_time: int
    trade_id: int


_DECODE = msgspec.json.Decoder(list[_Tick]).decode


class SimulatedFeed(SocketFeed):
    """See ``feeds.base.TradeFeed``. ``url`` and ``token`` are the venue's (``SIM_VENUE_URL``)."""

    def __init__(
        self,
        symbols: Sequence[str],
        url: str,
        token: str,
        *,
        stale_seconds: float = STALE_SECONDS,
        clock: Callable[[], int] | None = None,
    ) -> None:
        super().__init__("simulated", symbols, stale_seconds=stale_seconds, clock=clock)
        tickers = ",".join(quote(s, safe="") for s in symbols)
        self._url = f"{url.rstrip('/').replace('http', 'ws', 1)}/trades?tickers={tickers}"
        self._headers = {"Authorization": f"Bearer {token}"}
        self._last = dict.fromkeys(symbols, -1)

    def _open(self) -> FeedSocket:
        return FeedSocket(self._url, OPEN_SECONDS, self._headers)

    def _decode(self, messages: Sequence[bytes], received_at: int) -> tuple[list[Trade], bool]:
        stats, trades, sensible = self.stats, [], False
        for message in messages:
            try:
                ticks = _DECODE(message)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                stats.dropped["shape"] += 1
                continue
            sensible = True
            for t in ticks:
                trade = Trade(t.symbol, t.price, t.quantity, t.is_buyer_maker, t.venue_time, received_at, t.trade_id)
                fault = fault_of(trade) if t.symbol in self._last else "symbol"
                if fault is not None:
                    stats.dropped[fault] += 1
                elif t.trade_id <= self._last[t.symbol]:
                    stats.duplicates += 1
                else:
                    self._last[t.symbol] = t.trade_id
                    trades.append(trade)
        return trades, sensible
