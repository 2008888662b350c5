"""How each failpoint is reached over the Alpaca protocol server."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

from tests.faults.bench import RISK, RULES, SETTINGS, Bench, Hand, Trial, idle
from tests.faults.kills import POST
from tests.servers.stack import OFF
from tests.support import eventually
from worker.failpoints import FAILPOINTS


@dataclass(frozen=True, slots=True)
class Scenario:
    """How a failpoint is reached: in which process, what happens first, and whose hand meddles meanwhile."""

    victim: str = "trading"
    first: str = ""
    prepare: Callable[[Bench], None] = lambda bench: None
    hand: Callable[[Bench], Hand] = lambda bench: idle


REFUSAL = (403, '{"code": 40310000, "message": "insufficient buying power"}')


def _lie(*lies: object) -> Callable[[Bench], None]:
    def prepare(made: Bench) -> None:
        assert made.broker is not None
        made.broker.lie(POST, *lies)

    return prepare


def _foreign(made: Bench) -> None:
    assert made.broker is not None
    made.broker.foreign_order("AAPL")


def _terminate(made: Bench) -> None:
    eventually(lambda: made.stack.status("last_run"), what="a cycle")
    made.stack.signal("trading", signal.SIGTERM)


def _flicker(made: Bench) -> Callable[[], None]:
    """Rewrite the settings all the time, so that the gate sees other bytes than were judged."""
    count = iter(range(1_000_000))

    def write() -> None:
        for _ in range(20):
            made.stack.set("trading_settings", SETTINGS[:-1] + f', "updated_by": "{next(count)}"}}')

    return write


GATE_CALL = b"EVAL.*trading_armed.*positions:open"


def _stumble(made: Bench) -> Hand:
    """The trader is stopped for moments, so that it hears the gate's answer later than an order may wait."""

    def stop_for_a_moment() -> None:
        if _dead(made):
            return
        made.stack.signal("trading", signal.SIGSTOP)
        time.sleep(0.2)
        made.stack.signal("trading", signal.SIGCONT)
        time.sleep(0.1)

    return stop_for_a_moment


def _slow_gate(made: Bench) -> None:
    """The gate's answer takes nearly as long as an order may wait."""
    assert made.proxy is not None
    made.proxy.delay(0.2, mark=GATE_CALL)


def _lose_gate(made: Bench) -> None:
    """The gate admits, and the trader does not hear of it. (A script that Redis does not know yet admits nobody.)"""
    made.stack.redis.script_load(files("worker.trading").joinpath("gate.lua").read_text())
    assert made.proxy is not None
    made.proxy.lose_reply(GATE_CALL, GATE_CALL, GATE_CALL)


def _resting(made: Bench) -> None:
    """A stop with orders open at the venue."""
    assert made.broker is not None
    made.broker.fill_market_orders = False
    before = len(made.broker.open_ids())
    eventually(lambda: len(made.broker.open_ids()) > before or _dead(made), what="resting orders")  # type: ignore[union-attr]
    made.stack.set("trading_settings", OFF)


def _dead(made: Bench) -> bool:
    return any(p.poll() is not None for p in made.stack.processes.values())


def _stubborn(made: Bench) -> None:
    """The venue's cancel-all does nothing, so that each order must be cancelled."""
    assert made.broker is not None
    made.broker.lie("DELETE /v2/orders", (500, ""), (500, ""))
    _resting(made)


def _latch(made: Bench) -> None:
    eventually(lambda: made.stack.status("active") or _dead(made), what="trading")
    made.stack.set("risk_settings", '{"emergency_stop_active": true}')


def _lift(made: Bench) -> None:
    _latch(made)
    eventually(lambda: (made.stack.json("stop_report") or {}).get("state") == "STOPPED" or _dead(made), what="a stop")
    made.stack.set("risk_settings", RISK % RULES.orders_per_ticker)


def _stop(name: str) -> Scenario:
    return Scenario("emergency", prepare=_stubborn if name.startswith("cancel.each") else _resting)


_SPECIAL = {
    "gate.denied": Scenario(hand=_flicker),
    "submit.rejected": Scenario(prepare=_lie(REFUSAL)),
    "submit.ambiguous": Scenario(prepare=_lie("reset")),
    "submit.not_sent": Scenario(prepare=_slow_gate, hand=_stumble),
    "recover.never_sent": Scenario(prepare=_lose_gate),
    "act.before": Scenario(prepare=_lie("reset")),
    "act.after": Scenario(prepare=_lie("reset")),
    "adopt.before": Scenario(prepare=_foreign),
    "adopt.after": Scenario(prepare=_foreign),
    "recover.ask": Scenario(first="submit.answered"),
    "recover.told": Scenario(first="submit.answered"),
    "recover.taken": Scenario(first="submit.answered"),
    "recover.absent": Scenario(first="gate.after"),
    "lease.release": Scenario(prepare=_terminate),
    "latch.before": Scenario("emergency", prepare=_latch),
    "latch.after": Scenario("emergency", prepare=_latch),
    "latch.flagged": Scenario("emergency", prepare=_latch),
    "latch.lift": Scenario("emergency", prepare=_lift),
    "arm.before": Scenario("emergency"),
    "arm.after": Scenario("emergency"),
}
_EMERGENCY = ("cancel.", "stop.", "fence.raise", "fence.remembered")

SCENARIOS = {
    name: _SPECIAL.get(name) or (_stop(name) if name.startswith(_EMERGENCY) else Scenario()) for name in FAILPOINTS
}


def run_failpoint(made: Bench, name: str) -> Trial:
    """One trial at one failpoint, with the limits and the market as they were before."""
    assert made.broker is not None
    assert made.proxy is not None
    made.proxy.heal()
    made.broker.fill_market_orders = True
    made.stack.set("risk_settings", RISK % RULES.orders_per_ticker)
    return _at_failpoint(made, name, SCENARIOS[name])


def _at_failpoint(made: Bench, setting: str, scenario: Scenario) -> Trial:
    """Run until the failpoint ends its process; restart it without; stop; judge."""
    before, victim = len(made.truth().orders), scenario.victim
    if scenario.first:
        _restart(made, victim, scenario.first)
        made.trade()
        _await_end(made, victim)
    _restart(made, victim, setting)
    made.trade(scenario.hand(made))
    scenario.prepare(made)
    reached = _await_end(made, victim)
    if not reached:
        made.stack.kill(victim)
    made.rest()  # a hand that writes the settings must not be the one that switches on again
    off_at = made.stop()
    made.revive(victim)
    return Trial(setting, made.settle(off_at, before), reached, [f"{victim} at {setting}", scenario.first])


def _restart(made: Bench, name: str, failpoint: str) -> None:
    """Start armed. It may be dead before its first heartbeat, which is what it is for."""
    made.stack.kill(name)
    made.stack.launch(name, SIXBOT_FAILPOINT=failpoint)


def _await_end(made: Bench, name: str, seconds: float = 30.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if made.stack.processes[name].poll() is not None:
            return made.stack.processes[name].returncode == -signal.SIGKILL
        time.sleep(0.02)
    return False
