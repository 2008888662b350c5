"""One call to Alpaca, and what its failure means: alpaca-py's and requests' exceptions end here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import quote

from shared.errors import (
    NotSent,
    OrderNotFound,
    VenueAmbiguous,
    VenueBusy,
    VenueError,
    VenueRejected,
    VenueUnavailable,
)
from worker.venues.alpaca import mapping
from worker.venues.base import SendGuard
from worker.venues.http import guarded

T = TypeVar("T")

MAX_PAGES = 200
BUSY = frozenset({429, 503})
LONGEST_WAIT_SECONDS = 60.0
"""Alpaca counts by the minute."""
MALFORMED = (KeyError, TypeError, ValueError, ArithmeticError, AttributeError)


class Uncancelable(VenueUnavailable):
    """422 to a cancel: the order is in a state that cannot be canceled, which is a final one."""


class NoSuchEndpoint(VenueUnavailable):
    """404 in other words than Alpaca's "this object does not exist": the address does not offer this endpoint."""


def order_path(venue_order_id: str) -> str:
    """Where one order is read and cancelled."""
    return f"/orders/{quote(venue_order_id, safe='')}"


def _failures() -> tuple[type[Exception], ...]:
    """Everything but an error answer that a call may raise; RecursionError is a body nested too deep."""
    import requests
    import urllib3

    return (requests.RequestException, urllib3.exceptions.HTTPError, ValueError, OSError, RecursionError)


def send(post: Callable[[], Any], guard: SendGuard) -> Any:
    """Make the one request of a new order. Raises NotSent, VenueRejected or VenueAmbiguous."""
    from alpaca.common.exceptions import APIError

    with guarded(guard) as sending:
        try:
            return post()
        except APIError as error:
            raise _submit_error(error) from error
        except _failures() as error:
            if not sending.started:
                raise NotSent(f"no connection to Alpaca: {error}") from error
            raise VenueAmbiguous(f"no usable answer from Alpaca: {error!r}") from error


def call(ask: Callable[[], Any]) -> Any:
    """Read or cancel. Raises VenueUnavailable, Uncancelable, or OrderNotFound on a structured 404."""
    from alpaca.common.exceptions import APIError

    try:
        return ask()
    except APIError as error:
        raise _read_error(error) from error
    except _failures() as error:
        raise VenueUnavailable(f"Alpaca does not answer: {error!r}") from error


def get(ask: Callable[[], Any]) -> Any:
    """Read what always exists, so that a 404 is a failure like any other. Raises VenueUnavailable."""
    try:
        return call(ask)
    except OrderNotFound as error:
        raise VenueUnavailable(f"HTTP 404: {error}") from error


def rows(ask: Callable[[], Any]) -> list[Any]:
    """Read a list; an object, a text or nothing at all is not an empty one. Raises VenueUnavailable."""
    found = get(ask)
    if not isinstance(found, list):
        raise VenueUnavailable(f"an answer from Alpaca that is no list: {str(found)[:200]}")
    return found


def read(load: Callable[[], T]) -> T:
    """Interpret an answer. Raises VenueUnavailable where it makes no sense."""
    try:
        return load()
    except MALFORMED as error:
        raise VenueUnavailable(f"an answer from Alpaca that makes no sense: {error!r}") from error


def _parts(error: Any) -> tuple[int, tuple[int, str] | None]:
    status = error.status_code
    return status if isinstance(status, int) else 0, mapping.structured(str(error))


def _submit_error(error: Any) -> VenueError:
    status, body = _parts(error)
    if body is None:
        return VenueAmbiguous(f"HTTP {status}: {str(error)[:200]}")
    code, message = body
    if mapping.DUPLICATE_ID.search(message):
        return VenueAmbiguous(f"the client order id exists, or so it seems: {message}")
    if mapping.is_final_refusal(status, code, message):
        return VenueRejected(message, str(code))
    return VenueAmbiguous(f"HTTP {status}, code {code}: {message}")


def _read_error(error: Any) -> VenueError:
    status, body = _parts(error)
    if status == 404 and (body is None or body[0] != mapping.NOT_FOUND_CODE or mapping.NO_ENDPOINT.search(body[1])):
        return NoSuchEndpoint(f"HTTP 404: {str(error)[:200]}")
    if status == 404 and body is not None:
        return OrderNotFound(body[1])
    if status == 422 and body is not None and body[0] == 42210000:
        return Uncancelable(body[1])
    told = f"HTTP {status}: {str(error)[:200]}"
    wait = _wait(error.response.headers) if status in BUSY and error.response is not None else 0.0
    return VenueBusy(told, wait) if wait > 0 else VenueUnavailable(told)


def _wait(headers: Mapping[str, str]) -> float:
    """Seconds to wait by ``Retry-After``, else by Alpaca's ``X-RateLimit-Reset`` in the server's own time
    (https://docs.alpaca.markets/docs/rate-limits); 0 where neither is told."""
    after = headers.get("Retry-After", "").strip()
    reset, date = headers.get("X-RateLimit-Reset", "").strip(), headers.get("Date", "")
    try:
        if after.isdecimal():
            wait = float(after)
        elif reset.isdecimal():
            wait = float(reset) - parsedate_to_datetime(date).timestamp()
        else:
            return 0.0
    except (ValueError, OverflowError):
        return 0.0
    return min(max(wait, 0.0), LONGEST_WAIT_SECONDS)
