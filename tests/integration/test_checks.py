"""The health of services that are not the venue: true only for an answer that a good key gets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from shared.clock import ManualClock
from shared.config import Config
from tests.builders import NOW
from tests.servers.base import ProtocolServer
from tests.servers.market import KEY
from worker.heartbeat.checks import SELDOM_SECONDS, probes_of

SERVICES = ("finnhub", "grok", "yfinance")


class Services(ProtocolServer):
    """All three behind one address; only the right key is let in."""

    async def reply(self, request: web.Request, body: bytes) -> web.StreamResponse:
        keys = (request.headers.get("X-Finnhub-Token"), request.headers.get("Authorization"))
        good = request.path.startswith("/v8/") or keys in ((KEY, None), (None, f"Bearer {KEY}"))
        return web.json_response({"ok": good}, status=200 if good else 401)


@pytest.fixture
def services() -> Iterator[Services]:
    with Services() as running:
        yield running


def config(services: Services, key: str = KEY) -> Config:
    urls: dict[str, Any] = dict.fromkeys(("finnhub_url", "grok_base_url", "yfinance_url"), services.url)
    return Config(_env_file=None, market_data="yfinance", finnhub_api_key=key, grok_api_key=key, **urls)


def test_checks_when_nothing_is_configured_are_none() -> None:
    assert set(probes_of(Config(_env_file=None), ManualClock(NOW))) == {"venue"}


@pytest.mark.parametrize("name", SERVICES)
def test_check_when_the_service_answers_is_good_and_asks_seldom(services: Services, name: str) -> None:
    clock = ManualClock(NOW)
    probe = probes_of(config(services), clock)[name]
    for _ in range(3):
        probe()
    assert services.requests.total() == 1
    clock.advance(SELDOM_SECONDS)
    probe()
    assert services.requests.total() == 2


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("lie", [401, 429, 500, "", "<html>", '"API limit reached"', "reset"])
def test_check_when_the_service_refuses_fails_and_is_asked_again(services: Services, name: str, lie: Any) -> None:
    services.always = lie
    probe = probes_of(config(services), ManualClock(NOW))[name]
    for _ in range(2):
        with pytest.raises(Exception, match=r".") as caught:
            probe()
        assert KEY not in str(caught.value)
    assert services.requests.total() == 2


@pytest.mark.parametrize("name", ["finnhub", "grok"])
def test_check_when_the_key_is_wrong_fails(services: Services, name: str) -> None:
    probe = probes_of(config(services, "wrong"), ManualClock(NOW))[name]
    with pytest.raises(Exception, match="401"):
        probe()
