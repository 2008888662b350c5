"""One suite over both gates, the script in Redis and its in-memory twin: nothing passes but what was judged."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from shared.clock import ManualClock, TradingCalendar, TradingDay
from shared.documents import Reading, RiskSettings
from shared.errors import StoreUnreachable
from shared.store import Store
from tests.builders import order, switches, told
from tests.servers.proxy import FaultProxy
from tests.support import RedisServer
from worker.core.ledger import take_act, take_in
from worker.core.orders import Order
from worker.core.risk import Denial
from worker.core.types import Effect, OrderState, Side
from worker.trading.book import RedisBook
from worker.trading.gate import RedisGate
from worker.trading.memory import MemoryLedger
from worker.trading.ports import Book, Gate, Switches, Ticket

CALENDAR = TradingCalendar(ZoneInfo("America/New_York"))


class RedisCase:
    """The real gate, with the keys written as the emergency worker and the lease would."""

    def __init__(self, store: Store, url: str) -> None:
        self.store = store
        gate = RedisGate(url, store.keys, "default", timeout_seconds=30)
        gate.owner = "us"
        self.gate: Gate = gate
        self.book: Book = RedisBook(store, "default", CALENDAR)
        self.put("lease:account:default", "us")
        self.epoch(1)
        self.arm(1)

    def put(self, key: str, value: str | bytes) -> None:
        self.store.client.set(key, value)

    def documents(self, judged: Switches) -> None:
        self.put("trading_settings", judged.settings.raw or b"")
        if judged.risk.raw is None:
            self.store.client.delete("risk_settings")
        else:
            self.put("risk_settings", judged.risk.raw)

    def epoch(self, value: int) -> None:
        self.put("trading_epoch", str(value))

    def arm(self, epoch: int | None) -> None:
        if epoch is None:
            self.store.client.delete("trading_armed")
        else:
            self.put("trading_armed", str(epoch))

    def lose_lease(self) -> None:
        self.put("lease:account:default", "another")


class MemoryCase:
    """The twin."""

    def __init__(self) -> None:
        self.ledger = MemoryLedger(ManualClock(datetime.now(UTC)), CALENDAR, switches())
        self.gate: Gate = self.ledger
        self.book: Book = self.ledger

    def documents(self, judged: Switches) -> None:
        self.ledger.switches = judged

    def epoch(self, value: int) -> None:
        self.ledger.epoch = value

    def arm(self, epoch: int | None) -> None:
        self.ledger.armed = epoch is not None

    def lose_lease(self) -> None:
        self.ledger.owned = False


Case = RedisCase | MemoryCase


@pytest.fixture(params=["redis", "memory"])
def case(request: pytest.FixtureRequest, store: Store, redis_server: RedisServer) -> Case:
    return RedisCase(store, redis_server.url) if request.param == "redis" else MemoryCase()


def today() -> TradingDay:
    return CALENDAR.day_of(datetime.now(UTC))


def ask(case: Case, judged: Switches, of: Order | None = None, run_id: str = "run-1") -> Denial | None:
    of = replace(of or order(), trading_day=today().name)
    return case.gate.admit(Ticket(of, judged, today(), run_id))


def code(denial: Denial | None) -> str:
    return "ADMITTED" if denial is None else denial.code


def test_admit_when_all_is_as_judged_makes_the_intent_durable(case: Case) -> None:
    judged = switches()
    case.documents(judged)
    assert ask(case, judged) is None
    kept = case.book.order("sbe1r0123456789")
    assert kept is not None
    assert kept.state is OrderState.INTENT
    assert [o.client_order_id for o in case.book.open_orders()] == ["sbe1r0123456789"]
    figures = case.book.day(today().name)
    assert figures.counters.notional == Decimal(1000)
    assert figures.counters.orders_per_ticker == {"AAPL": 1}


def test_admit_when_a_document_has_other_bytes_refuses_although_they_mean_the_same(case: Case) -> None:
    judged = switches()
    case.documents(switches(note="same meaning, other bytes"))
    assert code(ask(case, judged)) == "SETTINGS_CHANGED"
    case.documents(replace(judged, risk=switches({"max_trades_per_run": 3}).risk))
    assert code(ask(case, judged)) == "SETTINGS_CHANGED"


def test_admit_when_risk_settings_is_missing_compares_it_as_missing(case: Case) -> None:
    absent = replace(switches(), risk=Reading(None, RiskSettings()))
    case.documents(absent)
    assert code(ask(case, switches())) == "SETTINGS_CHANGED"
    assert ask(case, absent) is None


@pytest.mark.parametrize("fence", ["epoch", "disarmed", "lease"])
def test_admit_when_fenced_refuses_and_writes_nothing(case: Case, fence: str) -> None:
    judged = switches()
    case.documents(judged)
    if fence == "epoch":
        case.epoch(2)
    elif fence == "disarmed":
        case.arm(None)
    else:
        case.lose_lease()
    expected = {"epoch": "EPOCH_CHANGED", "disarmed": "NOT_ARMED", "lease": "LEASE_LOST"}[fence]
    assert code(ask(case, judged)) == expected
    assert case.book.order("sbe1r0123456789") is None
    assert case.book.day(today().name).counters.notional == 0


def test_admit_when_the_id_exists_refuses(case: Case) -> None:
    judged = switches({"cooldown_minutes": 0})
    case.documents(judged)
    assert ask(case, judged) is None
    assert code(ask(case, judged, run_id="run-2")) == "DUPLICATE_ID"


def test_admit_when_the_named_day_is_not_today_refuses(case: Case) -> None:
    judged = switches()
    case.documents(judged)
    yesterday = TradingDay("1999-01-01", today().start - 86400, today().start - 3)
    assert code(case.gate.admit(Ticket(order(), judged, yesterday, "run-1"))) == "WRONG_DAY"


def test_admit_when_the_cap_would_be_passed_refuses_entries_and_lets_exits_pass(case: Case) -> None:
    judged = switches({"daily_notional_cap": 1500, "cooldown_minutes": 0})
    case.documents(judged)
    assert ask(case, judged) is None
    second = ask(case, judged, order("sbe1r0123456788"))
    assert second == Denial("DAILY_NOTIONAL_CAP", "1,000.00 + 1,000.00 > 1,500.00")


def test_denial_when_the_gate_gives_it_is_written_as_that_of_the_rule(case: Case) -> None:
    judged = switches({"daily_notional_cap": 100, "cooldown_minutes": 0})
    case.documents(judged)
    for qty, written in (("12345.678", "1,234,567.80"), ("1.23456", "123.46"), ("1000", "100,000.00")):
        denial = ask(case, judged, order(qty=Decimal(qty)))
        assert denial == Denial("DAILY_NOTIONAL_CAP", f"0.00 + {written} > 100.00")
    leaving = order("sbx1r0123456787", side=Side.SELL, effect=Effect.EXIT)
    assert ask(case, judged, leaving) is None


def test_admit_when_the_cap_is_zero_has_no_cap(case: Case) -> None:
    judged = switches({"daily_notional_cap": 0, "cooldown_minutes": 0})
    case.documents(judged)
    assert ask(case, judged, order(qty=Decimal(10**6))) is None


def test_admit_when_the_ticker_had_its_orders_refuses(case: Case) -> None:
    judged = switches({"max_position_per_ticker": 1, "cooldown_minutes": 0})
    case.documents(judged)
    assert ask(case, judged) is None
    assert code(ask(case, judged, order("sbe1r0123456788"))) == "ORDERS_PER_TICKER"
    assert ask(case, judged, order("sbe1r0123456789x"[:16], ticker="MSFT")) is None


def test_admit_when_the_ticker_cools_down_refuses_entries_only(case: Case) -> None:
    judged = switches({"cooldown_minutes": 30})
    case.documents(judged)
    assert ask(case, judged) is None
    assert code(ask(case, judged, order("sbe1r0123456788"))) == "COOLDOWN"
    assert ask(case, judged, order("sbx1r0123456787", side=Side.SELL, effect=Effect.EXIT)) is None


def test_admit_when_the_run_had_its_orders_refuses_until_the_next_run(case: Case) -> None:
    judged = switches({"max_trades_per_run": 1, "cooldown_minutes": 0})
    case.documents(judged)
    assert ask(case, judged) is None
    other = order("sbe1r0123456788", ticker="MSFT")
    assert code(ask(case, judged, other)) == "TRADES_PER_RUN"
    assert ask(case, judged, other, run_id="run-2") is None


def test_admit_when_as_many_tickers_are_exposed_as_allowed_refuses_another_one(case: Case) -> None:
    judged = switches({"max_open_positions": 1, "cooldown_minutes": 0})
    case.documents(judged)
    assert ask(case, judged) is None
    assert code(ask(case, judged, order("sbe1r0123456788", ticker="MSFT"))) == "OPEN_POSITIONS"
    assert ask(case, judged, order("sbe1r0123456787")) is None


def test_reservation_when_rejected_is_released_with_its_count_and_cooldown(case: Case) -> None:
    judged = switches({"max_position_per_ticker": 1})
    case.documents(judged)
    assert ask(case, judged) is None
    now = datetime.now(UTC)
    case.book.change("sbe1r0123456789", lambda b: take_act(b, OrderState.REJECTED, now, "no"))
    figures = case.book.day(today().name)
    assert figures.counters.notional == 0
    assert figures.counters.orders_per_ticker.get("AAPL", 0) == 0
    assert ask(case, judged, order("sbe1r0123456788")) is None


def test_cooldown_when_a_refused_exit_gives_its_own_back_still_runs_from_the_entry(case: Case) -> None:
    judged = switches({"cooldown_minutes": 30})
    case.documents(judged)
    assert ask(case, judged) is None
    wanted = order("sbx1r0123456788", side=Side.SELL, effect=Effect.EXIT)
    assert ask(case, judged, wanted) is None
    case.book.change(wanted.client_order_id, lambda b: take_act(b, OrderState.REJECTED, datetime.now(UTC), "no"))
    assert code(ask(case, judged, order("sbe1r0123456787"))) == "COOLDOWN"


@pytest.mark.parametrize("given_up", [OrderState.REJECTED, OrderState.NOT_SENT])
def test_count_when_a_refused_order_fills_after_all_is_taken_again_with_its_cooldown(
    case: Case, given_up: OrderState
) -> None:
    judged = switches({"cooldown_minutes": 30})
    case.documents(judged)
    assert ask(case, judged) is None
    now = datetime.now(UTC)
    case.book.change("sbe1r0123456789", lambda b: take_act(b, given_up, now, "no"))
    filled = told(order(), OrderState.FILLED, "10", "100")
    for _ in range(2):
        case.book.change("sbe1r0123456789", lambda b: take_in(b, filled, (), now, venue="test"))
    figures = case.book.day(today().name)
    assert (figures.counters.notional, figures.counters.orders_per_ticker["AAPL"]) == (Decimal(1000), 1)
    assert case.book.stats().failed == 0
    assert code(ask(case, judged, order("sbe1r0123456788"))) == "COOLDOWN"


def test_reservation_when_filled_at_another_price_is_trued_up_and_counts(case: Case) -> None:
    judged = switches()
    case.documents(judged)
    assert ask(case, judged) is None
    now = datetime.now(UTC)
    filled = told(order(), OrderState.FILLED, "10", "101.5")
    for _ in range(2):
        case.book.change("sbe1r0123456789", lambda b: take_in(b, filled, (), now, venue="test"))
    figures = case.book.day(today().name)
    assert figures.counters.notional == Decimal(1015)
    assert (figures.filled_orders, figures.filled_notional) == (1, Decimal(1015))
    assert [p.quantity for p in case.book.open_positions()] == [Decimal(10)]
    assert case.book.open_orders() == []


def test_reservation_when_canceled_keeps_what_filled_and_the_count(case: Case) -> None:
    judged = switches({"max_position_per_ticker": 1, "cooldown_minutes": 0})
    case.documents(judged)
    assert ask(case, judged) is None
    canceled = told(order(), OrderState.CANCELED, "4", "100")
    case.book.change("sbe1r0123456789", lambda b: take_in(b, canceled, (), datetime.now(UTC), venue="test"))
    assert case.book.day(today().name).counters.notional == Decimal(400)
    assert code(ask(case, judged, order("sbe1r0123456788"))) == "ORDERS_PER_TICKER"


@pytest.mark.parametrize("key", ["orders:open", "positions:open", "risk_last_trade", "risk_counters", "trading_armed"])
def test_admit_when_a_key_has_the_wrong_type_refuses_and_keeps_it(
    store: Store, redis_server: RedisServer, key: str
) -> None:
    case = RedisCase(store, redis_server.url)
    judged = switches()
    case.documents(judged)
    name = store.keys.risk_counters(today().name) if key == "risk_counters" else key
    store.client.delete(name)
    store.client.rpush(name, "mangled")
    assert code(ask(case, judged)) in {"WRONG_TYPE", "NOT_ARMED"}
    assert store.client.lrange(name, 0, -1) == [b"mangled"]


@pytest.mark.parametrize("key", ["trading_settings", "risk_settings"])
def test_admit_when_a_settings_key_has_the_wrong_type_refuses(
    store: Store, redis_server: RedisServer, key: str
) -> None:
    case = RedisCase(store, redis_server.url)
    judged = switches()
    case.documents(judged)
    store.client.delete(key)
    store.client.rpush(key, "mangled")
    assert code(ask(case, judged)) == "SETTINGS_CHANGED"


@pytest.mark.parametrize("counter", ["nan", "inf", "1e400", "-5", "9007199254740992", "text", "", "0x10", "1.5", "1e3"])
def test_admit_when_a_counter_is_mangled_refuses(store: Store, redis_server: RedisServer, counter: str) -> None:
    case = RedisCase(store, redis_server.url)
    judged = switches()
    case.documents(judged)
    store.client.hset(store.keys.risk_counters(today().name), "notional", counter)
    assert code(ask(case, judged)) == "COUNTERS_UNREADABLE"


@pytest.mark.parametrize("field", ["orders:AAPL", "notional:AAPL", "orders"])
def test_admit_when_a_total_beside_is_mangled_refuses_and_writes_nothing(
    store: Store, redis_server: RedisServer, field: str
) -> None:
    """No limit reads some of them, but what would fail at the second write must not have made the first."""
    case = RedisCase(store, redis_server.url)
    judged = switches()
    case.documents(judged)
    name = store.keys.risk_counters(today().name)
    store.client.hset(name, field, "text")
    assert code(ask(case, judged)) == "COUNTERS_UNREADABLE"
    assert case.book.order("sbe1r0123456789") is None
    assert store.client.hgetall(name) == {field.encode(): b"text"}


def test_admit_when_a_total_without_a_limit_is_below_zero_carries_it_on(
    store: Store, redis_server: RedisServer
) -> None:
    """An order that was counted on the day before gives its count back on this one."""
    case = RedisCase(store, redis_server.url)
    judged = switches()
    case.documents(judged)
    name = store.keys.risk_counters(today().name)
    store.client.hset(name, "orders", "-1")
    assert ask(case, judged) is None
    assert store.client.hmget(name, "orders", "orders:AAPL", "notional", "notional:AAPL") == [
        b"0",
        b"1",
        b"1000000000",
        b"1000000000",
    ]


def test_admit_when_redis_forgot_the_script_knows_it_again(store: Store, redis_server: RedisServer) -> None:
    case, judged = RedisCase(store, redis_server.url), switches()
    case.documents(judged)
    assert ask(case, judged, order("sbe1r0123456701")) is None
    store.client.script_flush()
    assert ask(case, judged, order("sbe1r0123456702", ticker="MSFT")) is None


@pytest.mark.parametrize("how", ["a forgotten script", "a cut line"])
def test_admit_when_each_of_its_round_trips_is_slow_has_one_time_for_all(
    how: str, store: Store, redis_server: RedisServer
) -> None:
    """Two trips of 0.8 s are each within the gate's time, 1.2 s here, together they are not: nothing may leave."""
    case, judged = RedisCase(store, redis_server.url), switches()
    case.documents(judged)
    proxy = FaultProxy(redis_server.port)
    proxy.start()
    url = redis_server.url.replace(str(redis_server.port), str(proxy.port))
    gate = RedisGate(url, store.keys, "default", timeout_seconds=1.2)
    gate.owner = "us"
    case.gate = gate
    try:
        assert ask(case, judged, order("sbe1r0123456701")) is None
        if how == "a cut line":
            proxy.reset()
        else:
            store.client.script_flush()
        proxy.delay(0.4)  # each way
        with pytest.raises(StoreUnreachable):
            ask(case, judged, order("sbe1r0123456702", ticker="MSFT"))
        proxy.heal()
        assert ask(case, judged, order("sbe1r0123456703", ticker="NVDA")) is None
    finally:
        gate.close()
        proxy.stop()
