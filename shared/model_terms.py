"""What a model of the registry may be called, and what it must be for which bot."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from shared.bots import CYCLE_BOT
from shared.errors import SixbotError, shorten

LONGEST_NAME = 80
STREAM_FEATURES = 1
CYCLE_FEATURES = "bars-1"
CHANGE_OBJECTIVES = frozenset(
    {"regression", "regression_l1", "huber", "fair", "poisson", "quantile", "mape", "gamma", "tweedie"}
)
CLASS_OBJECTIVES = frozenset({"multiclass", "multiclassova"})
PROBABILITY_OBJECTIVES = frozenset({"binary", "cross_entropy"}) | CLASS_OBJECTIVES
_SYMBOL = re.compile(r"\*|[A-Za-z0-9][A-Za-z0-9./:_-]{0,39}")


class ModelError(SixbotError):
    """What was asked of the registry cannot be done as it was asked; the message names the field and the value."""


class ModelMissing(ModelError):
    """There is no such model."""


class ModelConflict(ModelError):
    """The state of the model or of a bot stands against it."""


def misfit(document: Mapping[str, Any], bot_id: int) -> str | None:
    """Why a bot cannot use the model of this document; None where it can."""
    number, is_cycle = document.get("id"), bot_id == CYCLE_BOT
    if document.get("status") != "valid":
        why = f" ({document['reason']})" if document.get("reason") else ""
        return f"model {number} is {document.get('status')}, not valid{why}"
    wanted, found = CYCLE_FEATURES if is_cycle else STREAM_FEATURES, document.get("feature_version")
    if found != wanted:
        return f"feature_version: bot {bot_id} computes {wanted!r}, model {number} wants {found!r}"
    objective = document.get("objective")
    if objective not in (CHANGE_OBJECTIVES if is_cycle else CHANGE_OBJECTIVES | PROBABILITY_OBJECTIVES):
        needs = "a change" if is_cycle else "a probability or a change"
        return f"objective: bot {bot_id} needs {needs}, which {objective!r} does not predict"
    return None


def checked_name(name: str) -> str:
    """One line of 1 to 80 printable characters, none of them < or >. Raises ModelError."""
    bare = name.strip()
    if not 1 <= len(bare) <= LONGEST_NAME:
        raise ModelError(f"name: must be 1 to {LONGEST_NAME} characters (got {len(bare)})")
    bad = [c for c in bare if c in "<>" or unicodedata.category(c)[0] == "C" or unicodedata.category(c) in ("Zl", "Zp")]
    if bad:
        raise ModelError(f"name: must be printable and without < or > (got {bad[0]!a})")
    return bare


def checked_symbol(symbol: str) -> str:
    """A symbol as venues write them, or ``*`` for any. Raises ModelError."""
    if not _SYMBOL.fullmatch(symbol):
        raise ModelError(f"symbol: must be * or 1 to 40 of A-Z a-z 0-9 . / : _ - (got {shorten(symbol, 40)})")
    return symbol
