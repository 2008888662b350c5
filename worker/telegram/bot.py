"""What a Telegram chat may ask and switch: a frontend like the others, it reads keys and writes the switch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from shared.clock import Clock
from shared.control import Actor, Control
from shared.errors import SixbotError, StoreError, StoreUnreachable
from shared.store import Store
from worker.core.telling import clean

CONFIRM_SECONDS = 60.0
SHOWN_POSITIONS = 40
HELP = """/status  what trading does now
/positions  what is held
/pnl  profit and loss
/stop  stop trading now
/start  start trading, after a confirmation
/help  this"""


@dataclass(frozen=True, slots=True)
class Message:
    """One text message: who wrote it where. ``sender`` is untrusted text."""

    chat_id: int
    sender_id: int
    sender: str
    text: str

    @classmethod
    def of(cls, update: object) -> Message | None:
        """The message of an update, or None where it holds none that says anything."""
        message = update.get("message") if isinstance(update, dict) else None
        chat = message.get("chat") if isinstance(message, dict) else None
        sender = message.get("from") if isinstance(message, dict) else None
        chat_id = chat.get("id") if isinstance(chat, dict) else None
        text = message.get("text") if isinstance(message, dict) else None
        if isinstance(chat_id, bool) or not isinstance(chat_id, int) or not isinstance(text, str):
            return None
        sender = sender if isinstance(sender, dict) else {}
        sender_id = sender.get("id")
        name = sender.get("username") or sender.get("first_name") or ""
        number = sender_id if isinstance(sender_id, int) and not isinstance(sender_id, bool) else 0
        return cls(chat_id, number, clean(str(name), 40), text)

    @property
    def actor(self) -> Actor:
        return Actor(f"{self.sender or 'user'} ({self.sender_id})", "telegram")


class Bot:
    """Answers commands. A stop is done before it is answered and needs neither RQ nor the venue."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        stop_path: Path,
        code: Callable[[], str],
        logger: structlog.stdlib.BoundLogger,
    ) -> None:
        self._store, self._control, self._clock = store, Control(store, clock), clock
        self._stop_path, self._code, self._logger = stop_path, code, logger
        self._asked: dict[tuple[int, int], tuple[str, float]] = {}
        self._commands: Mapping[str, Callable[[Message, str], str]] = {
            "/status": self._status,
            "/positions": self._positions,
            "/pnl": self._pnl,
            "/stop": self._stop,
            "/start": self._start,
            "/help": lambda _message, _rest: HELP,
        }

    def answer(self, message: Message) -> str | None:
        """Do what an allowed chat says and tell what came of it; None where it is no command of ours."""
        word, rest = [*message.text.split(maxsplit=1), "", ""][:2]
        command = self._commands.get(word.partition("@")[0].lower().rstrip(".,!"))
        if command is None:
            return HELP if word.startswith("/") else None
        try:
            return command(message, rest.strip())
        except StoreUnreachable:
            return "Redis does not answer; whether anything was changed is not known"
        except SixbotError as error:
            return f"not done: {clean(str(error))}"
        except Exception:  # the last net: one command must not be in the way of the next, which may be a stop
            self._logger.exception("command_failed", command=word)
            return "not done: an error of sixbot's own, see the log of jobs; stop by another way if that was a stop"

    # -- looking --------------------------------------------------------------------------------------------------

    def _status(self, _message: Message, _rest: str) -> str:
        found, stop = self._json("trading_status"), self._json("stop_report")
        latch = self._json("stop_latch")
        lines = [f"{_shown(found.get('mode'))} {_shown(found.get('state'))}"]
        for name in ("stop_reason", "last_error", "last_run", "next_run", "trades_today", "total_volume"):
            if found.get(name) is not None:
                lines.append(f"{name} {_shown(found[name])}")
        if stop:
            done = f"{_shown(stop.get('orders_canceled'))} of {_shown(stop.get('orders_found'))} cancelled"
            lines.append(f"last stop {_shown(stop.get('state'))}: {_shown(stop.get('reason'))}, {done}")
        if latch:
            lines.append(f"latched: {_shown(latch.get('reason'))}")
        return "\n".join(lines)

    def _positions(self, _message: Message, _rest: str) -> str:
        rows = self._store.get_json(self._store.keys.portfolio_positions)
        held = [r for r in rows if isinstance(r, dict)] if isinstance(rows, list) else []
        lines = [
            f"{_shown(r.get('side'))} {_shown(r.get('qty'))} {_shown(r.get('ticker'))} "
            f"at {_shown(r.get('avg_entry_price'))}, {_shown(r.get('unrealized_pl'))}"
            for r in held[:SHOWN_POSITIONS]
        ]
        if len(held) > SHOWN_POSITIONS:
            lines.append(f"and {len(held) - SHOWN_POSITIONS} more")
        return "\n".join(lines) or "nothing is held"

    def _pnl(self, _message: Message, _rest: str) -> str:
        found = self._json("stats")
        names = ("today_pnl", "total_pnl", "total_trades", "wins", "loss_trades", "win_rate", "fees_paid")
        lines = [f"{name} {_shown(found[name])}" for name in names if found.get(name) is not None]
        return "\n".join(lines) or "no completed trade yet"

    def _json(self, name: str) -> Mapping[str, Any]:
        found = self._store.get_json(getattr(self._store.keys, name))
        return found if isinstance(found, dict) else {}

    # -- switching ------------------------------------------------------------------------------------------------

    def _stop(self, message: Message, _rest: str) -> str:
        self._asked.clear()
        try:
            self._control.stop(message.actor)
        except StoreError:
            self._stop_path.parent.mkdir(parents=True, exist_ok=True)
            self._stop_path.touch()
            self._logger.warning("stop_file_written", path=str(self._stop_path), who=message.actor.name)
            return (
                "Redis does not answer. The STOP file is written on the host of this worker, and stops trading there; "
                "`sixbot start` on that host removes it"
            )
        self._logger.warning("stopped", who=message.actor.name)
        return "trading is switched OFF. /status tells what the stop found"

    def _start(self, message: Message, rest: str) -> str:
        """Any chat's first message to a bot is /start, so that alone starts nothing."""
        asker = (message.chat_id, message.sender_id)
        asked = self._asked.pop(asker, None)
        if rest:
            if asked is None or rest != asked[0] or self._clock.monotonic() > asked[1]:
                return "that is not the code, or it is too old: /start gives a new one"
            if self._stop_path.exists():
                return "not started: the STOP file exists; `sixbot start` on the host removes it"
            self._control.start(message.actor)
            self._logger.warning("started", who=message.actor.name)
            return "trading_settings.enabled is true. /status tells whether it trades"
        code = self._code()
        settings, risk = self._control.settings().value, self._control.risk().value
        self._asked[asker] = (code, self._clock.monotonic() + CONFIRM_SECONDS)
        return (
            f"mode {_shown(self._json('trading_status').get('mode'))}, strategy {settings.strategy}, "
            f"buy above {settings.buy_threshold_pct}, sell below -{settings.sell_threshold_pct}, "
            f"at most {risk.daily_notional_cap} a day\n"
            f"To start trading, send within {CONFIRM_SECONDS:g} seconds: /start {code}"
        )


def _shown(value: object) -> str:
    return "–" if value is None else clean(str(value), 120)
