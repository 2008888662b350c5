"""Stream bots whose stop-loss the venue keeps: at Alpaca and at the simulated exchange, through kills and stops."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tests.integration.bots.test_bots import begin, held, orders_of, restart
from tests.servers.alpaca import OPEN, AlpacaServer
from tests.servers.bots import BotStack
from tests.servers.exchange import ExchangeServer
from tests.servers.stack import FREE_RISK, OFF, ON
from tests.support import eventually
from worker.core import ids
from worker.core.types import Side

Pair = tuple[Decimal, str, str]


def pairs(broker: AlpacaServer) -> list[Pair]:
    """Working OCO orders: what is left of them, limit, stop."""
    found = []
    for parent, (leg, *_) in list(broker.legs.items()):
        order, stop = broker.orders[parent], broker.orders[leg]
        if order["status"] in OPEN and stop["status"] == "held":
            left = Decimal(order["qty"]) - Decimal(order["filled_qty"])
            found.append((left, order["limit_price"], stop["stop_price"]))
    return found


def await_pairs(broker: AlpacaServer, *wanted: tuple[int, str, str]) -> None:
    eventually(
        lambda: pairs(broker) == [(Decimal(q), *levels) for q, *levels in wanted],
        what=f"the pairs {wanted}",
        tell=lambda: str(pairs(broker)),
    )


def entry_of(broker: AlpacaServer) -> dict[str, Any]:
    """The entry that works."""

    def found() -> dict[str, Any] | None:
        return next((o for o in list(broker.orders.values()) if o["side"] == "buy" and o["status"] in OPEN), None)

    return eventually(found, what="an entry at the venue")  # type: ignore[return-value]


def parent_of(broker: AlpacaServer) -> dict[str, Any]:
    return next(broker.orders[p] for p in reversed(broker.legs) if broker.orders[p]["status"] in OPEN)


def agree(stack: BotStack, broker: AlpacaServer, cash: Decimal) -> None:
    """Book and venue say the same: every order once, every fill once, nothing of ours taken for somebody else's."""
    assert set(broker.posts.values()) == {1}
    assert sum((Decimal(c["realized_pnl"]) for c in stack.closed()), Decimal(0)) == broker.cash - cash
    assert all(c["bought_qty"] == c["sold_qty"] for c in stack.closed())
    names = [n.decode() for n in [*stack.redis.zrange("orders:history", 0, -1), *stack.redis.smembers("orders:open")]]  # type: ignore[union-attr,misc]
    assert [n for n in names if not ids.is_ours(n)] == []
    assert broker.held["AAPL"][0] == 0
    assert stack.trades("rejected") == []


def test_bot_at_alpaca_when_fills_come_in_parts_has_pairs_that_follow_and_every_leg_is_its_own(
    stocks: BotStack, broker: AlpacaServer
) -> None:
    stack, cash = stocks, broker.cash
    stack.market.premium = 1.0
    begin(stack)
    stack.await_bot(7, "a pending entry", lambda s: s.get("positions"))
    name = entry_of(broker)["client_order_id"]
    broker.fill(name, "4", "100.00")
    await_pairs(broker, (4, "110.00", "95.00"))
    broker.fill(name, "6", "100.00")
    await_pairs(broker, (10, "110.00", "95.00"))
    position = held(stack)
    assert (position["stop_loss_kept_by"], position["problem"]) == ("venue", None)
    # a part of the target, then the stop: one position, closed by the stop's name
    broker.fill(parent_of(broker)["client_order_id"], "3", "110.00")
    await_pairs(broker, (7, "110.00", "95.00"))
    stack.market.trade(93)
    closed = stack.await_closed(1)
    assert (closed["exit_reason"], closed["sold_qty"]) == ("SL_HIT", "10")
    assert [t["reason"] for t in stack.trades("filled")][-1] == "SL_HIT"
    agree(stack, broker, cash)
    # the target
    stack.market.premium = 0.0
    stack.market.trade(100)
    held(stack)
    stack.market.trade(111)
    assert stack.await_closed(2)["exit_reason"] == "TP_HIT"
    # held too long: the pair goes first
    stack.market.trade(100)
    held(stack)
    stack.bot(7, holding_time=0.5)
    assert stack.await_closed(3)["exit_reason"] == "TIMEOUT"
    stack.bot(7, holding_time=0.5, enabled=False)  # it may be in again by now
    stack.await_bot(7, "nothing open", lambda s: not s["positions"])
    agree(stack, broker, cash)


def test_bot_at_alpaca_when_cancels_take_their_time_sends_no_second_pair_before(
    stocks: BotStack, broker: AlpacaServer
) -> None:
    """What a pair would sell is free only when both of its orders are gone; until then the next one is refused."""
    stack, cash = stocks, broker.cash
    broker.cancel_seconds = 0.7
    stack.market.premium = 1.0
    begin(stack)
    stack.await_bot(7, "a pending entry", lambda s: s.get("positions"))
    name = entry_of(broker)["client_order_id"]
    for qty, held_then in (("4", 4), ("3", 7), ("3", 10)):
        broker.fill(name, qty, "100.00")
        await_pairs(broker, (held_then, "110.00", "95.00"))
    held(stack)
    assert len(broker.legs) == 3
    gap = stack.bot_status(7)["unprotected_seconds_total"]
    assert gap > 0
    # a fill that races the cancel
    stack.bot(7, holding_time=0.5, enabled=False)
    eventually(lambda: parent_of(broker)["status"] == "pending_cancel", what="the cancel to be asked for")
    broker.set_price("AAPL", "111")
    assert stack.await_closed(1)["exit_reason"] == "TP_HIT"
    stack.await_bot(7, "nothing open", lambda s: not s["positions"])
    agree(stack, broker, cash)


def test_bot_at_alpaca_when_its_pair_is_gone_or_refused_watches_the_stop_and_says_so(
    stocks: BotStack, broker: AlpacaServer
) -> None:
    stack = stocks
    begin(stack)
    held(stack)
    # by hand
    stack.market.trade()
    broker.cancel_by_hand(parent_of(broker)["id"])
    status = stack.await_bot(
        7, "the fallback", lambda s: s["positions"] and s["positions"][0]["stop_loss_kept_by"] == "trader"
    )
    assert "cancelled at the venue" in status["positions"][0]["problem"]
    sells = [o for o in broker.orders.values() if o["side"] == "sell" and o["status"] in OPEN]
    assert [(o["limit_price"], o["order_class"]) for o in sells] == [("110.00", "simple")]
    stack.market.trade(94)
    assert stack.await_closed(1)["exit_reason"] == "SL_HIT"
    # an account without such orders
    broker.takes_oco = False
    stack.market.trade(100)
    position = held(stack)
    assert position["stop_loss_kept_by"] == "trader"
    assert "refused" in str(position["problem"])
    stack.market.trade(94)
    assert stack.await_closed(2)["exit_reason"] == "SL_HIT"
    assert len(stack.trades("rejected")) == 1


def test_bot_at_alpaca_when_its_trader_is_killed_in_any_state_finds_its_pair_and_counts_each_fill_once(
    stocks: BotStack, broker: AlpacaServer
) -> None:
    stack, cash = stocks, broker.cash
    stack.market.premium = 1.0
    begin(stack)
    # in part filled: what fills while nobody looks is protected before anything else is sent
    stack.await_bot(7, "a pending entry", lambda s: s.get("positions"))
    name = entry_of(broker)["client_order_id"]
    broker.fill(name, "4", "100.00")
    await_pairs(broker, (4, "110.00", "95.00"))
    stack.market.premium = 0.0
    orders = len(broker.posts)
    restart(stack, lambda: broker.fill(name, "6", "100.00"))
    await_pairs(broker, (10, "110.00", "95.00"))
    assert len(broker.posts) == orders + 1
    # a part of the target sells while nobody looks: what is left of the pair stays as it is
    parent = parent_of(broker)
    restart(stack, lambda: broker.fill(parent["client_order_id"], "3", "110.00"))
    stack.await_bot(7, "what is left", lambda s: s["positions"] and s["positions"][0]["quantity"] == "7")
    assert (pairs(broker), len(broker.posts)) == ([(Decimal(7), "110.00", "95.00")], orders + 1)
    # the stop is met while nobody looks; the stream stays there too, or the bot could be in again by now
    restart(stack, lambda: stack.market.trade(93))
    assert stack.await_closed(1)["exit_reason"] == "SL_HIT"
    agree(stack, broker, cash)
    # killed after the venue took the pair and before the book knew
    stack.market.trade(100)
    held(stack)
    stack.bot(7, enabled=False)  # or it might be in again before it is killed
    stack.await_bot(7, "entries to end", lambda s: not s["enabled"])
    stack.market.trade(111)
    stack.await_closed(2)
    stack.kill("trading")
    stack.bot(7)
    eventually(lambda: stack.market.stream.connections == 0, what="the dead trader's connection to end")
    stack.market.trade(100)  # heard by nobody: what the next one hears first is a minute old
    stack.launch("trading", SIXBOT_FAILPOINT="submit.answered:2")
    eventually(lambda: stack.beats("trading"), 90, what="a heartbeat")
    eventually(lambda: (stack.bot_status(7).get("model") or {"problem": 1})["problem"] is None, what="the model")
    stack.market.warm_up()

    def died() -> bool:
        if stack.processes["trading"].poll() is not None:
            return True
        stack.market.trade()
        return False

    eventually(died, what="the trader to die", tell=lambda: f"{stack.bot_status(7)} {stack.output('trading')[-2000:]}")
    await_pairs(broker, (10, "110.00", "95.00"))
    posts = len(broker.posts)
    stack.start("trading")
    eventually(lambda: stack.bot_positions(7) and stack.bot_positions(7)[0]["protected"], what="the pair to be found")
    assert len(broker.posts) == posts
    stack.bot(7, close_positions=True, enabled=False)
    assert stack.await_closed(3)["exit_reason"] == "MANUAL"
    agree(stack, broker, cash)


def test_stop_when_it_cancels_entries_keeps_the_pair_and_when_it_cancels_all_leaves_nothing(
    stocks: BotStack, broker: AlpacaServer
) -> None:
    stack = stocks
    begin(stack)
    held(stack)
    stack.set("risk_settings", FREE_RISK[:-1] + ', "on_stop": "cancel_entries"}')
    memory = stack.home / "run" / "emergency-default.json"
    eventually(lambda: '"on_stop": "cancel_entries"' in memory.read_text(), what="the policy to be known")
    stack.set("trading_settings", OFF)
    report = stack.await_stopped()
    assert (report["positions_open"], report["accounts"]["default"]["positions_unprotected"]) == (1, [])
    assert pairs(broker) == [(Decimal(10), "110.00", "95.00")]
    # off, and the venue sells at the stop all the same
    stack.market.trade(93)
    assert stack.await_closed(1)["exit_reason"] == "SL_HIT"
    stack.set("risk_settings", FREE_RISK[:-1] + ', "on_stop": "cancel_all"}')
    stack.set("trading_settings", ON)
    stack.await_status("active", True)
    stack.market.trade(100)
    held(stack)
    eventually(lambda: '"on_stop": "cancel_all"' in memory.read_text(), what="the policy to be known")
    first = stack.json("stop_report")["stop_id"]
    stack.set("trading_settings", OFF)
    eventually(lambda: stack.json("stop_report")["stop_id"] != first, what="another stop")
    report = stack.await_stopped()
    assert report["accounts"]["default"]["positions_unprotected"] == ["AAPL"]
    assert broker.open_ids() == []
    stack.set("trading_settings", ON)
    await_pairs(broker, (10, "110.00", "95.00"))


def test_bot_at_the_exchange_when_the_stop_is_met_while_its_trader_is_dead_has_lost_no_more_than_that(
    stack: BotStack, exchange: ExchangeServer
) -> None:
    begin(stack)
    held(stack)
    restart(stack, lambda: exchange.set_price("AAPL", Decimal(94)))
    closed = stack.await_closed(1)
    assert (closed["exit_reason"], closed["sold_qty"]) == ("SL_HIT", "10")
    assert len(orders_of(exchange, Side.SELL)) == 1
