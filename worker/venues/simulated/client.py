"""The simulated venue as the workers see it: the port over loopback HTTP, order updates over a websocket."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import urllib3

from shared.accounts import AccountConfig
from shared.clock import Clock, parse_rfc3339
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
from worker.venues.base import CancelOutcome, CancelResult, Capabilities, PartlyRead, SendGuard
from worker.venues.http import guarded, pool_manager
from worker.venues.simulated.codec import (
    decimal,
    dump_request,
    load_execution,
    load_order,
    load_position,
    load_update,
    time_text,
)
from worker.venues.simulated.token import venue_token
from worker.venues.stream import ReconnectingStream

CONNECTIONS = 60
T = TypeVar("T")

_MALFORMED = (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError)
"""RecursionError is a body nested too deep."""


class SimulatedVenue:
    """See ``venues.base.Venue``."""

    name = "simulated"
    mode = "simulated"
    capabilities = Capabilities(dead_man_switch=True, protective_pairs=True)

    def __init__(self, url: str, token: str, clock: Clock) -> None:
        self._url, self._clock = url.rstrip("/"), clock
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._manager = pool_manager(CONNECTIONS)
        self._pool = self._manager.connection_from_url(self._url)
        self._path = urlsplit(self._url).path

    @classmethod
    def from_account(cls, account: AccountConfig, clock: Clock) -> SimulatedVenue:
        """Raises ConfigError where no address is set."""
        if account.url is None:
            raise ConfigError(f"{account.variable('url')} is missing")
        return cls(account.url, venue_token(account), clock)

    # -- orders ---------------------------------------------------------------------------------------------------

    def submit(self, request: OrderRequest, guard: SendGuard) -> VenueOrder:
        body = json.dumps(dump_request(request)).encode()
        with guarded(guard) as sending:
            try:
                answer = self._send("POST", "/orders", body)
            except urllib3.exceptions.HTTPError as error:
                if not sending.started:
                    raise NotSent(f"no connection to the simulated venue: {error}") from error
                raise VenueAmbiguous(f"no usable answer: {error}") from error
        if answer.status == 422:
            refusal = _refusal(answer)
            if refusal is not None:
                raise VenueRejected(refusal[1], refusal[0])
        if answer.status != 201:
            raise VenueAmbiguous(f"HTTP {answer.status}: {answer.data[:200]!r}")
        try:
            told = load_order(answer.json())
        except _MALFORMED as error:
            raise VenueAmbiguous(f"an answer that is no order: {answer.data[:200]!r}") from error
        if told.client_order_id != request.client_order_id:
            raise VenueAmbiguous(f"the answer is of another order: {told.client_order_id}")
        return told

    def cancel(self, venue_order_id: str) -> CancelResult:
        try:
            answer = self._call("DELETE", f"/orders/{quote(venue_order_id, safe='')}")
            return CancelResult(venue_order_id, CancelOutcome(answer["outcome"]))
        except OrderNotFound:
            return CancelResult(venue_order_id, CancelOutcome.ALREADY_FINAL)
        except (VenueError, *_MALFORMED) as error:
            return CancelResult(venue_order_id, CancelOutcome.UNCONFIRMED, str(error))

    def cancel_all(self) -> list[CancelResult]:
        rows = self._rows("DELETE", "/orders")
        return _read(lambda: [CancelResult(str(r["venue_order_id"]), CancelOutcome(r["outcome"])) for r in rows])

    def cancel_all_after(self, seconds: float) -> None:
        self._call("POST", f"/orders/cancel-after?{urlencode({'seconds': seconds})}")

    def open_orders(self) -> list[VenueOrder]:
        rows = self._rows("GET", "/orders")
        try:
            return _read(lambda: [load_order(r) for r in rows])
        except VenueUnavailable as error:
            raise PartlyRead(str(error), list(_readable(rows))) from error

    def orders_since(self, since: datetime) -> list[VenueOrder]:
        rows = self._rows("GET", f"/orders?{urlencode({'since': time_text(since)})}")
        return _read(lambda: [load_order(r) for r in rows])

    def order_by_client_id(self, client_order_id: str) -> VenueOrder:
        row = self._call("GET", f"/orders/by-client-id/{quote(client_order_id, safe='')}")
        told = _read(lambda: load_order(row))
        if told.client_order_id != client_order_id:
            raise VenueUnavailable(f"the answer is of another order: {told.client_order_id}")
        return told

    def fills_since(self, since: datetime) -> list[Execution]:
        rows = self._rows("GET", f"/fills?{urlencode({'since': time_text(since)})}")
        return _read(lambda: [load_execution(r) for r in rows])

    # -- account and market ---------------------------------------------------------------------------------------

    def positions(self) -> list[VenuePosition]:
        rows = self._rows("GET", "/positions")
        return _read(lambda: [load_position(r) for r in rows])

    def account(self) -> AccountState:
        row = self._call("GET", "/account")
        return _read(lambda: AccountState(decimal(row["equity"]), decimal(row["cash"]), decimal(row["buying_power"])))

    def clock(self) -> MarketClock:
        row = self._call("GET", "/clock")
        return _read(lambda: MarketClock(parse_rfc3339(row["now"]), row["is_open"] is True))

    def instrument(self, ticker: str) -> Instrument:
        row = self._known_ticker(f"/instruments/{quote(ticker, safe='')}", ticker)
        return _read(
            lambda: Instrument(
                row["ticker"],
                decimal(row["lot_size"]),
                decimal(row["tick_size"]),
                protective_pair=row.get("protective_pair") is True,
            )
        )

    def last_price(self, ticker: str) -> LastPrice:
        row = self._known_ticker(f"/prices/{quote(ticker, safe='')}", ticker)
        last = _read(lambda: LastPrice(decimal(row["price"]), parse_rfc3339(row["time"])))
        if last.price <= Decimal(0):
            raise VenueUnavailable(f"{ticker}: {last.price} is no price")
        return last

    def bars(self, tickers: Sequence[str], count: int, until: datetime) -> dict[str, list[Bar]]:
        query = urlencode({"tickers": ",".join(tickers), "count": count, "until": time_text(until)})
        rows = self._call("GET", f"/bars?{query}")
        return _read(lambda: {t: [Bar(parse_rfc3339(r[0]), *map(float, r[1:])) for r in rows[t]] for t in tickers})

    def stream_updates(self, on_update: Callable[[OrderUpdate], None]) -> ReconnectingStream:
        url = self._url.replace("http", "ws", 1) + "/updates"
        stream = ReconnectingStream(
            url,
            {"Authorization": self._headers["Authorization"]},
            lambda text: on_update(load_update(json.loads(text))),
        )
        stream.start()
        return stream

    def close(self) -> None:
        self._manager.clear()

    # -- wire -----------------------------------------------------------------------------------------------------

    def _known_ticker(self, path: str, ticker: str) -> Any:
        try:
            return self._call("GET", path)
        except OrderNotFound as error:
            raise VenueUnavailable(f"{ticker} is not traded here") from error

    def _send(self, method: str, path: str, body: bytes | None = None) -> urllib3.BaseHTTPResponse:
        """Through the pool of the one host there is: a manager would look for it anew at each request."""
        return self._pool.urlopen(
            method, self._path + path, body, self._headers, retries=False, redirect=False, assert_same_host=False
        )

    def _rows(self, method: str, path: str) -> list[Any]:
        """A list; an object or a text is not an empty one. Raises VenueUnavailable."""
        found = self._call(method, path)
        if not isinstance(found, list):
            raise VenueUnavailable(f"{path}: an answer that is no list: {str(found)[:200]}")
        return found

    def _call(self, method: str, path: str) -> Any:
        try:
            answer = self._send(method, path)
        except urllib3.exceptions.HTTPError as error:
            raise VenueUnavailable(f"the simulated venue does not answer: {error}") from error
        if answer.status == 404 and _refusal(answer) is not None:
            raise OrderNotFound(f"{path}: not there")
        if answer.status != 200:
            raise VenueUnavailable(f"HTTP {answer.status}: {answer.data[:200]!r}")
        try:
            return answer.json()
        except (ValueError, RecursionError) as error:
            raise VenueUnavailable(f"an answer that is not JSON: {answer.data[:200]!r}") from error


def _refusal(answer: Any) -> tuple[str, str] | None:
    """Code and message of a structured refusal, else None."""
    try:
        found = answer.json()
        return str(found["code"]), str(found["message"])
    except _MALFORMED:
        return None


def _readable(rows: list[Any]) -> Iterator[VenueOrder]:
    for row in rows:
        with suppress(*_MALFORMED):
            yield load_order(row)


def _read(load: Callable[[], T]) -> T:
    try:
        return load()
    except _MALFORMED as error:
        raise VenueUnavailable(f"an answer that makes no sense: {error!r}") from error
