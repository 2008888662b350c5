"""Stream bots in real workers: every way out of a position, restarts, hot reload, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from http import HTTPStatus
from pathlib import Path

from shared.bots import default_bot, judge_bot
from shared.clock import SystemClock
from tests.builders import switches
from tests.servers.bots import BOT, BotStack, model_text
from tests.servers.exchange import ExchangeServer
from tests.servers.stack import FREE_RISK, OFF, ON
from tests.support import eventually
from worker.core.features import FEATURE_NAMES, FEATURE_VERSION
from worker.core.orders import Order
from worker.core.types import Instrument, OrderState, OrderType, Side
from worker.feeds.trade_files import read_files
from worker.predictors.row import load_row_predictor
from worker.replay.bot_report import bot_report
from worker.replay.bots import BotReplay, BotReplayOptions
from worker.trading.ports import Switches
from worker.trading.records import read_order


def kept_orders(stack: BotStack) -> list[Order]:
    """Every order of the session as Redis holds it, in the order of its intents. One that was not sent, since this
    machine let the trader wait too long between the gate and the venue, was decided again and is none of the session.
    """
    names = [*stack.redis.zrange("orders:history", 0, -1), *stack.redis.smembers("orders:open")]  # type: ignore[misc]
    found = [read_order(stack.redis.hgetall(b"order:" + name)) for name in names]  # type: ignore[arg-type]
    return sorted((o for o in found if o.state is not OrderState.NOT_SENT), key=lambda o: o.created_at)


def told(order: Order) -> tuple[object, ...]:
    """What must be the same in a replay: all but names and times."""
    price = order.avg_fill_price
    return (
        order.side, order.effect, order.type, order.qty, order.limit_price, order.state, order.exit_reason,
        order.confidence, None if price is None else price.normalize(), order.reason,
    )  # fmt: skip


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
    # held too long, by a change that is in force without a restart; off, so that it is not in again at once
    stack.bot(7, holding_time=0.5, enabled=False)
    closed = stack.await_closed(1)
    assert (closed["exit_reason"], closed["bot_id"]) == ("TIMEOUT", "7")
    assert closed["confidence"].startswith("0.")
    fees = sum(e.fee for e in exchange.engine.book.executions)
    bought, sold = Decimal(closed["bought_notional"]), Decimal(closed["sold_notional"])
    assert Decimal(closed["realized_pnl"]) == sold - bought - fees
    # a person's will
    stack.bot(7)
    held(stack)
    stack.bot(7, close_positions=True)
    assert stack.await_closed(2)["exit_reason"] == "MANUAL"
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
    assert stack.await_closed(3)["exit_reason"] == "TP_HIT"
    stack.market.trade(100)
    stack.await_bot(7, "off", lambda s: s["state"] == "off" and not s["positions"])
    orders = len(exchange.engine.book.orders)
    # deleted: nothing is left of it
    stack.redis.srem("bots", 7)
    stack.redis.delete("bot:7")
    eventually(lambda: stack.json("bot:7:status") is None, what="the status to go")
    assert len(exchange.engine.book.orders) == orders
    assert [c["exit_reason"] for c in stack.closed()] == ["TIMEOUT", "MANUAL", "TP_HIT"]


def test_session_when_its_recording_is_replayed_has_the_same_orders_one_by_one(
    stack: BotStack, exchange: ExchangeServer, tmp_path: Path
) -> None:
    """Live and replay are one code: what was decided on these messages is decided on them again."""
    begin(stack)
    reasons = []
    for price in (111.0, 94.0, 94.5, 112.0):
        held(stack)
        stack.market.trade(price)
        reasons.append(stack.await_closed(len(reasons) + 1)["exit_reason"])
        for _ in range(3):
            stack.market.trade()
        if len(reasons) < 4:
            stack.market.trade(100)
    assert reasons == ["TP_HIT", "SL_HIT", "SL_HIT", "TP_HIT"]
    stack.set("trading_settings", OFF)
    live = kept_orders(stack)
    recording = tmp_path / "session.txt"
    recording.write_text("".join(f"{at} {frame}\n" for at, frame in stack.market.sent))
    settings = judge_bot(7, json.dumps({"bot_id": 7, **BOT}).encode(), default_bot(7)).value
    reports = []
    for _ in range(2):
        model = load_row_predictor(model_text(), "test", FEATURE_NAMES, str(FEATURE_VERSION))
        trades = list(read_files([recording]))
        run = BotReplay(
            trades, settings, model, free_switches(), BotReplayOptions(), Instrument("AAPL", protective_pair=True)
        )
        result = run.run(lambda _done: None)
        assert [told(o) for o in result.ledger.orders()] == [told(o) for o in live]
        reports.append(json.dumps(bot_report(result, {}, [])))
    assert reports[0] == reports[1]
    pnl = sum((Decimal(c["realized_pnl"]) for c in stack.closed()), Decimal(0))
    assert result.ledger.stats().total.pnl == pnl


def free_switches() -> Switches:
    return switches(json.loads(FREE_RISK))


def restart(stack: BotStack, while_dead: Callable[[], object]) -> None:
    """Kill the trader and start another; the feed's sixty seconds are there again."""
    stack.kill("trading")
    eventually(lambda: stack.market.stream.connections == 0, what="the dead trader's connection to end")
    while_dead()
    stack.start("trading")
    eventually(lambda: (stack.bot_status(7).get("model") or {"problem": 1})["problem"] is None, what="the model")
    stack.market.warm_up()


def now() -> datetime:
    return SystemClock().now()


def orders_of(exchange: ExchangeServer, side: Side) -> list[str]:
    return [o.client_order_id or "" for o in exchange.engine.book.orders.values() if o.side is side]


def test_bot_when_its_trader_is_killed_in_any_state_goes_on_with_exits_before_entries(
    stack: BotStack, exchange: ExchangeServer
) -> None:
    stack.market.premium = 1.0
    begin(stack)
    # pending: the entry is found again and waited for; what fills meanwhile has its exit at once
    stack.await_bot(7, "a pending entry", lambda s: s.get("positions"))
    eventually(lambda: len(exchange.engine.working()) == 1, what="the entry at the venue")
    stack.kill("trading")
    exchange.set_price("AAPL", Decimal(100))
    stack.start("trading")
    eventually(lambda: sells(exchange) == [(OrderType.LIMIT, "10", "110.00")], what="an exit for what filled")
    assert len(orders_of(exchange, Side.BUY)) == 1
    # active, and while nobody looked its exit was cancelled: another one comes before any entry
    stack.bot(7, max_positions=2)
    before = len(exchange.engine.book.orders)
    restart(stack, lambda: [exchange.engine.cancel(o.venue_order_id, now()) for o in exchange.engine.working()])
    stack.await_bot(7, "an exit and an entry", lambda _s: len(exchange.engine.book.orders) > before + 1)
    after = list(exchange.engine.book.orders.values())[before:]
    assert [o.side for o in after[:2]] == [Side.SELL, Side.BUY]
    # the entry that does not fill is cancelled
    stack.bot(7, max_positions=2, maker_order_timeout=0.5)
    stack.await_bot(7, "the entry to expire", lambda s: s["counters"]["expired"] >= 1)
    # closing at market when it is killed: it is closed once
    stack.bot(7, enabled=False, maker_order_timeout=60)
    stack.await_bot(7, "the first position alone", lambda s: len(s["positions"]) == 1)
    stack.bot(7, close_positions=True, enabled=False)
    eventually(lambda: any(o.type is OrderType.MARKET for o in exchange.engine.book.orders.values()), what="the close")
    stack.kill("trading")
    stack.start("trading")
    assert stack.await_closed(1)["exit_reason"] == "MANUAL"
    assert exchange.engine.holding("AAPL").qty == 0
    assert len(orders_of(exchange, Side.SELL)) == len(set(orders_of(exchange, Side.SELL)))


def test_bot_when_fills_come_in_parts_sizes_its_exit_and_when_a_stop_comes_is_silent_until_it_is_lifted(
    by_halves: BotStack, slow_exchange: ExchangeServer
) -> None:
    stack, exchange = by_halves, slow_exchange
    begin(stack)
    eventually(lambda: exchange.engine.holding("AAPL").qty == 10, what="the whole entry")
    eventually(lambda: [s[1] for s in sells(exchange)] == ["10"], what="an exit for all that is held")
    resized = [o for o in exchange.engine.book.orders.values() if o.side is Side.SELL]
    assert [o.state for o in resized[:-1]] == [OrderState.CANCELED] * (len(resized) - 1)
    assert len(resized) > 1
    assert stack.trades("rejected") == []
    position = held(stack)
    # the stop
    stack.set("trading_settings", OFF)
    stack.await_stopped()
    assert sells(exchange) == []
    orders = len(exchange.engine.book.orders)
    stack.await_bot(7, "a count of what is unprotected", lambda s: s["unprotected_seconds_total"] > 1)
    assert len(exchange.engine.book.orders) == orders
    stack.set("trading_settings", ON)
    assert held(stack)["id"] == position["id"]
    after = list(exchange.engine.book.orders.values())[orders:]
    assert [(o.side, o.limit_price) for o in after] == [(Side.SELL, Decimal(110))]
    # flattened: closed by the stop
    stack.set("risk_settings", FREE_RISK[:-1] + ', "on_stop": "flatten"}')
    memory = stack.home / "run" / "emergency-default.json"
    eventually(lambda: '"on_stop": "flatten"' in memory.read_text(), what="the emergency worker to know the policy")
    stack.set("trading_settings", OFF)
    assert stack.await_closed(1)["exit_reason"] == "STOP"
    assert exchange.engine.holding("AAPL").qty == 0
    stack.await_bot(7, "nothing open", lambda s: not s["positions"])


def test_bots_when_several_run_in_one_worker_do_not_stand_in_each_others_way(
    two_symbols: BotStack, exchange: ExchangeServer
) -> None:
    stack = two_symbols
    stack.bot(8, symbol="MSFT")
    stack.bot(9, symbol="AAPL", capital_per_trade=500, profit_target_pct=0.2)
    stack.bot(10, account="nowhere")
    stack.bot(11, model_id=5)
    begin(stack)
    for bot_id in (7, 8, 9):
        assert held(stack, bot_id)["phase"] == "active"
    assert sorted(sells(exchange)) == [
        (OrderType.LIMIT, "10", "110.00"),
        (OrderType.LIMIT, "10", "110.00"),
        (OrderType.LIMIT, "5", "120.00"),
    ]
    eventually(lambda: str(stack.bot_status(10).get("config_error")).startswith("account: "), what="no such account")
    eventually(lambda: stack.bot_status(11).get("state") == "no_model", what="no such model")
    assert "model 5" in stack.bot_status(11)["model"]["problem"]
    stack.bot(9, symbol="no symbol")
    eventually(lambda: str(stack.bot_status(9).get("config_error")).startswith("symbol: "), what="the refusal")
    stack.market.trade(111)
    closed = stack.await_closed(1)
    assert (closed["bot_id"], closed["exit_reason"], closed["quantity"]) == ("7", "TP_HIT", "0")
    assert (exchange.engine.holding("AAPL").qty, exchange.engine.holding("MSFT").qty) == (5, 10)
    # the list is mangled, and the feed falls silent: what is open is watched all the same, at the venue's price
    with stack.redis.pipeline(transaction=True) as pipe:  # or the trader may find no list in between: no bots
        pipe.delete("bots").set("bots", "garbage").execute()
    stack.set("risk_settings", FREE_RISK[:-1] + ', "stale_data_seconds": 1}')
    stream_is_silent(stack)
    exchange.set_price("MSFT", Decimal(94))
    closed = stack.await_closed(2)
    assert (closed["bot_id"], closed["exit_reason"]) == ("8", "SL_HIT")
    eventually(lambda: stack.bot_status(9)["unprotected_seconds_total"] > 0, what="a count of what is unprotected")
    stack.await_status("last_error", None)


def stream_is_silent(stack: BotStack) -> None:
    """The feed's server takes no one any more."""
    stack.market.stream.refuse = HTTPStatus.SERVICE_UNAVAILABLE
    stack.market.stream.drop()
    eventually(
        lambda: stack.bot_status(8).get("state") == "no_feed", what="the silence", tell=lambda: str(stack.bot_status(8))
    )


def test_position_when_its_symbol_alone_falls_silent_is_watched_at_the_venues_price(
    two_symbols: BotStack, exchange: ExchangeServer
) -> None:
    """The socket lives on the other symbol's trades; a dead stream must not blind a stop-loss."""
    stack = two_symbols
    stack.set("risk_settings", FREE_RISK[:-1] + ', "stale_data_seconds": 2}')
    stack.bot(8, symbol="MSFT")
    begin(stack)
    assert held(stack, 8)["phase"] == "active"
    stack.bot(8, symbol="MSFT", enabled=False)
    exchange.set_price("MSFT", Decimal(94))

    def traded(met: Callable[[], bool]) -> Callable[[], bool]:
        def look() -> bool:
            stack.market.trade(symbol="AAPL")
            return met()

        return look

    eventually(traded(lambda: bool(stack.closed())), what="the stop-loss", tell=lambda: str(stack.bot_status(8)))
    assert (stack.closed()[0]["bot_id"], stack.closed()[0]["exit_reason"]) == ("8", "SL_HIT")
    eventually(traded(lambda: stack.bot_status(7)["feed"]["state"] == "live"), what="the other symbol's feed, live")
