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

from msgspec.structs import replace

from shared.accounts import AccountConfig
from shared.clock import Clock, parse_rfc3339, rfc3339
from shared.errors import ConfigError, OrderNotFound, VenueAmbiguous, VenueError, VenueUnavailable
from worker.core.orders import FINAL
from worker.core.types import (
    AccountState,
    Bar,
    Execution,
    Instrument,
    LastPrice,
    MarketClock,
    OrderRequest,
    OrderUpdate,
    Side,
    TimeInForce,
    VenueOrder,
    VenuePosition,
)
from worker.venues.alpaca import mapping, wire
from worker.venues.alpaca.fees import CryptoFees
from worker.venues.alpaca.pairs import PAIR_CLASSES, Pairs, is_pair
from worker.venues.base import CancelOutcome, CancelResult, Capabilities, PartlyRead, SendGuard, UpdateStream

ORDERS_PAGE, ACTIVITIES_PAGE, BARS_PAGE = 500, 100, 10_000
T = TypeVar("T")

MAX_PAGES = 200
BAR_IS_CURRENT = timedelta(minutes=2)
GROUP_TOLERANCE = timedelta(seconds=1)
"""How much earlier than its leg an order may have been made with it."""
SESSION_REACH = timedelta(hours=9)


def _time_in_force(request: OrderRequest) -> TimeInForce:
    """Coins know no day: Alpaca refuses one with 42210000, ``invalid crypto time_in_force`` (d-e-s-o/apca issue 27)."""
    is_coin = "/" in request.ticker
    return TimeInForce.GTC if is_coin and request.time_in_force is TimeInForce.DAY else request.time_in_force


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
        self._seen: set[str] = set()
        self._pairs, self._fees = Pairs(), CryptoFees()
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
        body: dict[str, Any] = {
            "symbol": request.ticker,
            "qty": f"{request.qty:f}",
            "side": request.side.value,
            "type": request.type.value,
            "time_in_force": _time_in_force(request).value,
            "client_order_id": request.client_order_id,
        }
        if request.limit_price is not None:
            body["limit_price"] = f"{request.limit_price:f}"
        if request.stop_price is not None:
            body["order_class"] = "oco"
            body["take_profit"] = {"limit_price": f"{request.limit_price:f}"}
            body["stop_loss"] = {"stop_price": f"{request.stop_price:f}"}
        answer = wire.send(lambda: self._trading.post("/orders", body), guard)
        try:
            told = self._whole(answer)
        except wire.MALFORMED as error:
            raise VenueAmbiguous(f"an answer that is no order: {str(answer)[:200]}") from error
        except VenueUnavailable as error:
            raise VenueAmbiguous(f"it is not known whether the stop stands: {error}") from error
        if told.client_order_id != request.client_order_id:
            raise VenueAmbiguous(f"the answer is of another order: {told.client_order_id}")
        return told

    def _whole(self, answer: Any) -> VenueOrder:
        """One order; a pair with its leg, which not every answer shows. Raises VenueUnavailable or a MALFORMED."""
        if is_pair(answer) and not answer.get("legs"):
            path = f"/orders/{quote(str(answer['id']), safe='')}"
            shown = answer
            answer = self._offered(
                "order", lambda: wire.get(lambda: self._trading.get(path, {"nested": "true"})), lambda: shown
            )
        return self._pairs.order(answer)

    def cancel(self, venue_order_id: str) -> CancelResult:
        """A pair's leg goes with its parent; where that is over, as after the stop was met, the leg is asked for."""
        result = self._cancel(venue_order_id)
        if result.outcome is CancelOutcome.ALREADY_FINAL:
            for leg in self._pairs.parts(venue_order_id):
                result = CancelResult(venue_order_id, (found := self._cancel(leg)).outcome, found.message)
        return result

    def _cancel(self, venue_order_id: str) -> CancelResult:
        if not venue_order_id.strip("."):  # such a path would name the list of orders, and DELETE on that is cancel-all
            return CancelResult(venue_order_id, CancelOutcome.UNCONFIRMED, "not an order id")
        try:
            wire.call(lambda: self._trading.delete(f"/orders/{quote(venue_order_id, safe='')}"))
            return CancelResult(venue_order_id, CancelOutcome.REQUESTED)
        except (OrderNotFound, wire.Uncancelable) as error:
            return CancelResult(venue_order_id, CancelOutcome.ALREADY_FINAL, str(error))
        except VenueError as error:
            return CancelResult(venue_order_id, CancelOutcome.UNCONFIRMED, str(error))

    def cancel_all(self) -> list[CancelResult]:
        rows = wire.rows(lambda: self._trading.delete("/orders"))
        results: dict[str, CancelResult] = {}
        for told in wire.read(lambda: [mapping.cancel_row(row) for row in rows]):
            name = self._pairs.name(told.venue_order_id)
            if name == told.venue_order_id or told.outcome is CancelOutcome.UNCONFIRMED:
                results[name] = CancelResult(name, told.outcome, told.message)
        return list(results.values())

    def cancel_all_after(self, seconds: float) -> None:
        raise VenueUnavailable("Alpaca has no dead-man's switch")

    def open_orders(self) -> list[VenueOrder]:
        """A working order's finished legs, and the finished parent of working legs, are told but are not open."""
        try:
            found = self._orders({"status": "open"})
        except PartlyRead as error:
            raise PartlyRead(str(error), [o for o in error.found if o.state not in FINAL]) from error
        return [o for o in found if o.state not in FINAL]

    def orders_since(self, since: datetime) -> list[VenueOrder]:
        return self._orders({"status": "all", "after": rfc3339(since - timedelta(milliseconds=1))})

    def _orders(self, query: dict[str, Any]) -> list[VenueOrder]:
        """All pages, newest first as the API likes it, returned oldest first; legs stand beside their parents.

        A short page does not end the list, since legs are rolled up after the page is cut: a page without news does.
        Raises PartlyRead with what could be read.
        """
        found: list[VenueOrder] = []
        known: set[str] = set()
        page = {**query, "limit": ORDERS_PAGE, "direction": "desc", "nested": "true"}
        for _ in range(MAX_PAGES):
            rows: list[Any] = []
            try:
                rows = wire.rows(partial(self._trading.get, "/orders", page))
                told = wire.read(partial(self._pairs.orders, rows[::-1]))
            except VenueUnavailable as error:
                raise PartlyRead(str(error), self._readable(rows) + found) from error
            new = [o for o in told if o.venue_order_id not in known]
            known.update(o.venue_order_id for o in new)
            found = new + found
            if not new and len(rows) != ORDERS_PAGE:  # more than was asked for is all there is
                return found
            if not new:
                break
            page = {**page, "until": wire.read(partial(mapping.until, rows))}
        raise PartlyRead(f"no end of orders after {len(found)}", found)

    def _readable(self, rows: Sequence[Any]) -> list[VenueOrder]:
        """The orders of a page that can be read, whatever stands beside them; of others the id, where there is one."""
        found: list[VenueOrder] = []
        for row in reversed(rows):
            try:
                found += self._pairs.orders([row])
            except wire.MALFORMED:
                found += mapping.only_named(row)
        return found

    def order_by_client_id(self, client_order_id: str) -> VenueOrder:
        query = {"client_order_id": client_order_id}
        answer = wire.call(lambda: self._trading.get("/orders:by_client_order_id", query))
        told = wire.read(lambda: self._whole(answer))
        if told.client_order_id != client_order_id:
            raise VenueUnavailable(f"the answer is of another order: {told.client_order_id}")
        return told

    def fills_since(self, since: datetime) -> list[Execution]:
        query: dict[str, Any] = {"after": rfc3339(since), "direction": "asc", "page_size": ACTIVITIES_PAGE}
        fills: dict[str, Execution] = {}
        for _ in range(MAX_PAGES):
            ask = partial(wire.rows, partial(self._trading.get, "/account/activities/FILL", query))
            # Without the endpoint an order's cumulative figures tell all but the fees.
            rows = self._offered("fills", ask, list)
            told = map(self._fees.charged, wire.read(partial(mapping.fills_in, rows)))
            new = {f.execution_id: f for f in told if f.execution_id not in fills}
            fills |= new
            if not new and len(rows) != ACTIVITIES_PAGE:
                self._learn(list(fills.values()), since)
                return [self._pairs.fill(f) for f in fills.values()]
            if not new:
                break
            query = {**query, "page_token": rows[-1]["id"]}
        raise VenueUnavailable(f"no end of fills after {len(fills)}")

    def _learn(self, fills: Sequence[Execution], since: datetime) -> None:
        """Find the pairs that fills are of, which their rows do not tell. Raises VenueUnavailable."""

        def unknown() -> list[str]:
            sold = {f.venue_order_id for f in fills if f.side is Side.SELL}
            return sorted(name for name in sold if not self._pairs.knows(name))

        if unknown():
            self.orders_since(since)
        for name in unknown():
            placed = self._placed_at(name)
            if placed is not None:
                self.orders_since(placed - GROUP_TOLERANCE)
            if not self._pairs.knows(name):
                self._pairs.is_plain(name)

    def _placed_at(self, venue_order_id: str) -> datetime | None:
        """When the group was placed that an order is of, through all that it replaces; None where it is of none."""
        found: datetime | None = None
        for _ in range(MAX_PAGES):
            path = f"/orders/{quote(venue_order_id, safe='')}"
            try:
                row = wire.call(partial(self._trading.get, path))
                if row.get("order_class") not in PAIR_CLASSES:
                    return None
                found, venue_order_id = parse_rfc3339(row["created_at"]), str(row.get("replaces") or "")
            except (OrderNotFound, wire.NoSuchEndpoint):
                return found
            except wire.MALFORMED as error:
                raise VenueUnavailable(f"an answer from Alpaca that makes no sense: {error!r}") from error
            if not venue_order_id:
                break
        return found

    # -- account and market ---------------------------------------------------------------------------------------

    def positions(self) -> list[VenuePosition]:
        rows = wire.rows(lambda: self._trading.get("/positions"))
        return wire.read(lambda: [mapping.position(row) for row in rows])

    def account(self) -> AccountState:
        answer = wire.get(lambda: self._trading.get("/account"))
        told = wire.read(lambda: mapping.account(answer))
        self._fees.learn(answer)
        return told

    def clock(self) -> MarketClock:
        answer = wire.get(lambda: self._trading.get("/clock"))
        told = wire.read(lambda: mapping.clock(answer))
        return MarketClock(told.now, True) if self._crypto_only else told

    def instrument(self, ticker: str) -> Instrument:
        path = f"/assets/{quote(ticker, safe='')}"

        def ask() -> Instrument:
            answer = wire.get(lambda: self._trading.get(path))
            return wire.read(lambda: mapping.instrument(answer))

        if "/" in ticker:  # a coin's lot and tick cannot be guessed; whole shares at whole cents need no guess
            return ask()
        return self._offered("assets", ask, lambda: Instrument(ticker))

    def last_price(self, ticker: str) -> LastPrice:
        def ask() -> LastPrice:
            if "/" in ticker:
                body = self._data(self._crypto, "/crypto/us/latest/trades", {"symbols": ticker})
            else:
                body = self._data(self._stocks, "/stocks/trades/latest", {"symbols": ticker, "feed": self._feed})
            return wire.read(lambda: mapping.last_price(body["trades"][ticker]))

        return self._offered("trades", ask, lambda: self._price_from_bars(ticker))

    def _offered(self, name: str, ask: Callable[[], T], otherwise: Callable[[], T]) -> T:
        """An answer, or what does without it where the address has never offered this endpoint.

        Once it has, a 404 is a failure like any other. Raises VenueUnavailable.
        """
        try:
            answer = ask()
        except wire.NoSuchEndpoint:
            if name in self._seen:
                raise
            return otherwise()
        self._seen.add(name)
        return answer

    def _price_from_bars(self, ticker: str) -> LastPrice:
        """Without the endpoint of trades: the last minute's close, which is current until the next one is due."""
        now = self._clock.now()
        found = self.bars([ticker], 1, now + timedelta(minutes=1))[ticker]
        if not found or now - found[-1].start > BAR_IS_CURRENT:
            raise VenueUnavailable(f"{ticker}: neither a last trade nor a current bar")
        return LastPrice(Decimal(repr(found[-1].close)), now)

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

            wire.read(take)
            token = body.get("next_page_token")
            if not token:
                return
            query = {**query, "page_token": token}
        raise VenueUnavailable(f"more than {MAX_PAGES} pages of bars")

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
        for client in (self._trading, self._stocks, self._crypto):
            client._session.close()

    @staticmethod
    def _data(client: Any, path: str, query: dict[str, Any]) -> Any:
        body = wire.get(lambda: client.get(path, query))
        if not isinstance(body, dict):
            raise VenueUnavailable(f"{path}: an answer that makes no sense: {str(body)[:200]}")
        return body
