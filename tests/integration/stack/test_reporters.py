"""Trading beside reporters that hang: not one order waits for them, and a stop from a phone waits for no job."""

from __future__ import annotations

from tests.integration.jobs.conftest import CHAT, environment
from tests.servers.exchange import ExchangeServer
from tests.servers.stack import FREE_RISK, ON, Stack
from tests.servers.telegram import TelegramServer
from tests.support import eventually


def test_trading_when_telegram_hangs_goes_on_and_its_stop_is_done_at_once(
    stack: Stack, exchange: ExchangeServer
) -> None:
    with TelegramServer() as chat:
        chat.lie("sendMessage", "slow")
        settings = {**environment(chat.url, ""), "REPORTERS": "telegram"}
        stack.start("emergency", "trading", "jobs", **settings)
        stack.set("risk_settings", FREE_RISK)
        stack.set("trading_settings", ON)
        stack.await_status("active", True)
        stack.trade_until(1, "filled", AAPL=0.08)
        eventually(lambda: chat.requests["sendMessage"], what="a report to hang")

        def sold() -> bool:
            stack.predict(AAPL=-0.08, MSFT=0.08)
            return len(stack.trades("filled")) >= 3

        eventually(sold, what=f"more orders: {stack.json('trades_log')} {stack.json('trading_status')}")
        assert all(exchange.submitted(trade["client_order_id"]) == 1 for trade in stack.trades("filled"))
        chat.say(CHAT, "/stop")
        stack.await_stopped("emergency_stop")
        stack.await_status("active", False)
        told = stack.redis.xrevrange("audit", count=1)[0][1]
        assert (told[b"from"], told[b"key"]) == (b"telegram", b"trading_settings")
        eventually(lambda: "FILLED SELL 1 AAPL" in str(chat.sent), 60, what=f"the word of the trades: {chat.sent}")
        eventually(
            lambda: "stop STOPPED: emergency_stop" in str(chat.sent), 60, what=f"the word of the stop: {chat.sent}"
        )
