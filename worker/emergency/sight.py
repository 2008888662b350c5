"""One look at Redis: all that may forbid trading, in one round trip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from shared.documents import Document, Reading, RiskSettings, TradingSettings, parse_json
from shared.errors import DocumentError
from shared.store import Store, judge, translated_errors, wrong_type
from worker.emergency.fence_line import whole_number
from worker.line import Line

D = TypeVar("D", bound=Document)


@dataclass(frozen=True, slots=True)
class Sight:
    """Both documents, the epoch (None: missing or mangled), this host's heartbeats of trading, and whether Redis had
    broken the connection off since the last look."""

    settings: Reading[TradingSettings]
    risk: Reading[RiskSettings]
    epoch: int | None
    beats: Sequence[Mapping[str, Any]]
    was_cut: bool = False


class Eye:
    """Looks over a line of its own. ``accounts`` are those whose traders' heartbeats count."""

    def __init__(self, store: Store, accounts: Sequence[str]) -> None:
        self._keys, self._line = store.keys, Line(store.client)
        self._traders = ["trading", *(f"trading-{account}" for account in accounts)]
        """The trading processes of a host: the one for all accounts, and one for each."""
        self._packed: dict[str, Sequence[bytes]] = {}
        self._looked = self._was_cut = False

    def look(self, good: tuple[TradingSettings, RiskSettings], host: str) -> Sight:
        """A stop waits for nothing twice. ``good`` is what an unreadable document falls back to.

        Raises StoreUnreachable, and StoreRefused where Redis refuses for another reason than a key's type.
        """
        with translated_errors():
            self._was_cut = self._was_cut or (self._looked and not self._line.is_up)
            self._line.open()
            self._line.send(self._questions(host))
            answers = self._line.read(4)
            for answer in answers:
                if isinstance(answer, Exception) and "WRONGTYPE" not in str(answer):
                    raise answer
        settings = _judged(self._keys.trading_settings, answers[0], TradingSettings, good[0])
        risk = _judged(self._keys.risk_settings, answers[1], RiskSettings, good[1])
        beats = [beat for raw in answers[3] if raw is not None and (beat := _object(raw)) is not None]
        sight = Sight(settings, risk, whole_number(answers[2]), beats, self._was_cut)
        self._looked, self._was_cut = True, False
        return sight

    def _questions(self, host: str) -> Sequence[bytes]:
        packed = self._packed.get(host)
        if packed is None:
            keys = self._keys
            beats = [keys.heartbeat(name, host) for name in self._traders]
            gets = [("GET", key) for key in (keys.trading_settings, keys.risk_settings, keys.trading_epoch)]
            packed = self._packed[host] = self._line.pack([*gets, ("MGET", *beats)])
        return packed

    def close(self) -> None:
        self._line.close()


def _judged(key: str, answer: bytes | Exception | None, model: type[D], good: D) -> Reading[D]:
    return wrong_type(key, good) if isinstance(answer, Exception) else judge(answer, model, good)


def _object(raw: bytes) -> Mapping[str, Any] | None:
    try:
        found = parse_json(raw)
    except DocumentError:
        return None
    return found if isinstance(found, dict) else None
