"""Stacks over either venue; each with a Redis of its own, since it may be killed."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.servers.alpaca import AlpacaServer, alpaca_server
from tests.servers.exchange import ExchangeServer, exchange_server
from tests.servers.stack import FREE_RISK, Stack, alpaca_environment, simulated_environment
from tests.support import RedisServer


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[ExchangeServer]:
    with exchange_server(tmp_path / "exchange") as server:
        yield server


@pytest.fixture
def broker() -> Iterator[AlpacaServer]:
    with alpaca_server() as server:
        for ticker in ("AAPL", "MSFT"):
            server.set_price(ticker, Decimal("100.00"))
        yield server


def _stack(tmp_path: Path, environment: dict[str, str], **settings: str) -> Iterator[Stack]:
    home, data = tmp_path / "home", tmp_path / "redis"
    home.mkdir()
    data.mkdir()
    server = RedisServer(data)
    server.start()
    stack = Stack(home, server, environment, **settings)
    yield stack
    stack.close()
    server.stop()


@pytest.fixture
def stack(tmp_path: Path, exchange: ExchangeServer) -> Iterator[Stack]:
    """Over the simulated venue."""
    yield from _stack(tmp_path, simulated_environment(exchange))


@pytest.fixture
def resting(tmp_path: Path, exchange: ExchangeServer) -> Iterator[Stack]:
    """Over the simulated venue, with limit orders far from the market, so that they rest."""
    yield from _stack(tmp_path, simulated_environment(exchange), ORDER_TYPE="limit", LIMIT_OFFSET_PCT="0.2")


@pytest.fixture
def stocks(tmp_path: Path, broker: AlpacaServer) -> Iterator[Stack]:
    """Over Alpaca, with limits that do not get in the way."""
    for stack in _stack(tmp_path, alpaca_environment(broker)):
        stack.set("risk_settings", FREE_RISK)
        yield stack
