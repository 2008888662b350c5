"""Stream bots in real workers: every way out of a position, restarts, hot reload, refusals."""

from __future__ import annotations

import json
from decimal import Decimal

from tests.servers.bots import BotStack
from tests.servers.exchange import ExchangeServer
from tests.servers.stack import ON
from tests.support import eventually
from worker.core.types import OrderType, Side


def begin(stack: BotStack, **bot: object) -> None:
    """Bot 7 running, its sixty seconds seen, trading on."""
    stack.bot(7, **bot)
    stack.start("emergency", "trading")
    stack.set("trading_settings", ON)
    stack.await_status("active", True)
    eventually(lambda: (stack.bot_status(7).get("model") or {"problem": 1})["problem"] is None, what="the model")
    stack.market.warm_up()


def held(stack: BotStack, bot_id: int = 7) -> dict[str, object]:
    """The bot's position once it is active with its exit at the venue; not one that was closed before."""
    gone = {c["id"] for c in stack.closed()}

    def protected(status: dict[str, object]) -> list[dict[str, object]]:
        found: list[dict[str, object]] = status.get("positions") or []  # type: ignore[assignment]
        return [p for p in found if p["protected"] and p["id"] not in gone]

    return protected(stack.await_bot(bot_id, "an active position with its exit", protected))[0]


def sells(exchange: ExchangeServer) -> list[tuple[OrderType, str, str]]:
    """Working sells at the venue: type, quantity, limit."""
    return [(o.type, str(o.qty), str(o.limit_price)) for o in exchange.engine.working() if o.side is Side.SELL]


def test_bot_when_it_runs_leaves_positions_by_every_way_and_follows_changes_at_once(
    stack: BotStack, exchange: ExchangeServer
) -> None:
    begin(stack)
    position = held(stack)
    assert (Decimal(str(position["quantity"])), Decimal(str(position["entry_price"]))) == (10, 100)
    assert sells(exchange) == [(OrderType.LIMIT, "10", "110.00")]
    entry = next(o for o in exchange.engine.book.orders.values() if o.side is Side.BUY)
    assert (entry.type, entry.limit_price) == (OrderType.LIMIT, 100)
    # the target
    stack.market.trade(111)
    closed = stack.await_closed(1)
    assert (closed["exit_reason"], Decimal(closed["exit_price"]), closed["bot_id"]) == ("TP_HIT", 110, "7")
    assert closed["confidence"].startswith("0.")
    fees = sum(e.fee for e in exchange.engine.book.executions)
    assert Decimal(closed["realized_pnl"]) == 100 - fees
    # the stop-loss
    stack.market.trade(100)
    held(stack)
    stack.market.trade(94)
    closed = stack.await_closed(2)
    assert closed["exit_reason"] == "SL_HIT"
    # held too long, by a change that is in force without a restart
    stack.market.trade(100)
    held(stack)
    stack.bot(7, holding_time=0.5)
    assert stack.await_closed(3)["exit_reason"] == "TIMEOUT"
    # a person's will
    stack.bot(7)
    held(stack)
    stack.bot(7, close_positions=True)
    assert stack.await_closed(4)["exit_reason"] == "MANUAL"
    # a document that cannot be read changes nothing and says why
    stack.bot(7)
    position = held(stack)
    stack.bot(7, stop_loss_pct="0.05")
    status = stack.await_bot(7, "the error", lambda s: s.get("config_error"))
    assert status["config_error"].startswith("stop_loss_pct: ")
    assert "'0.05'" in status["config_error"]
    assert status["config"]["stop_loss_pct"] == 0.05
    assert [p["id"] for p in status["positions"]] == [position["id"]]
    # switched off with a position open: it is managed to its end, and nothing follows
    stack.bot(7, enabled=False, profit_target_pct=0.02)
    eventually(lambda: sells(exchange) == [(OrderType.LIMIT, "10", "102.00")], what="the target to move")
    stack.market.trade(103)
    assert stack.await_closed(5)["exit_reason"] == "TP_HIT"
    stack.market.trade(100)
    stack.await_bot(7, "off", lambda s: s["state"] == "off" and not s["positions"])
    orders = len(exchange.engine.book.orders)
    # deleted: nothing is left of it
    stack.redis.srem("bots", 7)
    stack.redis.delete("bot:7")
    eventually(lambda: stack.json("bot:7:status") is None, what="the status to go")
    assert len(exchange.engine.book.orders) == orders
    reasons = [json.loads(json.dumps(c))["exit_reason"] for c in stack.closed()]
    assert reasons == ["TP_HIT", "SL_HIT", "TIMEOUT", "MANUAL", "TP_HIT"]
