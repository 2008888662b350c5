"""One Alpaca account through the real alpaca-py, with its traps taken out.

alpaca-py has no timeout, sends a POST again on 429 and 504, and mints client order ids of its own: here every call has
a timeout, nothing is sent twice, and the id is ours. Bodies are read raw, so that quantities stay decimal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

from shared.clock import Clock, parse_rfc3339, rfc3339
from shared.config import Config
from shared.errors import (
    ConfigError,
    NotSent,
    OrderNotFound,
    VenueAmbiguous,
    VenueError,
    VenueRejected,
    VenueUnavailable,
)
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
from worker.venues.alpaca import mapping
from worker.venues.base import CancelOutcome, CancelResult, Capabilities, SendGuard, UpdateStream
from worker.venues.http import guarded

T = TypeVar("T")

ORDERS_PAGE, ACTIVITIES_PAGE, BARS_PAGE = 500, 100, 10_000
MAX_PAGES = 200
SESSION_REACH = timedelta(hours=9)
_MALFORMED = (KeyError, TypeError, ValueError, ArithmeticError, AttributeError)


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
        from alpaca.data.historical import CryptoHistoricalDataClient, StockHistoricalDataClient
        from alpaca.trading.client import TradingClient

        from worker.venues.alpaca.session import tame

        self._keys, self._paper, self._stream_url = (api_key, secret_key), paper, stream_url
        self._clock, self._feed, self._crypto_only = clock, feed, crypto_only
        self._trading = tame(TradingClient(api_key, secret_key, paper=paper, raw_data=True, url_override=trading_url))
        self._stocks = tame(StockHistoricalDataClient(api_key, secret_key, raw_data=True, url_override=data_url))
        self._crypto = tame(CryptoHistoricalDataClient(api_key, secret_key, raw_data=True, url_override=data_url))
        self.mode = "paper" if paper else "live"
        self.capabilities = Capabilities(sessions=not crypto_only, fractional=True)

    @classmethod
    def from_config(cls, config: Config, clock: Clock) -> AlpacaVenue:
        """Raises ConfigError where a key is missing."""
        missing = [n.upper() for n in ("alpaca_api_key", "alpaca_secret_key") if getattr(config, n) is None]
        if missing or config.alpaca_api_key is None or config.alpaca_secret_key is None:
            raise ConfigError(f"VENUE=alpaca needs {' and '.join(missing)}: create a key at alpaca.markets and set it")
        return cls(
            config.alpaca_api_key.get_secret_value(),
            config.alpaca_secret_key.get_secret_value(),
            clock,
            paper=config.alpaca_paper,
            crypto_only=all("/" in t for t in config.active_tickers),
            feed=config.alpaca_data_feed,
            trading_url=config.alpaca_trading_url,
            data_url=config.alpaca_data_url,
            stream_url=config.alpaca_stream_url,
        )

    # -- orders ---------------------------------------------------------------------------------------------------

    def submit(self, request: OrderRequest, guard: SendGuard) -> VenueOrder:
        import requests
        from alpaca.common.exceptions import APIError

        body = {
            "symbol": request.ticker,
            "qty": str(request.qty),
            "side": request.side.value,
            "type": request.type.value,
            "time_in_force": request.time_in_force.value,
            "client_order_id": request.client_order_id,
        }
        if request.limit_price is not None:
            body["limit_price"] = str(request.limit_price)
        with guarded(guard) as sending:
            try:
                answer: Any = self._trading.post("/orders", body)
            except APIError as error:
                raise _submit_error(error) from error
            except (requests.RequestException, ValueError, OSError) as error:
                if not sending.started:
                    raise NotSent(f"no connection to Alpaca: {error}") from error
                raise VenueAmbiguous(f"no usable answer from Alpaca: {error}") from error
        try:
            told = mapping.order(answer)
        except _MALFORMED as error:
            raise VenueAmbiguous(f"an answer that is no order: {str(answer)[:200]}") from error
        if told.client_order_id != request.client_order_id:
            raise VenueAmbiguous(f"the answer is of another order: {told.client_order_id}")
        return told

    def cancel(self, venue_order_id: str) -> CancelResult:
        try:
            self._call(lambda: self._trading.delete(f"/orders/{quote(venue_order_id, safe='')}"))
            return CancelResult(venue_order_id, CancelOutcome.REQUESTED)
        except OrderNotFound as error:
            return CancelResult(venue_order_id, CancelOutcome.ALREADY_FINAL, str(error))
        except Uncancelable as error:
            return CancelResult(venue_order_id, CancelOutcome.ALREADY_FINAL, str(error))
        except VenueError as error:
            return CancelResult(venue_order_id, CancelOutcome.UNCONFIRMED, str(error))

    def cancel_all(self) -> list[CancelResult]:
        rows = self._call(lambda: self._trading.delete("/orders"))
        return _read(lambda: [_cancel_row(row) for row in rows or ()])

    def open_orders(self) -> list[VenueOrder]:
        return self._orders({"status": "open"})

    def orders_since(self, since: datetime) -> list[VenueOrder]:
        return self._orders({"status": "all", "after": rfc3339(since - timedelta(milliseconds=1))})

    def _orders(self, query: dict[str, Any]) -> list[VenueOrder]:
        """All pages, newest first as the API likes it, returned oldest first; legs stand beside their parents."""
        found: dict[str, VenueOrder] = {}
        until: str | None = None
        for _ in range(MAX_PAGES):
            page = {**query, "limit": ORDERS_PAGE, "direction": "desc", "nested": "true"}
            if until is not None:
                page["until"] = until
            rows = self._call(partial(self._trading.get, "/orders", page))
            orders = _read(partial(_orders_in, rows))
            new = [o for o in orders if o.venue_order_id not in found]
            found.update((o.venue_order_id, o) for o in new)
            if len(rows) < ORDERS_PAGE or not new:
                return list(found.values())[::-1]
            until = str(rows[-1].get("submitted_at"))
        raise VenueUnavailable(f"more than {MAX_PAGES} pages of orders")

    def order_by_client_id(self, client_order_id: str) -> VenueOrder:
        query = {"client_order_id": client_order_id}
        return self._one(lambda: self._trading.get("/orders:by_client_order_id", query), mapping.order)

    def fills_since(self, since: datetime) -> list[Execution]:
        query: dict[str, Any] = {"after": rfc3339(since), "direction": "asc", "page_size": ACTIVITIES_PAGE}
        fills: list[Execution] = []
        for _ in range(MAX_PAGES):
            rows = self._call(partial(self._trading.get, "/account/activities/FILL", query))
            fills += _read(partial(_fills_in, rows))
            if len(rows) < ACTIVITIES_PAGE:
                return fills
            query = {**query, "page_token": rows[-1]["id"]}
        raise VenueUnavailable(f"more than {MAX_PAGES} pages of fills")

    # -- account and market ---------------------------------------------------------------------------------------

    def positions(self) -> list[VenuePosition]:
        rows = self._call(lambda: self._trading.get("/positions"))
        return _read(lambda: [mapping.position(row) for row in rows])

    def account(self) -> AccountState:
        return self._one(lambda: self._trading.get("/account"), mapping.account)

    def clock(self) -> MarketClock:
        told = self._one(lambda: self._trading.get("/clock"), mapping.clock)
        return MarketClock(told.now, True) if self._crypto_only else told

    def instrument(self, ticker: str) -> Instrument:
        try:
            return self._one(lambda: self._trading.get(f"/assets/{quote(ticker, safe='')}"), mapping.instrument)
        except OrderNotFound as error:
            raise VenueUnavailable(f"Alpaca knows no {ticker}") from error

    def last_price(self, ticker: str) -> LastPrice:
        if "/" in ticker:
            body = self._data(self._crypto, "/crypto/us/latest/trades", {"symbols": ticker})
        else:
            body = self._data(self._stocks, "/stocks/trades/latest", {"symbols": ticker, "feed": self._feed})
        last = _read(lambda: self._last(body["trades"][ticker]))
        if last.price <= Decimal(0):
            raise VenueUnavailable(f"{ticker}: {last.price} is no price")
        return last

    @staticmethod
    def _last(found: Any) -> LastPrice:
        return LastPrice(mapping.decimal(found["p"]), parse_rfc3339(found["t"]))

    def bars(self, tickers: Sequence[str], count: int, until: datetime) -> dict[str, list[Bar]]:
        start = until - max(SESSION_REACH, timedelta(minutes=2 * count))
        crypto, stocks = [t for t in tickers if "/" in t], [t for t in tickers if "/" not in t]
        found: dict[str, list[Bar]] = {t: [] for t in tickers}
        window = {"timeframe": "1Min", "start": rfc3339(start), "end": rfc3339(until), "limit": BARS_PAGE}
        if stocks:
            query = {**window, "symbols": ",".join(stocks), "feed": self._feed, "adjustment": "raw"}
            self._collect(self._stocks, "/stocks/bars", query, found)
        if crypto:
            self._collect(self._crypto, "/crypto/us/bars", {**window, "symbols": ",".join(crypto)}, found)
        complete = until - timedelta(minutes=1)
        return {t: [b for b in bars if b.start <= complete][-count:] for t, bars in found.items()}

    def _collect(self, client: Any, path: str, query: dict[str, Any], into: dict[str, list[Bar]]) -> None:
        for _ in range(MAX_PAGES):
            body = self._data(client, path, query)

            def take(body: Any = body) -> None:
                for ticker, rows in body["bars"].items():
                    into[ticker] += [mapping.bar(row) for row in rows]

            _read(take)
            token = body.get("next_page_token")
            if not token:
                return
            query = {**query, "page_token": token}
        raise VenueUnavailable(f"more than {MAX_PAGES} pages of bars")

    def stream_updates(self, on_update: Callable[[OrderUpdate], None]) -> UpdateStream:
        from worker.venues.alpaca.stream import AlpacaStream

        stream = AlpacaStream(*self._keys, paper=self._paper, url=self._stream_url, on_update=on_update)
        stream.start()
        return stream

    def close(self) -> None:
        for client in (self._trading, self._stocks, self._crypto):
            client._session.close()

    # -- wire -----------------------------------------------------------------------------------------------------

    def _data(self, client: Any, path: str, query: dict[str, Any]) -> Any:
        try:
            body = self._call(lambda: client.get(path, query))
        except OrderNotFound as error:
            raise VenueUnavailable(f"{path}: {error}") from error
        if not isinstance(body, dict):
            raise VenueUnavailable(f"{path}: an answer that makes no sense: {str(body)[:200]}")
        return body

    def _one(self, ask: Callable[[], Any], load: Callable[[Any], T]) -> T:
        found = self._call(ask)
        return _read(lambda: load(found))

    @staticmethod
    def _call(ask: Callable[[], Any]) -> Any:
        import requests
        from alpaca.common.exceptions import APIError

        try:
            return ask()
        except APIError as error:
            raise _read_error(error) from error
        except (requests.RequestException, ValueError, OSError) as error:
            raise VenueUnavailable(f"Alpaca does not answer: {error}") from error


class Uncancelable(VenueUnavailable):
    """422 to a cancel: the order is in a state that cannot be canceled, which is a final one."""


def _parts(error: Any) -> tuple[int, tuple[int, str] | None]:
    status = error.status_code
    return status if isinstance(status, int) else 0, mapping.structured(str(error))


def _submit_error(error: Any) -> VenueError:
    status, body = _parts(error)
    if body is None:
        return VenueAmbiguous(f"HTTP {status}: {str(error)[:200]}")
    code, message = body
    if mapping.DUPLICATE_ID.search(message):
        return VenueAmbiguous(f"the client order id exists: {message}")
    if mapping.is_final_refusal(status, code, message):
        return VenueRejected(message, str(code))
    return VenueAmbiguous(f"HTTP {status}, code {code}: {message}")


def _read_error(error: Any) -> VenueError:
    status, body = _parts(error)
    if status == 404 and body is not None and body[0] == mapping.NOT_FOUND_CODE:
        return OrderNotFound(body[1])
    if status == 422 and body is not None and body[0] == 42210000:
        return Uncancelable(body[1])
    return VenueUnavailable(f"HTTP {status}: {str(error)[:200]}")


def _cancel_row(row: Any) -> CancelResult:
    status = int(row["status"])
    if status in {200, 204, 207}:
        return CancelResult(str(row["id"]), CancelOutcome.REQUESTED)
    outcome = CancelOutcome.ALREADY_FINAL if status in {404, 422} else CancelOutcome.UNCONFIRMED
    return CancelResult(str(row["id"]), outcome, f"status {status}")


def _orders_in(rows: Any) -> list[VenueOrder]:
    return [mapping.order(leg) for row in rows for leg in mapping.with_legs(row)]


def _fills_in(rows: Any) -> list[Execution]:
    return [mapping.activity(row) for row in rows]


def _read(load: Callable[[], T]) -> T:
    try:
        return load()
    except _MALFORMED as error:
        raise VenueUnavailable(f"an answer from Alpaca that makes no sense: {error!r}") from error
