"""Stream bots: from a message to an order intent, trades replayed through a whole bot, and how both grow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal

from shared.bots import BotSettings
from tests.bench.bot_rig import START, Rig, redis_store, rig
from tests.bench.feed_source import frame
from tests.bench.single_row import trained_text
from tests.bench.table import median, p99
from worker.core.candles import WINDOW
from worker.core.features import FEATURE_NAMES
from worker.predictors.row import load_row_predictor

SYMBOL = "BTCUSDT"
A_SECOND = 4
DECISIONS = 24_000
BOT = BotSettings(bot_id=7, symbol=SYMBOL, enabled=True, confidence_threshold=Decimal("0.000001"))


def frames(count: int) -> Iterator[tuple[bytes, int]]:
    """Messages, four a second, with the time in microseconds at which each is received."""
    for number in range(count):
        at = START // 1000 + number * (1000 // A_SECOND)
        yield frame(number, at), at * 1000


def intents(at: Rig) -> list[float]:
    """Seconds from the bytes of each message that completes a decision to the gate being asked."""
    at.write([BOT])
    at.turn()
    (feed,), posted, clock, gate = at.feeds, at.posted, at.clock, at.gate
    take, decide = feed.take, at.fleet.take
    spent: list[float] = []
    for message, received in frames((WINDOW + 2 * DECISIONS) * A_SECOND):
        clock.micros = received
        start = time.perf_counter_ns()
        take((message,))
        if posted:
            mid = time.perf_counter_ns()
            for item in posted:
                decide(item)
            spent.append((gate.at - start) / 1e9)
            MID.append((mid - start) / 1e9)
            posted.clear()
    if gate.asked != len(spent):
        raise RuntimeError(f"{len(spent)} decisions and {gate.asked} intents: {at.fleet.bots[7].last_denial}")
    return spent


MID = []


def main() -> None:
    text, _ = trained_text(FEATURE_NAMES)
    model = load_row_predictor(text, "lightgbm:bench")
    with redis_store() as store, rig(store, model, [SYMBOL]) as at:
        c = time.process_time()
        if __import__("os").environ.get("PROF"):
            import cProfile
            import pstats

            p = cProfile.Profile(time.process_time)
            p.enable()
        spent = intents(at)
        if __import__("os").environ.get("PROF"):
            p.disable()
            pstats.Stats(p).sort_stats("tottime").print_stats(60)
        c = time.process_time() - c
        print(
            len(spent),
            "intent",
            median(spent) * 1e6,
            min(spent) * 1e6,
            p99(spent) * 1e6,
            "decision",
            median(MID) * 1e6,
            "cpu per decision incl. messages",
            c / len(spent) * 1e6,
        )


if __name__ == "__main__":
    main()
