"""Random kills during a session full of lies, with and without a proxy that breaks before Redis or the venue."""

from __future__ import annotations

import random
import time
from decimal import Decimal
from typing import Any

from tests.faults.bench import Bench, Hand, Trial, idle
from tests.faults.venues import TICKERS
from tests.servers.proxy import DOWN, UP, FaultProxy

POST, LIST, BY_ID = "POST /v2/orders", "GET /v2/orders", "GET /v2/orders:by_client_order_id"
LIES: tuple[tuple[str, Any], ...] = (
    (POST, "slow"),
    (POST, "reset"),
    (POST, 500),
    (POST, 504),
    (POST, "!?"),
    (POST, "{}"),
    (POST, (429, '{"message": "rate limit exceeded"}')),
    (POST, (403, '{"code": 40310000, "message": "insufficient buying power"}')),
    (LIST, 502),
    (LIST, "reset"),
    (LIST, "[{]"),
    (BY_ID, 500),
    (BY_ID, "reset"),
    ("GET /v2/positions", 500),
    ("DELETE /v2/orders", 500),
    ("DELETE /v2/orders", (500, "")),
)
VICTIMS = (("trading",), ("trading",), ("emergency",), ("trading", "emergency"))
REQUESTS = {"redis": (b"EVALSHA", b"EXEC", b"HGETALL", b""), "venue": (b"POST ", b"POST ", b"GET ", b"DELETE ")}
"""What a lost reply may be the reply to: the gate and the book, the order and what is asked about it."""


def random_kill(made: Bench, rng: random.Random) -> Trial:
    """Kill one process, or both, at any time during a session full of lies; restart; stop; judge."""
    before = len(made.truth().orders)
    victims = rng.choice(VICTIMS)
    story = lies(made, rng)
    made.trade(meddler(made, rng))
    if rng.random() < 0.85:
        made.await_cycle()
    delay = rng.uniform(0.0, 2.0)
    time.sleep(delay)
    for name in victims:
        made.stack.kill(name)
    off_first = rng.random() < 0.5
    off_at = made.stop() if off_first else None
    made.revive(*reversed(victims))
    if off_at is None:
        time.sleep(rng.uniform(0.0, 1.5))
        off_at = made.stop()
    story.append(f"killed {'+'.join(victims)} after {delay:.3f} s, {'off, on again' if off_first else 'restart, off'}")
    return Trial("random", made.settle(off_at, before), story=story)


def proxied_trial(made: Bench, rng: random.Random, proxied: str) -> Trial:
    """One fault of the network during trading, every other time with a kill in it; heal; stop; judge."""
    assert made.proxy is not None
    before = len(made.truth().orders)
    made.trade(meddler(made, rng))
    if rng.random() < 0.85:
        made.await_cycle()
    time.sleep(rng.uniform(0.0, 1.0))
    story = [_break(made.proxy, rng, proxied)]
    time.sleep(rng.uniform(0.0, 2.5))
    if rng.random() < 0.5:
        victims = rng.choice(VICTIMS)
        for name in victims:
            made.stack.kill(name)
        story.append(f"killed {'+'.join(victims)}")
        made.revive(*reversed(victims))
        time.sleep(rng.uniform(0.0, 1.0))
    healed = rng.random() < 0.5
    if healed:
        made.proxy.heal()
        time.sleep(rng.uniform(0.0, 1.0))
    story.append(f"{'healed, off' if healed else 'off, healed'}, {made.proxy.replies_lost} replies lost so far")
    return Trial(f"proxied {proxied}", made.settle(made.stop(), before), story=story)


def _break(proxy: FaultProxy, rng: random.Random, proxied: str) -> str:
    what = rng.choice(("delay", "mute", "mute", "reset", "reset_after", "lose", "lose", "lose"))
    if what == "delay":
        seconds = rng.choice((0.02, 0.1, 0.2, 0.3)) if proxied == "redis" else rng.choice((0.1, 0.3, 1.0, 3.5))
        proxy.delay(seconds, seconds / 2)
        return f"{seconds} s slow"
    if what == "mute":
        ways = rng.choice(((UP,), (DOWN,), (UP, DOWN)))
        proxy.mute(*ways)
        return f"nothing forwarded {'+'.join(ways)}"
    if what == "reset":
        proxy.reset()
        return "all reset"
    if what == "reset_after":
        way, size = rng.choice((UP, DOWN)), rng.randint(1, 20_000)
        proxy.reset_after(size, way)
        return f"reset after {size} bytes {way}"
    marks = [rng.choice(REQUESTS[proxied]) for _ in range(rng.randint(1, 4))]
    proxy.lose_reply(*marks)
    return f"replies lost to {marks}"


def lies(made: Bench, rng: random.Random) -> list[str]:
    """Script the broker's lies of one session; returns what they are."""
    broker = made.broker
    if broker is None:
        return []
    broker.fill_market_orders = rng.random() < 0.6
    broker.stream_faults = rng.random() < 0.4
    broker.hide_next = rng.choice((0, 0, 1, 2))
    chosen = rng.sample(LIES, rng.choice((0, 1, 2, 3)))
    for route, lie in chosen:
        broker.lie(route, lie)
    told = [f"{route} -> {lie!r}" for route, lie in chosen]
    return [
        *told,
        f"fills {broker.fill_market_orders}, stream faults {broker.stream_faults}, hidden {broker.hide_next}",
    ]


def meddler(made: Bench, rng: random.Random) -> Hand:
    """Partial fills, fills after a cancel, moving prices and dropped streams, now and then."""
    broker, own = made.broker, random.Random(rng.random())
    if broker is None:
        return idle

    def meddle() -> None:
        roll = own.random()
        if roll < 0.4:
            broker.fill_some(own, also_canceled=own.random() < 0.3)
        elif roll < 0.6:
            broker.set_price(own.choice(TICKERS), Decimal(own.randint(9980, 10020)) / 100)
        elif roll < 0.63:
            broker.drop_streams()

    return meddle
