"""Telegram as a frontend: who may say what, and that a stop is done at once, once, and also without Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from shared.clock import ManualClock
from shared.control import Actor, Control
from shared.keys import Keys
from shared.store import Store, connect
from tests.builders import NOW
from tests.servers import telegram
from tests.servers.telegram import TelegramServer
from tests.support import RedisServer
from worker.reporters.telegram import send_text
from worker.telegram.api import TelegramApi, TelegramError
from worker.telegram.bot import HELP, Bot
from worker.telegram.poll import OFFSET_SECONDS, CommandListener

CHAT, STRANGER = 5, 6


@dataclass
class Line:
    """A listener that a test turns by hand."""

    server: TelegramServer
    store: Store
    stop_path: Path
    clock: ManualClock

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        logger: Any = structlog.get_logger()
        api = TelegramApi(telegram.TOKEN, self.server.url, 5)
        bot = Bot(self.store, self.clock, self.stop_path, lambda: "4821", logger)
        self.listener = CommandListener(api, bot, [CHAT], self.store, self.clock, logger, lambda: True, send_text)

    def ask(self, text: str, chat: int = CHAT, user: int = 7) -> str:
        """Write, let the bot look once, and read what it answered."""
        before = len(self.server.sent)
        self.server.say(chat, text, user=user)
        self.listener.turn()
        return "\n".join(text for _, text in self.server.sent[before:])

    @property
    def enabled(self) -> object:
        found = self.store.get_json(self.store.keys.trading_settings)
        return found.get("enabled") if isinstance(found, dict) else None

    def rows(self, stream: str) -> list[dict[str, str]]:
        raw: Any = self.store.client.xrange(stream)
        return [{k.decode(): v.decode() for k, v in fields.items()} for _, fields in raw]


@pytest.fixture
def line(store: Store, tmp_path: Path) -> Iterator[Line]:
    Control(store, ManualClock(NOW)).change_settings({"enabled": True}, Actor("me", "cli"))
    with TelegramServer() as server:
        yield Line(server, store, tmp_path / "run" / "STOP", ManualClock(NOW))


def test_stop_when_an_allowed_chat_says_so_is_done_and_audited(line: Line) -> None:
    assert "OFF" in line.ask("/stop")
    assert line.enabled is False
    entry = line.rows("audit")[-1]
    assert (entry["who"], entry["from"], entry["key"]) == ("ann (7)", "telegram", "trading_settings")


@pytest.mark.parametrize("text", ["/STOP", "/stop@six_bot now", "  /stop  ", "/stop\nplease", "/stop!", "/stop\tnow"])
def test_stop_when_written_in_any_way_is_a_stop(line: Line, text: str) -> None:
    line.ask(text)
    assert line.enabled is False


def test_command_when_from_an_unknown_chat_gets_nothing_and_is_noted_once(line: Line) -> None:
    for text in ("/stop", "/status", "/start"):
        assert line.ask(text, STRANGER) == ""
    assert line.enabled is True
    noted = [row for row in line.rows("events") if row["event"] == "telegram_unknown_chat"]
    assert [row["chat"] for row in noted] == [str(STRANGER)]
    line.clock.advance(3601)
    line.ask("/stop", STRANGER)
    assert len([row for row in line.rows("events") if row["event"] == "telegram_unknown_chat"]) == 2


def test_updates_when_sent_again_are_not_done_again(line: Line) -> None:
    """A server that repeats a stop after the owner has started again must not stop it."""
    line.ask("/stop")
    line.server.ignore_offset = True
    Control(line.store, line.clock).start(Actor("me", "cli"))
    line.listener.turn()
    line.restart()
    line.listener.turn()
    assert line.enabled is True
    assert len(line.server.texts(CHAT)) == 1


def test_offset_when_restarted_goes_on_where_it_was(line: Line) -> None:
    line.ask("/help")
    line.restart()
    assert line.ask("/pnl") == "no completed trade yet"
    assert line.server.texts(CHAT)[0] == HELP


def test_updates_when_a_week_was_silent_may_have_any_number(line: Line) -> None:
    """Telegram chooses a random number then; a stop with a lower one than before must not be taken for a repeat."""
    line.ask("/help")
    line.clock.advance(OFFSET_SECONDS)
    assert 0 < int(str(line.store.client.ttl("telegram:offset"))) <= OFFSET_SECONDS
    line.store.client.delete("telegram:offset")
    line.server.updates.clear()
    line.server.say(CHAT, "/stop", number=3)
    line.listener.turn()
    assert line.enabled is False


def test_start_when_not_confirmed_starts_nothing(line: Line) -> None:
    line.ask("/stop")
    assert "/start 4821" in line.ask("/start")
    for text, user in (("/start 1111", 7), ("/start 4821", 8)):
        assert "not the code" in line.ask(text, user=user)
    assert line.enabled is False
    line.ask("/start")
    line.clock.advance(61)
    assert "too old" in line.ask("/start 4821")
    assert line.enabled is False


def test_start_when_confirmed_in_time_starts_and_is_audited(line: Line) -> None:
    line.ask("/stop")
    assert "strategy CONSERVATIVE" in line.ask("/start")
    line.ask("/start 4821")
    assert line.enabled is True
    assert line.rows("audit")[-1]["from"] == "telegram"
    assert "not the code" in line.ask("/start 4821")


def test_start_when_a_stop_file_stands_is_refused(line: Line) -> None:
    """Who put the file there is on the host; a phone does not take it away."""
    line.ask("/stop")
    line.stop_path.parent.mkdir(parents=True)
    line.stop_path.touch()
    line.ask("/start")
    assert "STOP file" in line.ask("/start 4821")
    assert line.enabled is False


def test_stop_when_redis_is_down_writes_the_stop_file(tmp_path: Path, own_redis: RedisServer) -> None:
    client = connect(own_redis.url, timeout_seconds=0.5)
    own_redis.stop()
    with TelegramServer() as server:
        line = Line(server, Store(client, Keys()), tmp_path / "run" / "STOP", ManualClock(NOW))
        assert "STOP file is written" in line.ask("/stop")
        assert line.stop_path.exists()
        assert "Redis does not answer" in line.ask("/status")
        assert server.requests["sendMessage"] == 2
    client.close()


def test_looking_when_keys_are_hostile_or_mangled_answers_in_plain_words(line: Line) -> None:
    store = line.store
    store.put_json(
        "trading_status", {"state": "<b>ACTIVE", "mode": "paper", "last_error": "x\n/stop\u202e", "active": 1}
    )
    store.put_json("stop_report", {"state": "STOPPED", "reason": "risk_limit", "orders_found": 2, "orders_canceled": 2})
    store.put_json("portfolio_positions", [{"ticker": f"<T{n}>", "qty": "1", "side": "long"} for n in range(50)] + [7])
    store.put_json("stats", {"today_pnl": 1.5, "wins": 2, "total_pnl": "x" * 500})
    status = line.ask("/status")
    assert "paper <b>ACTIVE" in status
    assert "last_error x /stop" in status
    assert "last stop STOPPED: risk_limit, 2 of 2 cancelled" in status
    positions = line.ask("/positions")
    assert positions.splitlines()[0] == "long 1 <T0> at –, –"
    assert positions.splitlines()[-1] == "and 10 more"
    assert "today_pnl 1.5" in line.ask("/pnl")
    for key in ("trading_status", "stats", "portfolio_positions"):
        store.client.set(key, b"{")
    assert line.ask("/status").startswith("– –")
    assert line.ask("/positions") == "nothing is held"


@pytest.mark.parametrize(
    "update",
    [
        {"update_id": 50},
        {"update_id": 50, "message": None},
        {"update_id": 50, "message": {"chat": {"id": True}, "text": "/stop"}},
        {"update_id": 50, "message": {"chat": {"id": 5}, "text": 5}},
        {"update_id": 50, "message": {"chat": [], "from": "x", "text": "/stop"}},
        {"update_id": 50, "edited_message": {"chat": {"id": 5}, "text": "/stop"}},
        {"update_id": "x"},
        [],
    ],
)
def test_updates_when_odd_are_passed_over(line: Line, update: Any) -> None:
    line.server.updates.append(update)
    line.server.lie("getUpdates", json.dumps({"ok": True, "result": [update]}))
    line.listener.turn()
    line.server.updates.clear()
    assert line.enabled is True
    assert "OFF" in line.ask("/stop")


def test_answer_when_it_cannot_be_sent_does_not_undo_or_repeat_the_stop(line: Line) -> None:
    line.server.lie("sendMessage", telegram.too_many(2000))
    assert line.ask("/stop") == ""
    assert line.enabled is False
    assert line.ask("/help") == HELP


def test_stop_when_it_comes_behind_others_waits_for_none_of_their_answers(line: Line) -> None:
    """Also where Telegram takes no answer, and where a command before it fails in a way that nobody foresaw."""
    line.server.lie("sendMessage", 500, 500, 500)
    line.listener._bot._commands = {  # type: ignore[misc]
        **line.listener._bot._commands,
        "/pnl": lambda _message, _rest: str(1 // 0),
    }
    for text in ("/positions", "/pnl", "/stop"):
        line.server.say(CHAT, text)
    line.listener.turn()
    assert line.enabled is False
    assert line.server.requests["getUpdates"] == 1
    assert "error of sixbot's own" in line.ask("/pnl")


@pytest.mark.parametrize("lie", [401, 500, "<html>", telegram.too_many(7), telegram.refusal(409, "Conflict")])
def test_listening_when_the_server_refuses_raises_without_the_token(line: Line, lie: Any) -> None:
    line.server.lie("getUpdates", lie)
    with pytest.raises(TelegramError) as caught:
        line.listener.turn()
    assert telegram.TOKEN not in str(caught.value)
    assert (caught.value.retry_after == 7) is (lie == telegram.too_many(7))


def test_code_when_the_clock_moves_is_per_person(line: Line) -> None:
    line.ask("/stop")
    line.ask("/start", user=7)
    line.clock.set(NOW + timedelta(seconds=10))
    line.ask("/start", user=8)
    line.ask("/start 4821", user=7)
    assert line.enabled is True
