"""Stream bots whose trader dies at random failpoints while they trade: ``python -m tests.faults.bot_kills SEED KILLS``,
with ``alpaca`` at the end at an Alpaca, whose orders of two parts fill in parts and whose stream lies.

Two bots enter and leave the same symbol every few seconds. After the last kill they are told to close; then nothing may
be held or work at the venue, every position must be closed as bought, and the book's profit must be the venue's cash.
At Alpaca the oracle compares every order, fill and figure besides.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path

from tests.faults import oracle
from tests.faults.venues import FaultyBroker
from tests.integration.bots.conftest import bot_stack
from tests.servers.alpaca import OPEN
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


class AtExchange:
    """The simulated exchange, and what must be true of it."""

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self.server = ExchangeServer(folder / "exchange", partial=dice.random() < 0.5)
        self.server.start()

    @property
    def cash(self) -> Decimal:
        return self.server.engine.book.cash

    @property
    def is_empty(self) -> bool:
        return not self.server.engine.working() and self.server.engine.holding(SYMBOL).qty == 0

    def names(self) -> list[str | None]:
        return [o.client_order_id for o in self.server.engine.book.orders.values()]

    def stir(self, _dice: random.Random) -> None:
        """It fills in parts by itself."""

    def faults(self, _stack: BotStack) -> list[str]:
        return []


class AtBroker:
    """An Alpaca whose stream repeats, swaps and loses updates."""

    def __init__(self, _folder: Path, dice: random.Random) -> None:
        self.server = FaultyBroker(dice)
        self.server.start()
        self.server.stream_faults = True

    @property
    def cash(self) -> Decimal:
        return self.server.cash

    @property
    def is_empty(self) -> bool:
        return not self.server.open_ids() and not self.server.held.get(SYMBOL, (0, 0))[0]

    def names(self) -> list[str | None]:
        return [o["client_order_id"] for o in list(self.server.orders.values())]

    def stir(self, dice: random.Random) -> None:
        """Sell a part of some take-profit, now and then."""
        resting = [self.server.orders[p] for p in list(self.server.legs) if self.server.orders[p]["status"] in OPEN]
        for order in resting[:1] if dice.random() < 0.2 else ():
            if Decimal(order["qty"]) - Decimal(order["filled_qty"]) > 1:
                self.server.fill(order["client_order_id"], "1", order["limit_price"])

    def faults(self, stack: BotStack) -> list[str]:
        found = oracle.judge(stack.redis, self.server.truth(), oracle.Rules(Decimal(1000), 10**6))
        legs = [self.server.orders[leg] for legs in self.server.legs.values() for leg in legs]
        print(f"{len(legs)} pairs, {sum(leg['status'] == 'filled' for leg in legs)} stopped out")
        return [f"{kind}: {fact}" for kind, facts in found.bad().items() for fact in facts] + found.pending


def trade_until_death(stack: BotStack, stream: BinanceServer, dice: random.Random, at: AtExchange | AtBroker) -> str:
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
            at.stir(dice)
        time.sleep(0.1)
    if stack.processes["trading"].poll() is None:
        stack.kill("trading")
        point = "random"
    eventually(lambda: stream.connections == 0, what="the dead trader's connection to end")
    return point


def all_closed(stack: BotStack, at: AtExchange | AtBroker) -> bool:
    stack.market.trade(100)
    return at.is_empty and stack.redis.scard("positions:open") == 0


def found_open(stack: BotStack) -> str:
    shown = [stack.json(key) for key in ("trading_status", "stop_report", "bot:7:status", "bot:8:status")]
    return f"{shown} {stack.trades('submitted', 'unknown', 'partially_filled', 'rejected')}"


def judge(stack: BotStack, at: AtExchange | AtBroker, cash: Decimal) -> list[str]:
    """What does not add up."""
    closed, faults = stack.closed(), []
    profit = sum((Decimal(c["realized_pnl"]) for c in closed), Decimal(0))
    if abs(profit - (at.cash - cash)) > Decimal("0.0001"):
        faults.append(f"profit {profit} in the book, {at.cash - cash} at the venue")
    faults += [
        f"{c['id']} sold {c['sold_qty']} of {c['bought_qty']}" for c in closed if c["sold_qty"] != c["bought_qty"]
    ]
    faults += [f"{c['id']} closed without a reason" for c in closed if not c["exit_reason"]]
    names = at.names()
    if len(names) != len(set(names)):
        faults.append("an order was sent twice")
    faults += [f"refused: {t['reason']}" for t in stack.trades("rejected") if "insufficient" in t["reason"]]
    return faults + at.faults(stack)


def main(seed: int, kills: int, venue: str = "simulated") -> int:
    """Run it; 1 where something does not add up."""
    dice = random.Random(seed)
    folder = Path(tempfile.mkdtemp())
    at = AtBroker(folder, dice) if venue == "alpaca" else AtExchange(folder, dice)
    cash = at.cash
    with binance_server() as stream, bot_stack(folder, at.server, stream) as stack:
        levels = {"profit_target_pct": 0.02, "stop_loss_pct": 0.0015}
        for bot in BOTS:
            stack.bot(bot, holding_time=bot / 10, max_positions=2, maker_order_timeout=3, **levels)
        stack.start("emergency")
        stack.set("trading_settings", ON)
        for number in range(kills):
            point = trade_until_death(stack, stream, dice, at)
            print(f"{number + 1} of {kills}: {point}, {len(at.names())} orders so far", flush=True)
        for bot in BOTS:
            stack.bot(bot, enabled=False, close_positions=True)
        stack.start("trading")
        eventually(lambda: all_closed(stack, at), 60, "everything to be closed", lambda: found_open(stack))
        faults = judge(stack, at, cash)
        print(f"{len(stack.closed())} positions closed after {kills} kills; {'; '.join(faults) or 'all adds up'}")
    at.server.stop()
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:4]) if len(sys.argv) in {3, 4} else __doc__)
