"""The strict reading of the documents that people write: one parser, one set of bounds, for workers and web alike.

A document is one JSON value in one Redis string. What cannot be read means OFF; the last good values stay in force
for display; what stands in Redis is never touched by a reader.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from shared.errors import DocumentError

MAX_BYTES = 64 * 1024
MAX_DEPTH = 32
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)  # one that is never closed ends with the text
_BRACKET = re.compile(r"[\[\]{}]")


def parse_json(raw: bytes, max_bytes: int = MAX_BYTES) -> Any:
    """Parse strictly: UTF-8, bounded size, at most 32 levels, no duplicate keys, no NaN, Infinity or half characters.

    Raises DocumentError.
    """
    if len(raw) > max_bytes:
        raise DocumentError("document", f"is {len(raw)} bytes long, the limit is {max_bytes}")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError("document", "is not UTF-8", raw[:40]) from error
    _refuse_depth(text)
    try:
        value = json.loads(text, object_pairs_hook=_unique_pairs, parse_constant=_NotFinite, parse_float=_float)
        _refuse_infinite("document", value)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except DocumentError:
        raise
    except UnicodeEncodeError as error:
        raise DocumentError("document", "holds half of a character (a lone surrogate)", text) from error
    except (ValueError, RecursionError) as error:
        raise DocumentError("document", f"is not JSON: {error}", text) from error


def _refuse_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            raise DocumentError("document", f"is nested deeper than {MAX_DEPTH} levels", text)


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            shown = name.encode(errors="replace").decode()
            raise DocumentError(shown, "stands twice in the document", value)
        if isinstance(value, _NotFinite | list):
            _refuse_infinite(name, value)
        result[name] = value
    return result


class _NotFinite(str):
    """NaN, Infinity or 1e400 as it was written, until the field is known that holds it."""

    __slots__ = ()


def _refuse_infinite(name: str, value: object) -> None:
    if isinstance(value, _NotFinite):
        shown = name.encode(errors="replace").decode()
        raise DocumentError(shown, "holds a number that is not finite, which is not JSON", str(value))
    for item in value if isinstance(value, list) else ():
        _refuse_infinite(name, item)


def _float(text: str) -> float | _NotFinite:
    value = float(text)
    return value if math.isfinite(value) else _NotFinite(text)


def dump_json(value: object) -> bytes:
    """Compact JSON; Decimals become the same number in JSON. Raises ValueError on NaN."""
    return json.dumps(value, separators=(", ", ": "), allow_nan=False, default=_plain).encode()


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return json_number(value)
    raise TypeError(f"{type(value).__name__} does not belong into a document")


def json_number(value: Decimal) -> int | float:
    """The JSON number that equals a Decimal: an integer where it is one."""
    return int(value) if value == value.to_integral_value() else float(value)


def version_of(raw: bytes | None) -> str:
    """A document's version: the SHA-256 of its bytes, hexadecimal; that of nothing for a missing document."""
    return hashlib.sha256(raw or b"").hexdigest()


def _number(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError("must be a JSON number")
    return Decimal(str(value))


Quantity = Annotated[
    Decimal,
    BeforeValidator(_number),
    PlainSerializer(json_number, return_type=int | float),
    Field(allow_inf_nan=False),
]
Money = Annotated[Quantity, Field(ge=0, le=Decimal(10) ** 9)]
Fraction = Annotated[Quantity, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=0, le=10**9)]
Strategy = Literal["CONSERVATIVE", "BALANCED", "AGGRESSIVE"]
OnStop = Literal["cancel_all", "cancel_entries", "flatten"]


class Document(BaseModel):
    """Fields may be added by anyone and are kept; the named ones are strict."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    @classmethod
    def parse(cls, raw: bytes, inherit: Self) -> Self:
        """Read a full or partial document; what is absent is taken from ``inherit``. Raises DocumentError."""
        value = parse_json(raw)
        if not isinstance(value, dict):
            raise DocumentError("document", "must be a JSON object", value)
        try:
            return cls.model_validate({**cls._inherited(inherit), **value})
        except ValidationError as error:
            raise _document_error(error) from error

    @classmethod
    def _inherited(cls, good: Self) -> dict[str, Any]:
        return {name: getattr(good, name) for name in cls.model_fields}

    def plain(self) -> dict[str, Any]:
        """As JSON values, unknown fields included."""
        return self.model_dump(mode="json")


class TradingSettings(Document):
    """``trading_settings``: the master switch and the strategy. The defaults are what start-up writes: OFF."""

    enabled: bool = False
    buy_threshold_pct: Fraction = Decimal("0.05")
    sell_threshold_pct: Fraction = Decimal("0.05")
    max_position_per_trade: Annotated[int, Field(ge=1, le=10**9)] = 1
    strategy: Strategy = "CONSERVATIVE"
    last_updated: str | None = None
    updated_by: str | None = "backend_init"

    @classmethod
    def _inherited(cls, good: Self) -> dict[str, Any]:
        kept = ("buy_threshold_pct", "sell_threshold_pct", "max_position_per_trade", "strategy")
        return {name: getattr(good, name) for name in kept} | {"updated_by": None}


class RiskSettings(Document):
    """``risk_settings``: the limits. A missing document means these defaults, never "unlimited"."""

    daily_notional_cap: Money = Decimal(50000)
    max_position_per_ticker: Count = 5
    cooldown_minutes: Annotated[Quantity, Field(ge=0, le=525600)] = Decimal(30)
    max_trades_per_run: Count = 3
    emergency_stop_active: bool = False
    on_stop: OnStop = "cancel_all"
    on_stop_automatic: OnStop = "cancel_entries"
    reduce_only: bool = False
    max_daily_loss_usd: Money = Decimal(1000)
    max_open_positions: Count = 20
    max_order_notional: Money = Decimal(50000)
    price_collar_pct: Fraction = Decimal("0.05")
    stale_data_seconds: Annotated[Quantity, Field(gt=0, le=86400)] = Decimal(15)


def _document_error(error: ValidationError) -> DocumentError:
    first = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "document"
    return DocumentError(field, first["msg"].removeprefix("Value error, "), first["input"])


D = TypeVar("D", bound=Document)


@dataclass(frozen=True, slots=True)
class Reading(Generic[D]):
    """One look at a document: its exact bytes, what is in force, and why it could not be read, if so."""

    raw: bytes | None
    value: D
    error: DocumentError | None = None

    @property
    def version(self) -> str:
        return version_of(self.raw)
