"""Client order ids: ours, minted before anything is written, readable by eye and legal at every venue.

``sb`` + ``e`` (entry) or ``x`` (exit) + bot id + ``r`` + random, lower-case letters and digits, at most 32 characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from worker.core.types import Effect

FLATTEN_PREFIX = "f-"
"""How the ids begin under which the emergency worker closes positions: ``f-{stop}-{symbol}-{n}``."""

_PATTERN = re.compile(r"^sb([ex])(\d{1,10})r([a-z0-9]{10,18})$")
_TAIL = re.compile(r"[a-z0-9]{10,18}").fullmatch
_ENTRY = Effect.ENTRY
_LETTER = {Effect.ENTRY: "e", Effect.EXIT: "x"}
_EFFECT = {letter: effect for effect, letter in _LETTER.items()}


def mint(effect: Effect, bot_id: int, entropy: str) -> str:
    """A new id; ``entropy`` is 10 to 18 random lower-case letters and digits. Raises ValueError."""
    minted = f"sb{_LETTER[effect]}{bot_id}r{entropy}"
    if not _PATTERN.match(minted):
        raise ValueError(f"not a legal client order id: {minted!r}")
    return minted


def minter(bot_id: int, entropy: Callable[[], str]) -> Callable[[Effect], str]:
    """``mint`` for one bot, whose half of every id is made and checked once. Raises ValueError."""
    entry, exit_ = (mint(effect, bot_id, "0" * 10)[:-10] for effect in (Effect.ENTRY, Effect.EXIT))

    def new(effect: Effect) -> str:
        tail = entropy()
        if _TAIL(tail) is None:
            raise ValueError(f"not the end of a client order id: {tail!r}")
        return (entry if effect is _ENTRY else exit_) + tail

    return new


def external_name(account: str, venue_order_id: str) -> str:
    """The name of an order that is not ours: the venue's id, which two venues may both give, so that only account
    ``default`` has it bare."""
    return venue_order_id if account == "default" else f"{account}:{venue_order_id}"


def is_ours(client_order_id: str | None) -> bool:
    """Whether an id has our form."""
    return client_order_id is not None and _PATTERN.match(client_order_id) is not None


def effect_of(client_order_id: str | None) -> Effect | None:
    """Entry or exit, by the id's letter; None for an id that is not ours."""
    match = _PATTERN.match(client_order_id or "")
    return _EFFECT[match[1]] if match else None


def bot_of(client_order_id: str | None) -> int | None:
    """The bot whose order an id names; None for an id that is not ours."""
    match = _PATTERN.match(client_order_id or "")
    return int(match[2]) if match else None
