"""A stream bot on a pair whose fees are taken from what is credited, from entry to exit, at both venues."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from shared.keys import Keys
from shared.store import Store, connect
from tests.integration.bots.test_bots import begin, held
from tests.servers.alpaca import alpaca_server
from tests.servers.binance import BinanceServer
from tests.servers.bots import BotStack, Market, register_model
from tests.servers.exchange import PAIR, ExchangeServer
from tests.servers.stack import FREE_RISK, OFF, alpaca_environment, simulated_environment
from tests.support import RedisServer, eventually


class Ledger:
    """The venue's own word on what is held of the pair, its cash, and how many orders it has seen and refused."""

    def __init__(self, server: object) -> None:
        self._server = server

    @property
    def held(self) -> Decimal:
        server = self._server
        if isinstance(server, ExchangeServer):
            return server.engine.holding(PAIR).qty
        return server.held.get(PAIR, (Decimal(0), Decimal(0)))[0]  # type: ignore[attr-defined]

    @property
    def cash(self) -> Decimal:
        server = self._server
        return server.engine.book.cash if isinstance(server, ExchangeServer) else server.cash  # type: ignore[attr-defined]


@pytest.fixture(params=["simulated", "alpaca"])
def pair(
    request: pytest.FixtureRequest, tmp_path: Path, exchange: ExchangeServer, stream: BinanceServer
) -> Iterator[tuple[BotStack, Ledger]]:
    home, data = tmp_path / "home", tmp_path / "redis"
    home.mkdir()
    data.mkdir()
    redis = RedisServer(data)
    redis.start()
    with alpaca_server() as broker:
        venue = exchange if request.param == "simulated" else broker
        there = simulated_environment(exchange) if venue is exchange else alpaca_environment(broker)
        feed = {"BOT_FEED": "binance", "BINANCE_STREAM_URL": stream.url}
        stack = BotStack(home, redis, {**there, **feed}, CYCLE_SECONDS="600")
        try:
            stack.market = Market(stream, venue, PAIR)  # type: ignore[arg-type]
            stack.set("risk_settings", FREE_RISK)
            client = connect(redis.url)
            register_model(Store(client, Keys()))
            client.close()
            yield stack, Ledger(venue)
        finally:
            stack.close()
            redis.stop()


def test_bot_when_the_fee_is_taken_from_the_coin_sells_what_is_held_without_a_refusal_or_a_drift(
    pair: tuple[BotStack, Ledger],
) -> None:
    stack, ledger = pair
    begin(stack, symbol=PAIR)
    position = held(stack)
    assert Decimal(str(position["quantity"])) == ledger.held < Decimal(10)
    stack.market.trade(111.0)
    closed = stack.await_closed(1)
    stack.set("trading_settings", OFF)
    stack.await_status("active", False)
    assert closed["exit_reason"] == "TP_HIT"
    assert Decimal(closed["base_fees"]) == 10 - Decimal(position["quantity"])  # type: ignore[arg-type]
    assert Decimal(closed["dust"]) == ledger.held < Decimal("0.0001")
    assert Decimal(closed["realized_pnl"]) == ledger.cash - 100_000
    eventually(lambda: (stack.json("stats") or {}).get("wins") == 1, what="the win")
    assert Decimal(stack.json("stats")["exact"]["total_pnl"]) == ledger.cash - 100_000
    log = stack.trades()
    assert [(e["side"], e["status"]) for e in log[:2]] == [("buy", "filled"), ("sell", "filled")]
    assert Decimal(str(log[1]["qty"])) == Decimal(closed["sold_qty"])
    assert (stack.status("state"), stack.status("stop_reason")) != ("REDUCING", "reconcile_mismatch")
    assert "mismatch" not in stack.output("trading")
    eventually(lambda: stack.redis.scard("positions:open") == 0, what="nothing to be open")
