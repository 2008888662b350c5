"""A stack whose bots listen to a Binance of the test's and trade at an exchange of the test's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.keys import Keys
from shared.store import Store, connect
from tests.servers.binance import BinanceServer, binance_server
from tests.servers.bots import BotStack, Market, register_model
from tests.servers.exchange import ExchangeServer, exchange_server
from tests.servers.stack import FREE_RISK, simulated_environment
from tests.support import RedisServer


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[ExchangeServer]:
    with exchange_server(tmp_path / "exchange") as server:
        yield server


@pytest.fixture
def stream() -> Iterator[BinanceServer]:
    with binance_server() as server:
        yield server


@pytest.fixture
def stack(tmp_path: Path, exchange: ExchangeServer, stream: BinanceServer) -> Iterator[BotStack]:
    home, data = tmp_path / "home", tmp_path / "redis"
    home.mkdir()
    data.mkdir()
    server = RedisServer(data)
    server.start()
    environment = {**simulated_environment(exchange), "BOT_FEED": "binance", "BINANCE_STREAM_URL": stream.url}
    stack = BotStack(home, server, environment, CYCLE_SECONDS="600")
    stack.market = Market(stream, exchange)
    stack.set("risk_settings", FREE_RISK)
    client = connect(server.url)
    register_model(Store(client, Keys()))
    client.close()
    yield stack
    stack.close()
    server.stop()
