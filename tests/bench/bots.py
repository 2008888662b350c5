"""A stream bot: from a message to an order intent, and recorded trades through the whole of it."""

from __future__ import annotations

import gc
import json
import random
import time
from collections.abc import Callable
from decimal import Decimal
from zoneinfo import ZoneInfo

from shared.bots import BotSettings
from shared.clock import TradingCalendar
from tests.bench.table import Row, median, p99
from tests.servers.bots import model_text
from tests.servers.stack import FREE_RISK
from worker.core.features import FEATURE_NAMES, FEATURE_VERSION
from worker.core.risk import Denial
from worker.core.trades import Trade, moment_of
from worker.core.types import Instrument, LastPrice
from worker.feeds.base import FeedStats
from worker.feeds.binance_wire import BinanceDecoder
from worker.predictors.row import RowPredictor, load_row_predictor
from worker.replay.bots import BotReplay, BotReplayOptions, FixedModel, ReplayClock
from worker.trading.bots.pipeline import Crossing, Decision, Lane, Pipeline
from worker.trading.bots.runner import BotRunner
from worker.trading.bots.sender import OrderSender
from worker.trading.desk import OrderDesk
from worker.trading.memory import MemoryLedger
from worker.trading.ports import Switches, Ticket
from worker.trading.reconcile import Snapshot
from worker.venues.simulated.local import LocalVenue

Tell = Callable[[str], None]
SYMBOL = "BTCUSDT"
START = 1_700_000_000_000_000
SECONDS, TRADES = 2400, 600_000
BOT = BotSettings(
    bot_id=7, symbol=SYMBOL, enabled=True, confidence_threshold=0.0001, capital_per_trade=200, max_positions=2
)


def bench_switches() -> Switches:
    from tests.builders import switches

    return switches(json.loads(FREE_RISK))


class Closed:
    """A gate that notes when it is asked and lets nothing through: the path up to it is what is measured."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def admit(self, ticket: Ticket) -> Denial | None:
        self.asked.append(time.perf_counter_ns())
        return Denial("BENCH", "not sent")


def rows(tell: Tell) -> list[Row]:
    model = load_row_predictor(model_text(), "bench", FEATURE_NAMES, str(FEATURE_VERSION))
    tell("messages to order intents")
    decisions, intents = intent_times(model)
    tell("trades through a bot")
    speed, orders = replay_speed(model)
    return [
        Row(
            "message → decision: decoded, candle, features, probability",
            f"{median(decisions):.1f} µs",
            f"{p99(decisions):.1f} µs",
        ),
        Row(
            "message → order intent at the gate's door, rules included",
            f"{median(intents):.1f} µs",
            f"{p99(intents):.1f} µs",
            reach="p50 ≤ 12 µs, p99 ≤ 25 µs",
            habit="json, pandas, Booster.predict: 1,306 µs, recorded",
        ),
        Row(
            f"replay of trades through a bot, {orders} orders in {TRADES:,} trades",
            f"{speed:,.0f} trades/s",
            reach="≥ 500,000 trades/s",
            habit="nautilus_trader 1.221: 326,000 ticks/s, recorded",
        ),
    ]


def intent_times(model: RowPredictor) -> tuple[list[float], list[float]]:
    """Microseconds from the bytes of a frame to its decision, and to the gate's door, for frames that lead to one."""
    clock = ReplayClock(START)
    calendar, judged, gate = TradingCalendar(ZoneInfo("UTC")), bench_switches(), Closed()
    ledger = MemoryLedger(clock, calendar, judged)
    venue = LocalVenue(
        clock,
        {SYMBOL: Instrument(SYMBOL, Decimal("0.00001"), Decimal("0.01"))},
        Decimal(10**6),
        BotReplayOptions().engine,
        lambda: 1.0,
    )
    desk = OrderDesk(venue, gate, ledger, clock, _silent, _nothing, 60.0)
    sender = OrderSender("default", venue, desk, ledger, clock, calendar, lambda: judged)
    sender.switches, sender.epoch = judged, 1
    sender.snapshot = Snapshot(clock.now(), (), venue.account(), ())
    dice = random.Random(6)
    runner = BotRunner(BOT, sender, desk, ledger, venue, clock, _silent, lambda: f"{dice.getrandbits(56):014x}")
    runner.manager.on_switch(on=True)
    posted: list[Decision | Crossing] = []
    pipeline = Pipeline([SYMBOL], posted.append)
    pipeline.lines[SYMBOL].lanes = (Lane(BOT, FixedModel(model)),)
    decoder = BinanceDecoder(FeedStats(), {SYMBOL: SYMBOL})
    pipeline.on_live(START)
    decided, found = [], []
    gc.collect()
    gc.disable()
    for number, (frame, at) in enumerate(_frames(dice)):
        clock.micros = at
        begun = time.perf_counter_ns()
        trade = decoder.decode(frame, at)
        if trade is not None:
            pipeline.on_trade(trade)
        if posted:
            decided.append((time.perf_counter_ns() - begun) / 1000)
        for decision in posted:
            if isinstance(decision, Decision):
                last = LastPrice(Decimal(repr(decision.price)), moment_of(decision.received_at))
                runner.enter(SYMBOL, Decimal(repr(decision.bid)), last, decision.confidence, f"r{number}")
        if posted:
            found.append((gate.asked[-1] - begun) / 1000)
            posted.clear()
    gc.enable()
    warm = len(found) // 10
    return decided[warm:], found[warm:]


def _frames(dice: random.Random) -> list[tuple[bytes, int]]:
    price, found = 61_800.0, []
    for number in range(SECONDS * 10):
        at = START + number * 100_000
        price += dice.choice((-0.01, 0.0, 0.01))
        row = {
            "e": "trade", "E": at // 1000, "s": SYMBOL, "t": number, "p": f"{price:.2f}", "q": "0.01000",
            "T": at // 1000, "m": dice.random() < 0.5, "M": True,
        }  # fmt: skip
        found.append((json.dumps({"stream": "btcusdt@trade", "data": row}).encode(), at))
    return found


def replay_speed(model: RowPredictor) -> tuple[float, int]:
    """Trades a second of processor time, and how many orders there were."""
    dice, price, at, trades = random.Random(1), 100.0, START, []
    for number in range(TRADES):
        price = max(min(price + dice.choice((-0.01, 0, 0.01)), 104), 100.0)
        at += dice.randrange(0, 2000)
        trades.append(Trade(SYMBOL, round(price, 2), 0.5, dice.random() < 0.5, at, at, number))
    bot = BOT.model_copy(update={"profit_target_pct": Decimal("0.002"), "holding_time": Decimal(600)})
    run = BotReplay(trades, bot, model, bench_switches(), BotReplayOptions(cash=Decimal(10**7)))
    begun = time.process_time()
    result = run.run(_quiet)
    return TRADES / (time.process_time() - begun), len(result.ledger.orders())


class _Nothing:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_error: object) -> None:
        return None


def _nothing(_name: str) -> _Nothing:
    return _Nothing()


def _silent(_kind: str, /, **_fields: object) -> None:
    """The table is enough."""


def _quiet(_done: int) -> None:
    """The table is enough."""
