"""A market for stream bots under test: Binance's stream and the exchange's prices moved together, and a model that buys
in one range of prices."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from functools import cache
from typing import Any

from shared.clock import SystemClock
from shared.control import Actor
from shared.store import Store
from tests.servers.alpaca import AlpacaServer
from tests.servers.binance import BinanceServer, trade_frame
from tests.servers.exchange import ExchangeServer
from tests.servers.stack import Stack
from tests.support import eventually
from worker.core.features import FEATURE_NAMES, FEATURE_VERSION
from worker.models.booster import import_lightgbm
from worker.models.registry import ModelRegistry

SYMBOL = "AAPL"
BUYS_ABOVE, BUYS_BELOW = 99.5, 105.0
"""Closes between which the model is sure; elsewhere it is sure of the contrary."""

BOT = {
    "name": "test bot",
    "kind": "stream",
    "enabled": True,
    "symbol": SYMBOL,
    "account": "default",
    "model_id": 1,
    "confidence_threshold": 0.6,
    "capital_per_trade": 1000,
    "holding_time": 600,
    "profit_target_pct": 0.1,
    "stop_loss_pct": 0.05,
    "maker_order_timeout": 60,
    "max_positions": 1,
}


@cache
def model_text() -> str:
    """LightGBM's own text of a model that looks at the close only."""
    import numpy as np

    lightgbm = import_lightgbm()
    dice = np.random.default_rng(6)
    rows = dice.normal(size=(400, len(FEATURE_NAMES)))
    rows[:, 0] = np.linspace(80, 125, 400)
    labels = ((rows[:, 0] > BUYS_ABOVE) & (rows[:, 0] < BUYS_BELOW)).astype(float)
    data = lightgbm.Dataset(rows, labels, feature_name=list(FEATURE_NAMES), params={"verbosity": -1})
    parameters = {
        "objective": "binary", "num_threads": 1, "verbosity": -1, "num_leaves": 4, "min_data_in_leaf": 5, "seed": 6,
        "deterministic": True, "learning_rate": 0.5,
    }  # fmt: skip
    return lightgbm.train(parameters, data, 20).model_to_string()


def register_model(store: Store) -> int:
    """The model in the registry, valid."""
    facts = {
        "num_features": len(FEATURE_NAMES),
        "feature_names": list(FEATURE_NAMES),
        "feature_version": FEATURE_VERSION,
        "objective": "binary",
        "trees": 20,
        "status": "valid",
        "reason": None,
        "metrics": {},
    }
    registry = ModelRegistry(store, SystemClock())
    number: int = registry.add(model_text().encode(), "test", "*", facts, Actor("test", "test"))["id"]
    return number


class Market:
    """Prices of some symbols, told by the stream and pinned at the exchange."""

    def __init__(self, stream: BinanceServer, exchange: ExchangeServer | AlpacaServer, *symbols: str) -> None:
        self.stream, self.exchange, self.symbols = stream, exchange, symbols or (SYMBOL,)
        self._number = 0
        self._last_ms = 0
        self.price = dict.fromkeys(self.symbols, 100.0)
        self.sent: list[tuple[int, str]] = []
        self.premium = 0.0
        """How much dearer the exchange is than the stream: above 0, limit buys rest."""
        for symbol in self.symbols:
            exchange.set_price(symbol, Decimal(100))

    def _send(self, symbol: str, price: float, at_ms: int, *, taker_sold: bool) -> None:
        self._number += 1
        frame = trade_frame(self._number, price, at_ms, s=symbol.replace("/", ""), m=taker_sold)
        self.sent.append((time.time_ns(), frame))
        self.stream.send(frame)

    def warm_up(self, seconds: int = 64) -> None:
        """A minute of trades at the present price, as a source sends them that has fallen behind."""
        eventually(lambda: self.stream.connections, what="a feed to subscribe")
        now_ms = int(time.time() * 1000)
        for back in range(seconds, -1, -1):
            for symbol in self.symbols:
                self._send(symbol, self.price[symbol], now_ms - back * 1000, taker_sold=True)
        self._last_ms = now_ms

    def trade(self, price: float | None = None, symbol: str | None = None) -> None:
        """One trade now, at the exchange too."""
        symbol = symbol or self.symbols[0]
        price = self.price[symbol] if price is None else price
        self.price[symbol] = price
        self.exchange.set_price(symbol, Decimal(str(price + self.premium)))
        self._last_ms = max(int(time.time() * 1000), self._last_ms)
        self._send(symbol, price, self._last_ms, taker_sold=True)


class BotStack(Stack):
    """An installation with bots."""

    market: Market

    def bot(self, bot_id: int, **fields: Any) -> None:
        """Write a bot's document, as any frontend could."""
        self.set(f"bot:{bot_id}", json.dumps({"bot_id": bot_id, **BOT, **fields}))
        self.redis.sadd("bots", bot_id)

    def bot_status(self, bot_id: int) -> dict[str, Any]:
        found = self.json(f"bot:{bot_id}:status")
        return found if isinstance(found, dict) else {}

    def bot_positions(self, bot_id: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.bot_status(bot_id).get("positions") or []
        return found

    def closed(self) -> list[dict[str, str]]:
        """Closed positions, oldest first."""
        names = self.redis.zrange("positions:closed", 0, -1)
        hashes = [self.redis.hgetall(b"position:" + name) for name in names]  # type: ignore[union-attr]
        return [{k.decode(): v.decode() for k, v in h.items()} for h in hashes]  # type: ignore[union-attr]

    def await_closed(self, count: int) -> dict[str, str]:
        """The newest of that many closed positions."""
        eventually(
            lambda: len(self.closed()) >= count,
            what=f"{count} closed positions",
            tell=lambda: f"{self.json('stop_report')} {self.json('bot:7:status')} {self.output('trading')[-3000:]}",
        )
        return self.closed()[-1]

    def await_bot(self, bot_id: int, what: str, condition: Any) -> dict[str, Any]:
        """The status once it fulfils the condition; the market trades on meanwhile."""

        def done() -> bool:
            if self.market.stream.connections:
                for symbol in self.market.symbols:
                    self.market.trade(symbol=symbol)
            time.sleep(0.05)
            return bool(condition(self.bot_status(bot_id)))

        eventually(done, what=what, tell=lambda: f"{self.bot_status(bot_id)} {self.output('trading')[-3000:]}")
        return self.bot_status(bot_id)
