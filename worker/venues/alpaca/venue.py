"""One Alpaca account through the real alpaca-py, with its traps taken out.

alpaca-py has no timeout, sends a POST again on 429 and 504, and mints client order ids of its own: here every call has
a timeout, nothing is sent twice, and the id is ours. Bodies are read raw, so that quantities stay decimal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from urllib.parse import quote

from msgspec.structs import replace

from shared.accounts import AccountConfig
from shared.clock import Clock
from shared.errors import ConfigError, VenueUnavailable
from worker.core.types import (
    AccountState,
    Bar,
    Execution,
    Instrument,
    LastPrice,
    MarketClock,
    OrderRequest,
    OrderUpdate,
    VenueOrder,
    VenuePosition,
)
from worker.venues.alpaca import mapping, wire
from worker.venues.alpaca.clients import Clients
from worker.venues.alpaca.endpoints import Endpoints
from worker.venues.alpaca.fees import CryptoFees
from worker.venues.alpaca.fills import Fills
from worker.venues.alpaca.listing import OrderList
from worker.venues.alpaca.market import Market
from worker.venues.alpaca.orders import Orders
from worker.venues.alpaca.pairs import Pairs
from worker.venues.alpaca.sessions import market_clock
from worker.venues.base import CancelResult, Capabilities, SendGuard, UpdateStream


class AlpacaVenue:
    """See ``venues.base.Venue``."""

    name = "alpaca"

    def __init__(
        self,
        api_key: str,
        secret_key: str,
        clock: Clock,
        *,
        paper: bool = True,
        crypto_only: bool = False,
        feed: str = "iex",
        trading_url: str | None = None,
        data_url: str | None = None,
        stream_url: str | None = None,
    ) -> None:
        self._keys, self._paper, self._stream_url = (api_key, secret_key), paper, stream_url
        self._crypto_only = crypto_only
        self._clients = Clients.open(api_key, secret_key, paper=paper, trading_url=trading_url, data_url=data_url)
        self._endpoints, self._pairs, self._fees, self._clock = Endpoints(), Pairs(), CryptoFees(), clock
        trading = self._clients.trading
        self._listing = OrderList(trading, self._pairs)
        self._orders = Orders(trading, self._pairs, self._listing, self._endpoints)
        self._fills = Fills(trading, self._pairs, self._fees, self._listing, self._endpoints)
        self._market = Market(self._clients, feed, self._endpoints, clock)
        self.mode = "paper" if paper else "live"
        self.capabilities = Capabilities(
            sessions=not crypto_only, fractional=True, protective_pairs=not crypto_only, untold_base_fees=True
        )

    @classmethod
    def from_account(cls, account: AccountConfig, clock: Clock) -> AlpacaVenue:
        """Raises ConfigError where a key is missing."""
        if account.api_key is None or account.secret_key is None:
            missing, setting = " and ".join(account.missing()), f"{account.variable('venue')}=alpaca"
            raise ConfigError(f"{setting} needs {missing}: create a key at alpaca.markets and set it")
        return cls(
            account.api_key.get_secret_value(),
            account.secret_key.get_secret_value(),
            clock,
            paper=account.paper,
            crypto_only=account.crypto_only,
            feed=account.data_feed,
            trading_url=account.url,
            data_url=account.data_url,
            stream_url=account.stream_url,
        )

    # -- orders ---------------------------------------------------------------------------------------------------

    def submit(self, request: OrderRequest, guard: SendGuard) -> VenueOrder:
        return self._orders.submit(request, guard)

    def cancel(self, venue_order_id: str) -> CancelResult:
        return self._orders.cancel(venue_order_id)

    def cancel_all(self) -> list[CancelResult]:
        return self._orders.cancel_all()

    def cancel_all_after(self, seconds: float) -> None:
        raise VenueUnavailable("Alpaca has no dead-man's switch")

    def open_orders(self) -> list[VenueOrder]:
        return self._listing.open()

    def orders_since(self, since: datetime) -> list[VenueOrder]:
        return self._listing.since(since)

    def order_by_client_id(self, client_order_id: str) -> VenueOrder:
        return self._orders.by_client_id(client_order_id)

    def fills_since(self, since: datetime) -> list[Execution]:
        return self._fills.since(since)

    # -- account and market ---------------------------------------------------------------------------------------

    def positions(self) -> list[VenuePosition]:
        rows = wire.rows(lambda: self._clients.trading.get("/positions"))
        told = wire.read(lambda: [mapping.position(row) for row in rows])
        return [position for position in told if position.qty]

    def account(self) -> AccountState:
        answer = wire.get(lambda: self._clients.trading.get("/account"))
        told = wire.read(lambda: mapping.account(answer))
        self._fees.learn(answer)
        return told

    def clock(self) -> MarketClock:
        def ask() -> MarketClock:
            answer = wire.get(lambda: self._clients.trading.get("/clock"))
            return wire.read(lambda: mapping.clock(answer))

        def by_calendar() -> MarketClock:
            now = self._clock.now()
            return MarketClock(now, True) if self._crypto_only else market_clock(now)

        told = self._endpoints.ask("clock", ask, by_calendar)
        return MarketClock(told.now, True) if self._crypto_only else told

    def instrument(self, ticker: str) -> Instrument:
        path = f"/assets/{quote(ticker, safe='')}"

        def ask() -> Instrument:
            answer = wire.get(lambda: self._clients.trading.get(path))
            return wire.read(lambda: mapping.instrument(answer))

        if "/" in ticker:  # a coin's lot and tick cannot be guessed; whole shares at whole cents need no guess
            return ask()
        return self._endpoints.ask("assets", ask, lambda: Instrument(ticker))

    def last_price(self, ticker: str) -> LastPrice:
        return self._market.last_price(ticker)

    def bars(self, tickers: Sequence[str], count: int, until: datetime) -> dict[str, list[Bar]]:
        return self._market.bars(tickers, count, until)

    def stream_updates(self, on_update: Callable[[OrderUpdate], None]) -> UpdateStream:
        from worker.venues.alpaca.stream import AlpacaStream

        def charged(update: OrderUpdate) -> None:
            execution = update.execution
            on_update(update if execution is None else replace(update, execution=self._fees.charged(execution)))

        stream = AlpacaStream(
            *self._keys, paper=self._paper, url=self._stream_url, on_update=charged, read=self._pairs.update
        )
        stream.start()
        return stream

    def close(self) -> None:
        self._clients.close()
