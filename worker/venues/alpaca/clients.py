"""alpaca-py's REST clients of one account, tamed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


class RestClient(Protocol):
    """What is used of ``alpaca.common.rest.RESTClient``; answers are raw, as ``raw_data`` asks for."""

    def get(self, path: str, data: Any = None) -> Any: ...

    def post(self, path: str, data: Any = None) -> Any: ...

    def delete(self, path: str, data: Any = None) -> Any: ...


@dataclass(frozen=True, slots=True)
class Clients:
    """One for the account's orders, one for each of the two markets' data."""

    trading: RestClient
    stocks: RestClient
    crypto: RestClient

    @classmethod
    def open(
        cls, api_key: str, secret_key: str, *, paper: bool, trading_url: str | None, data_url: str | None
    ) -> Clients:
        """Connects at the first call."""
        from alpaca.data.historical import CryptoHistoricalDataClient, StockHistoricalDataClient
        from alpaca.trading.client import TradingClient

        from worker.venues.alpaca.session import tame

        trading = TradingClient(api_key, secret_key, paper=paper, raw_data=True, url_override=trading_url)
        stocks = StockHistoricalDataClient(api_key, secret_key, raw_data=True, url_override=data_url)
        crypto = CryptoHistoricalDataClient(api_key, secret_key, raw_data=True, url_override=data_url)
        return cls(tame(trading), tame(stocks), tame(crypto))

    def close(self) -> None:
        """Give up connections."""
        inner: Any
        for inner in (self.trading, self.stocks, self.crypto):
            inner._session.close()
