"""One look at everything that may forbid trading: the documents, the file, and the traders' signs of life."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from shared.accounts import DEFAULT_ACCOUNT
from shared.clock import Clock, parse_rfc3339
from shared.config import Config
from shared.documents import RiskSettings, TradingSettings
from shared.errors import StoreError, StoreUnreachable
from worker.emergency.book import BookReader
from worker.emergency.memory import MemoryFile
from worker.emergency.sight import Eye
from worker.emergency.switch import View


class Lookout:
    """Keeps the last good documents, how long Redis has been away, and when each account's trader was last seen."""

    def __init__(
        self,
        config: Config,
        eye: Eye,
        book: BookReader,
        memory: MemoryFile,
        accounts: Sequence[str],
        host: str,
        clock: Clock,
    ) -> None:
        self._config, self._eye, self._book, self._memory, self._clock = config, eye, book, memory, clock
        self._accounts, self._host, self._stop_file = tuple(accounts), host, str(config.stop_path)
        held = memory.memory
        kept = ("emergency_stop_active", "reduce_only", "on_stop", "on_stop_automatic")
        risk = RiskSettings().model_copy(update={name: getattr(held, name) for name in kept})
        self.good: tuple[TradingSettings, RiskSettings] = TradingSettings(), risk
        self._redis_down_since: float | None = None
        self.was_cut_since_armed = False
        """Whether Redis may have been restarted since trading was armed last."""
        self._seen = dict.fromkeys(self._accounts, clock.monotonic())

    def beside_redis(self, *, signalled: bool) -> View:
        """The file and the signal by themselves: a Redis that hangs must not delay what needs none."""
        return View(None, None, stop_file_exists(self._stop_file), signalled)

    def look(self, *, signalled: bool, stop_file: bool) -> View:
        """Everything; whether the file exists was just seen beside Redis. One that refuses to be read is as lost as one
        that is mute."""
        began = self._clock.monotonic()
        highest = self._memory.memory.highest_epoch  # before Redis is asked: a fence may be raising both meanwhile
        try:
            sight = self._eye.look(self.good, self._host)
            parts = {name: account_part(sight.beats, name) for name in self._accounts}
            old, silent, halt = self._old_redis(highest, sight.epoch), self._silent(parts), self._halt(parts)
        except StoreError as error:
            if isinstance(error, StoreUnreachable):
                self._book.ask_later()
            if self._redis_down_since is None:
                self._redis_down_since = began
            down = self._clock.monotonic() - self._redis_down_since
            lost = down >= self._config.redis_lost_stop_seconds and self._memory.memory.active
            return View(None, None, stop_file, signalled, f"no answer for {down:.1f} s: {error}" if lost else "")
        self._redis_down_since = None
        self.was_cut_since_armed = self.was_cut_since_armed or sight.was_cut
        self.good = (sight.settings.value, sight.risk.value)
        return View(
            sight.settings,
            sight.risk,
            stop_file,
            signalled,
            old_redis=old,
            was_cut=sight.was_cut,
            silent=silent,
            halt=halt,
            reducing=any(beat is not None and bool(beat.get("reducing")) for beat in parts.values()),
        )

    def armed(self) -> None:
        """Trading begins anew: the traders' silence counts from here."""
        self.was_cut_since_armed = False
        self._seen = dict.fromkeys(self._accounts, self._clock.monotonic())

    def close(self) -> None:
        self._eye.close()

    def _old_redis(self, highest: int, epoch: int | None) -> str:
        """A Redis whose epoch is below one that was given stands for an older state: it never resumes by itself."""
        if self._memory.memory.latch is None and highest and (epoch is None or epoch < highest):
            return (
                f"trading_epoch is {'missing' if epoch is None else epoch}, it was {highest}: an older or emptied Redis"
            )
        return ""

    def _silent(self, parts: Mapping[str, Mapping[str, Any] | None]) -> str:
        now = self._clock.monotonic()
        for account, beat in parts.items():
            if beat is not None or not self._memory.memory.active:
                self._seen[account] = float("inf") if beat is not None and beat.get("stopping") else now
                continue
            quiet = now - self._seen[account]
            if quiet >= self._config.trader_silent_stop_seconds and self._book.has_open_orders(account):
                return f"no sign of life of the trader{_of(account)} for {quiet:.0f} s while orders are open"
        return ""

    def _halt(self, parts: Mapping[str, Mapping[str, Any] | None]) -> Mapping[str, Any] | None:
        """The first stop that a trader asks for, unless it was asked for before trading was resumed."""
        if self._memory.memory.latch is not None:
            return None
        for account, beat in parts.items():
            halt = beat.get("halt") if beat is not None else None
            if isinstance(halt, dict) and self._is_news(halt):
                return {**halt, "detail": f"{halt.get('detail', '')}{_of(account)}"}
        return None

    def _is_news(self, halt: Mapping[str, Any]) -> bool:
        resumed = self._memory.memory.resumed_at
        try:
            return not resumed or parse_rfc3339(str(halt.get("at"))) > parse_rfc3339(resumed)
        except ValueError:
            return True


def stop_file_exists(path: str) -> bool:
    """Existence counts, of a link that leads nowhere too; what cannot be looked at may be there."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def account_part(beats: Sequence[Mapping[str, Any]], account: str) -> Mapping[str, Any] | None:
    """What the trading processes of this host say of an account; None where none of them trades it."""
    for beat in beats:
        accounts = beat.get("accounts")
        if isinstance(accounts, dict):
            own = accounts.get(account)
            if isinstance(own, dict):
                return {**own, "stopping": beat.get("stopping")}
        elif account == DEFAULT_ACCOUNT:
            return beat
    return None


def _of(account: str) -> str:
    return "" if account == DEFAULT_ACCOUNT else f" (account {account})"
