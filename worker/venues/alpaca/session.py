"""alpaca-py's REST client, tamed: timeouts, no re-sending, connections that ask the guard before they write."""

from __future__ import annotations

from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter
from urllib3 import PoolManager

from worker.venues.http import POOL_CLASSES, call_timeout

CONNECTIONS = 60
C = TypeVar("C")


class GuardedAdapter(HTTPAdapter):
    """requests over guarded pools, with a timeout on every call and no retry."""

    def __init__(self) -> None:
        super().__init__(pool_connections=4, pool_maxsize=CONNECTIONS, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        self.poolmanager = PoolManager(num_pools=connections, maxsize=maxsize, block=block, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOL_CLASSES

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        kwargs["timeout"] = call_timeout()
        response = super().send(request, **kwargs)
        if 300 <= response.status_code < 400:  # alpaca-py would take it for an empty success
            response.close()
            raise requests.TooManyRedirects(f"HTTP {response.status_code} from {request.url}", response=response)
        return response


def tame(client: C) -> C:
    """Take the retries and the endless waits out of an alpaca-py client. Its private names are held by a test."""
    inner: Any = client
    inner._retry = 0
    inner._retry_codes = []
    inner._session.trust_env = False
    for scheme in ("http://", "https://"):
        inner._session.mount(scheme, GuardedAdapter())
    return client
