"""A person's hand at the venue, and the stop's own closing orders, as whoever reads the keys sees them."""

from __future__ import annotations

from tests.integration.stack.test_stocks import running
from tests.servers.alpaca import AlpacaServer
from tests.servers.stack import FREE_RISK, OFF, ON, Stack
from tests.support import eventually


def position_of(stocks: Stack, ticker: str) -> dict[str, str]:
    """The newest position in a ticker, open or closed."""
    found = []
    for key in stocks.redis.keys("position:*"):
        row = {k.decode(): v.decode() for k, v in stocks.redis.hgetall(key).items()}
        if row["symbol"] == ticker:
            found.append(row)
    return max(found, key=lambda r: r["entry_time"], default={})


def held(stocks: Stack) -> list[tuple[str, str]]:
    return [(p["ticker"], p["qty"]) for p in stocks.json("portfolio_positions") or []]


def await_active(stocks: Stack) -> None:
    stocks.await_status("active", True)
    stocks.await_status("state", "ACTIVE")


def closed(stocks: Stack, ticker: str, reason: str, price: str, pnl: str) -> bool:
    row = position_of(stocks, ticker)
    kept = (row.get("status"), row.get("exit_reason"), row.get("exit_price"), row.get("realized_pnl"))
    return kept == ("CLOSED", reason, price, pnl)


def test_position_when_closed_by_hand_or_by_a_stop_is_closed_in_every_key_and_trading_goes_on(
    stocks: Stack, broker: AlpacaServer
) -> None:
    stocks.set("risk_settings", FREE_RISK.replace("{", '{"on_stop": "flatten", '))
    running(stocks)
    stocks.trade_until(2, "filled", AAPL=0.08, MSFT=0.08)
    stocks.set("predictions", "{}")
    eventually(lambda: held(stocks) == [("AAPL", "1"), ("MSFT", "1")], what=f"both positions: {held(stocks)}")
    hand = broker.by_hand("AAPL", "sell", "1", "103.50")
    eventually(
        lambda: closed(stocks, "AAPL", "MANUAL", "103.50", "3.50"), what=f"the close: {position_of(stocks, 'AAPL')}"
    )
    eventually(lambda: held(stocks) == [("MSFT", "1")], what=f"one position left: {held(stocks)}")
    assert position_of(stocks, "AAPL")["exit_order_id"] == hand["id"]
    assert stocks.redis.hget(f"order:{hand['id']}", "bot_id") == b"EXTERNAL"
    stats = stocks.json("stats")
    assert (stats["wins"], stats["total_pnl"], stats["by_ticker"]["AAPL"]["pnl"]) == (1, 3.5, 3.5)
    await_active(stocks)

    stocks.kill("trading")
    broker.by_hand("MSFT", "sell", "1", "98.00")
    stocks.start("trading")
    eventually(
        lambda: closed(stocks, "MSFT", "MANUAL", "98.00", "-2.00"), what=f"the close: {position_of(stocks, 'MSFT')}"
    )
    eventually(lambda: held(stocks) == [], what=f"no position left: {held(stocks)}")
    assert stocks.json("stats")["total_pnl"] == 1.5
    stocks.trade_until(5, "filled", AAPL=0.08)  # neither halted nor frozen
    await_active(stocks)
    assert stocks.json("stop_report") is None or stocks.json("stop_report")["reason"] != "reconcile_mismatch"

    stocks.set("predictions", "{}")
    broker.set_price("AAPL", "99.00")
    stocks.set("trading_settings", OFF)
    eventually(
        lambda: closed(stocks, "AAPL", "STOP", "99.00", "-1.00"), what=f"the close: {position_of(stocks, 'AAPL')}"
    )
    assert stocks.json("stop_report")["reason"] == "emergency_stop"
    stocks.set("trading_settings", ON)
    await_active(stocks)


def test_position_when_added_to_by_hand_is_no_drift_and_still_sold_by_us(stocks: Stack, broker: AlpacaServer) -> None:
    running(stocks)
    stocks.trade_until(1, "filled", AAPL=0.08)
    stocks.set("predictions", "{}")
    broker.by_hand("AAPL", "buy", "5", "101.00")
    eventually(lambda: stocks.redis.hget("external:default", "AAPL") == b"5", what="the hand's five to be told apart")

    def frozen() -> bool:
        stocks.predict(AAPL=0.09)
        denied = (stocks.status("last_cycle") or {}).get("denied", [])
        return any(d.startswith("AAPL: SYMBOL_FROZEN") for d in denied) or len(stocks.trades()) > 1

    stocks.set("trading_settings", ON.replace('"max_position_per_trade": 1', '"max_position_per_trade": 4'))
    eventually(frozen, what=f"no more of it to be bought: {stocks.status('last_cycle')}")
    assert len(stocks.trades()) == 1
    broker.set_price("AAPL", "104.00")

    def sold() -> bool:
        stocks.predict(AAPL=-0.08)
        return closed(stocks, "AAPL", "MANUAL", "104.00", "4.00")

    eventually(sold, what=f"our own share to be sold: {position_of(stocks, 'AAPL')} {stocks.json('trading_status')}")
    eventually(lambda: held(stocks) == [("AAPL", "5")], what="the hand's five to be left")
    await_active(stocks)


def test_orders_of_others_when_of_every_kind_disturb_nothing_and_are_cancelled_by_a_stop(
    stocks: Stack, broker: AlpacaServer
) -> None:
    shown = broker.bracket("MSFT", "3", "100.00", "110.00", "90.00")
    shown += [broker.add(symbol="MSFT", qty=None, notional="500", status="new")]
    shown += [broker.add(symbol="MSFT", status=s) for s in ("stopped", "suspended", "calculated", "done_for_day")]
    broker.fill(shown[0]["client_order_id"], "3", "100.00")
    running(stocks)
    stocks.trade_until(1, "filled", AAPL=0.08)
    for order in shown:
        assert stocks.redis.hget(f"order:{order['id']}", "bot_id") == b"EXTERNAL"
    assert stocks.redis.scard("orders:open") == len(shown) - 1
    await_active(stocks)
    stocks.await_status("last_error", None)
    stocks.set("trading_settings", OFF)
    report = stocks.await_stopped("emergency_stop")
    assert broker.open_ids() == []
    assert report["orders_canceled"] == len(shown) - 1
    eventually(lambda: stocks.redis.scard("orders:open") == 0, what="the cancels to be seen")
    eventually(
        lambda: [p["qty"] for p in stocks.json("portfolio_positions") or []] == ["1", "3"], what="both positions"
    )
