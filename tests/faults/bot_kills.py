"""Stream bots whose trader dies at random failpoints while they trade: ``python -m tests.faults.bot_kills SEED KILLS``.

Two bots enter and leave the same symbol every few seconds. After the last kill they are told to close; then nothing may
be held or work at the venue, every position must be closed as bought, and the book's profit must be the venue's cash.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path

from tests.integration.bots.conftest import bot_stack
from tests.servers.binance import BinanceServer, binance_server
from tests.servers.bots import SYMBOL, BotStack
from tests.servers.exchange import ExchangeServer
from tests.servers.stack import ON
from tests.support import eventually

BOTS = (7, 8)
PRICES = (100, 100, 100.5, 101, 99.8, 102.2)
ROUND_SECONDS = 30.0
POINTS = (
    *("submit.answered", "submit.taken", "push.before", "push.after", "apply.read", "apply.queued", "apply.written"),
    *("apply.after", "act.before", "act.after", "recover.told", "fence.landed"),
)
"""Not those that leave an intent unsent: such an order is ABSENT after a minute, and its symbol takes no entry then."""


def trade_until_death(stack: BotStack, stream: BinanceServer, dice: random.Random) -> str:
    """One life of the trader: what ended it."""
    point = f"{dice.choice(POINTS)}:{dice.randrange(1, 12)}"
    stack.launch("trading", SIXBOT_FAILPOINT=point)
    end, warm = time.monotonic() + ROUND_SECONDS, False
    while stack.processes["trading"].poll() is None and time.monotonic() < end:
        if not warm and stream.connections and stack.beats("trading"):
            warm = (stack.bot_status(BOTS[0]).get("model") or {"problem": "unknown"})["problem"] is None
            if warm:
                stack.market.warm_up()
        elif warm:
            stack.market.trade(dice.choice(PRICES))
        time.sleep(0.1)
    if stack.processes["trading"].poll() is None:
        stack.kill("trading")
        point = "random"
    eventually(lambda: stream.connections == 0, what="the dead trader's connection to end")
    return point


def all_closed(stack: BotStack, exchange: ExchangeServer) -> bool:
    stack.market.trade(100)
    held = exchange.engine.holding(SYMBOL).qty
    return not exchange.engine.working() and held == 0 and stack.redis.scard("positions:open") == 0


def judge(stack: BotStack, exchange: ExchangeServer, cash: Decimal) -> list[str]:
    """What does not add up."""
    closed, faults = stack.closed(), []
    profit = sum((Decimal(c["realized_pnl"]) for c in closed), Decimal(0))
    if abs(profit - (exchange.engine.book.cash - cash)) > Decimal("0.0001"):
        faults.append(f"profit {profit} in the book, {exchange.engine.book.cash - cash} at the venue")
    faults += [
        f"{c['id']} sold {c['sold_qty']} of {c['bought_qty']}" for c in closed if c["sold_qty"] != c["bought_qty"]
    ]
    faults += [f"{c['id']} closed without a reason" for c in closed if not c["exit_reason"]]
    names = [o.client_order_id for o in exchange.engine.book.orders.values()]
    if len(names) != len(set(names)):
        faults.append("an order was sent twice")
    faults += [f"refused: {t['reason']}" for t in stack.trades("rejected") if "insufficient_quantity" in t["reason"]]
    return faults


def main(seed: int, kills: int) -> int:
    """Run it; 1 where something does not add up."""
    dice = random.Random(seed)
    folder = Path(tempfile.mkdtemp())
    exchange = ExchangeServer(folder / "exchange", partial=dice.random() < 0.5)
    exchange.start()
    cash = exchange.engine.book.cash
    with binance_server() as stream, bot_stack(folder, exchange, stream) as stack:
        for bot in BOTS:
            stack.bot(bot, holding_time=bot / 10, max_positions=2, maker_order_timeout=3, profit_target_pct=0.02)
        stack.start("emergency")
        stack.set("trading_settings", ON)
        for number in range(kills):
            point = trade_until_death(stack, stream, dice)
            print(f"{number + 1} of {kills}: {point}, {len(exchange.engine.book.orders)} orders so far", flush=True)
        for bot in BOTS:
            stack.bot(bot, enabled=False, close_positions=True)
        stack.start("trading")
        eventually(lambda: all_closed(stack, exchange), 60, "everything to be closed")
        faults = judge(stack, exchange, cash)
        print(f"{len(stack.closed())} positions closed after {kills} kills; {'; '.join(faults) or 'all adds up'}")
    exchange.stop()
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*(int(word) for word in sys.argv[1:3])) if len(sys.argv) == 3 else __doc__)
