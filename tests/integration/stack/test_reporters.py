"""Trading beside reporters that hang: not one order waits for them, and a stop from a phone waits for no job."""

from __future__ import annotations

from tests.integration.jobs.conftest import CHAT, environment
from tests.servers.alpaca import AlpacaServer
from tests.servers.stack import ON, Stack
from tests.servers.telegram import TelegramServer
from tests.support import eventually


def test_trading_when_telegram_hangs_goes_on_and_its_stop_is_done_at_once(stocks: Stack, broker: AlpacaServer) -> None:
    with TelegramServer() as chat:
        chat.lie("sendMessage", "slow")
        settings = {**environment(chat.url, ""), "REPORTERS": "telegram"}
        stocks.start("emergency", "trading", "jobs", **settings)
        stocks.set("trading_settings", ON)
        stocks.await_status("active", True)
        stocks.trade_until(1, "filled", AAPL=0.08)
        eventually(lambda: chat.requests["sendMessage"], what="a report to hang")
        broker.set_price("AAPL", "103.50")

        def sold() -> bool:
            stocks.predict(AAPL=-0.08, MSFT=0.08)
            return len(stocks.trades("filled")) >= 3

        eventually(sold, what=f"more orders: {stocks.json('trades_log')} {stocks.json('trading_status')}")
        assert set(broker.posts.values()) == {1}
        chat.say(CHAT, "/stop")
        stocks.await_stopped("emergency_stop")
        stocks.await_status("active", False)
        told = stocks.redis.xrevrange("audit", count=1)[0][1]
        assert (told[b"from"], told[b"key"]) == (b"telegram", b"trading_settings")
        eventually(lambda: "FILLED SELL 1 AAPL" in str(chat.sent), 60, what=f"the word of the trades: {chat.sent}")
        eventually(
            lambda: "stop STOPPED: emergency_stop" in str(chat.sent), 60, what=f"the word of the stop: {chat.sent}"
        )
