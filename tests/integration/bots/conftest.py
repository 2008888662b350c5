"""Stacks whose bots listen to a Binance of the test's and trade at an exchange of the test's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.keys import Keys
from shared.store import Store, connect
from tests.servers.alpaca import AlpacaServer, alpaca_server
from tests.servers.binance import BinanceServer, binance_server
from tests.servers.bots import BotStack, Market, register_model
from tests.servers.exchange import ExchangeServer
from tests.servers.stack import FREE_RISK, alpaca_environment, simulated_environment
from tests.support import RedisServer


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[ExchangeServer]:
    yield from _exchange(tmp_path, partial=False)


@pytest.fixture
def slow_exchange(tmp_path: Path) -> Iterator[ExchangeServer]:
    """Fills by halves."""
    yield from _exchange(tmp_path, partial=True)


def _exchange(tmp_path: Path, *, partial: bool) -> Iterator[ExchangeServer]:
    server = ExchangeServer(tmp_path / "exchange", partial=partial)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def broker() -> Iterator[AlpacaServer]:
    with alpaca_server(tickers=("AAPL",)) as server:
        yield server


@pytest.fixture
def stocks(tmp_path: Path, broker: AlpacaServer, stream: BinanceServer) -> Iterator[BotStack]:
    """Bots that trade at an Alpaca of the test's."""
    with bot_stack(tmp_path, broker, stream) as made:
        yield made


@pytest.fixture
def stream() -> Iterator[BinanceServer]:
    with binance_server() as server:
        yield server


@contextmanager
def bot_stack(
    tmp_path: Path, exchange: ExchangeServer | AlpacaServer, stream: BinanceServer, *symbols: str
) -> Iterator[BotStack]:
    """With a model in the registry, and limits that do not get in the way."""
    home, data = tmp_path / "home", tmp_path / "redis"
    home.mkdir()
    data.mkdir()
    server = RedisServer(data)
    server.start()
    at = alpaca_environment(exchange) if isinstance(exchange, AlpacaServer) else simulated_environment(exchange)
    environment = {**at, "BOT_FEED": "binance", "BINANCE_STREAM_URL": stream.url}
    stack = BotStack(home, server, environment, CYCLE_SECONDS="600")
    try:
        stack.market = Market(stream, exchange, *symbols)
        stack.set("risk_settings", FREE_RISK)
        client = connect(server.url)
        register_model(Store(client, Keys()))
        client.close()
        yield stack
    finally:
        stack.close()
        server.stop()


@pytest.fixture
def stack(tmp_path: Path, exchange: ExchangeServer, stream: BinanceServer) -> Iterator[BotStack]:
    with bot_stack(tmp_path, exchange, stream) as made:
        yield made


@pytest.fixture
def two_symbols(tmp_path: Path, exchange: ExchangeServer, stream: BinanceServer) -> Iterator[BotStack]:
    with bot_stack(tmp_path, exchange, stream, "AAPL", "MSFT") as made:
        yield made


@pytest.fixture
def by_halves(tmp_path: Path, slow_exchange: ExchangeServer, stream: BinanceServer) -> Iterator[BotStack]:
    with bot_stack(tmp_path, slow_exchange, stream) as made:
        yield made
