"""Stream bots: from a message to an order intent, trades replayed through a whole bot, and how both grow."""

from __future__ import annotations

import gc
import json
import random
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np

from shared.bots import BotSettings
from tests.bench.bot_rig import START, Rig, Tell, free_switches, redis_store, rig
from tests.bench.feed_source import frame
from tests.bench.single_row import trained_text
from tests.bench.table import Row, median, p99
from tests.formula import by_pandas
from worker.core.candles import WINDOW, Candle
from worker.core.features import FEATURE_NAMES
from worker.core.trades import SECOND, Trade
from worker.models.booster import import_lightgbm
from worker.predictors.row import RowPredictor, load_row_predictor
from worker.replay.bots import BotReplay, BotReplayOptions, BotReplayResult
from worker.runtime import settle_collector
from worker.trading.bots.status import MOST_AT_ONCE

SYMBOL = "BTCUSDT"
A_SECOND, PERIOD = 4, 2
DECISIONS, HABITS = 24_000, 300
REPLAYED, REPLAYED_A_SECOND, REPEATS = 1_000_000, 50, 3
COUNTS = (1, 10, 100, 1000)
TURNS = 20
BOT = BotSettings(bot_id=7, symbol=SYMBOL, enabled=True, confidence_threshold=Decimal("0.000001"))


def rows(tell: Tell) -> list[Row]:
    tell("training a model for stream bots")
    text, _ = trained_text(FEATURE_NAMES)
    model = load_row_predictor(text, "lightgbm:bench")
    with redis_store() as store:
        tell(f"{DECISIONS:,} decisions to intents")
        with rig(store, model, [SYMBOL]) as made:
            found = _intents(made, text)
        tell(f"{REPLAYED:,} trades replayed, {REPEATS} times")
        found.append(_replay(model))
        for what, measure in (("symbols", _symbols), ("bots", _bots), ("quiet", _quiet)):
            base = 0.0
            for count in COUNTS:
                tell(f"{count:,} {what}")
                store.client.flushdb()
                names = [f"S{n}USDT" for n in range(count)]
                with rig(store, model, names) as made:
                    path, each = measure(made, names)
                base = base or each
                figure = f"{each * 1e6:.1f} µs"
                found.append(Row(path, figure, ratio=f"{each / base:.2f} × one", reach="flat"))
    return found


# -- a message that completes a decision ------------------------------------------------------------------------------


def frames(count: int) -> Iterator[tuple[bytes, int]]:
    """Messages, four a second, with the time in microseconds at which each is received."""
    for number in range(count):
        at = START // 1000 + number * (1000 // A_SECOND)
        yield frame(number, at), at * 1000


def _intents(made: Rig, text: str) -> list[Row]:
    made.begin([BOT])
    decided, sent = to_the_gate(made)
    habit = _habit(text)
    return [
        Row(
            "message → decision: decoded, candle, features, probability",
            f"{median(decided) * 1e6:.1f} µs",
            f"{p99(decided) * 1e6:.1f} µs",
        ),
        Row(
            f"message → order intent at the gate, rules included, warm, of {len(sent):,}",
            f"{median(sent) * 1e6:.1f} µs",
            f"{p99(sent) * 1e6:.1f} µs",
            f"{median(habit) / median(sent):.0f} × the habit",
            reach="median ≤ 12 µs, p99 ≤ 25 µs, ≥ 100 ×",
            habit=f"json, dicts, pandas, Booster.predict: {median(habit) * 1e6:,.0f} µs",
        ),
    ]


def to_the_gate(made: Rig) -> tuple[list[float], list[float]]:
    """Seconds from the bytes of each message that completes a decision to the decision, and to the gate."""
    (feed,), posted, clock, gate = made.feeds, made.posted, made.clock, made.gate
    take, decide = feed.take, made.fleet.take
    decided: list[float] = []
    sent: list[float] = []
    settle_collector()  # as the workers have it
    for message, received in frames((WINDOW + PERIOD * DECISIONS) * A_SECOND):
        clock.micros = received
        start = time.perf_counter_ns()
        take((message,))
        if posted:
            decided.append((time.perf_counter_ns() - start) / 1e9)
            for item in posted:
                decide(item)
            sent.append((gate.at - start) / 1e9)
            posted.clear()
    if gate.asked != len(sent) or len(sent) < DECISIONS:
        raise RuntimeError(f"{len(sent)} decisions and {gate.asked} intents: {made.fleet.bots[7].last_denial}")
    return decided, sent


def _habit(text: str) -> list[float]:
    """The same as people write it: dicts, a frame of the last minute, a booster asked for one row."""
    booster = import_lightgbm().Booster(model_str=text)
    seconds: list[Candle] = []
    spent: list[float] = []
    order: dict[str, Any] = {}
    for number, (message, _) in enumerate(frames((WINDOW + PERIOD * HABITS) * A_SECOND)):
        start = time.perf_counter()
        found = json.loads(message)["data"]
        price, quantity, second = float(found["p"]), float(found["q"]), found["T"] // 1000
        if number % A_SECOND == 0 and number % (PERIOD * A_SECOND) == 0 and len(seconds) >= WINDOW:
            row = by_pandas(seconds[-WINDOW:])[-1]
            confidence = booster.predict(np.asarray([row]), num_threads=1)[0]
            if confidence >= 0.000001:
                order = {"symbol": found["s"], "side": "buy", "qty": round(200 / price, 5), "price": round(price, 2)}
            spent.append(time.perf_counter() - start)
        if number % A_SECOND == 0:
            seconds.append(Candle(SYMBOL, second * SECOND, price, price, price, price, quantity, quantity, 0.0, 1))
    if not order:
        raise RuntimeError("the habit sent nothing")
    return spent


# -- recorded trades through a whole bot ------------------------------------------------------------------------------


def _replay(model: RowPredictor) -> Row:
    trades = _recorded()
    bot = BOT.model_copy(update={"profit_target_pct": Decimal("0.0005"), "holding_time": Decimal(120)})
    speeds: list[float] = []
    result: BotReplayResult | None = None
    for _ in range(REPEATS):
        run = BotReplay(trades, bot, model, free_switches(), BotReplayOptions(cash=Decimal(10**7)))
        gc.collect()
        start = time.process_time()
        result = run.run(lambda _done: None)
        speeds.append(len(trades) / (time.process_time() - start))
    orders = 0 if result is None else len(result.ledger.orders())
    decisions = 0 if result is None else result.predictions
    return Row(
        f"replay of trades through a bot: {len(trades):,}, {decisions:,} predictions, {orders:,} orders",
        f"{median(speeds):,.0f} trades/s a core",
        f"{min(speeds):,.0f} (slowest)",
        reach="≥ 500,000 trades/s a core",
        habit="nautilus_trader 1.221: 326,000 ticks/s (recorded)",
    )


def _recorded() -> list[Trade]:
    dice, price, at, trades = random.Random(6), 60_000.0, START, []
    for number in range(REPLAYED):
        price = round(max(price + dice.choice((-0.5, -0.1, 0.0, 0.0, 0.1, 0.5)), 1000.0), 2)
        at += dice.randrange(2 * SECOND // REPLAYED_A_SECOND)
        trades.append(Trade(SYMBOL, price, dice.randrange(1, 1000) / 1000, dice.random() < 0.5, at, at, number))
    return trades


# -- growth -----------------------------------------------------------------------------------------------------------


def _symbols(made: Rig, names: list[str]) -> tuple[str, float]:
    """Many symbols over one connection, a bot on each."""
    bots = [BOT.model_copy(update={"bot_id": n, "symbol": name}) for n, name in enumerate(names, 2)]
    path = f"two seconds of a symbol and its bot, to the intent; of {len(names):,} symbols"
    return path, _rounds(made, bots, names)


def _bots(made: Rig, names: list[str]) -> tuple[str, float]:
    """Many bots on one symbol."""
    bots = [BOT.model_copy(update={"bot_id": n, "symbol": names[0]}) for n in range(2, len(names) + 2)]
    return f"two seconds of a bot, to the intent; of {len(names):,} on one symbol", _rounds(made, bots, names[:1])


def _rounds(made: Rig, bots: list[BotSettings], names: list[str]) -> float:
    """Processor seconds a bot of two seconds of trades, one a second for every symbol, and what comes of them."""
    made.begin(bots)
    take, decide, posted, wires = made.feeds[0].take, made.fleet.take, made.posted, [n.encode() for n in names]
    rounds = max(30, 1000 // len(bots))
    spent = 0.0
    for second in range(WINDOW + 2 * rounds):
        at = START // 1000 + second * 1000
        made.clock.micros = at * 1000
        messages = [frame(second, at, wire) for wire in wires]
        start = time.thread_time()
        for message in messages:
            take((message,))
            for item in posted:
                decide(item)
            posted.clear()
        spent += (time.thread_time() - start) if second >= WINDOW else 0.0
    if made.gate.asked < len(bots) * (rounds - 1):
        raise RuntimeError(f"{made.gate.asked} intents of {len(bots)} bots in {rounds} rounds")
    return spent / (rounds * len(bots))


def _quiet(made: Rig, names: list[str]) -> tuple[str, float]:
    """The trader's look at bots whose documents do not change and which hold nothing."""
    bots = [BOT.model_copy(update={"bot_id": n, "symbol": names[0]}) for n in range(2, len(names) + 2)]
    made.begin(bots)
    for _ in range(len(names) // MOST_AT_ONCE + 2):  # until each has told what it does
        made.clock.micros += 1000
        made.turn()
    spent = []
    for _ in range(TURNS + 200 // len(names)):
        made.clock.micros += SECOND // 4
        start = time.thread_time()
        made.turn()
        spent.append(time.thread_time() - start)
    return f"a look of the trader's loop, per bot; of {len(names):,} unchanged", sum(spent) / len(spent) / len(names)
