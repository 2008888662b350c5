"""May trading be on? Pure: from what was read to the causes that forbid it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shared.documents import Reading, RiskSettings, TradingSettings, parse_json
from shared.errors import DocumentError

HALTS = frozenset({"risk_limit", "reconcile_mismatch", "stale_data"})


@dataclass(frozen=True, slots=True)
class Cause:
    """Why trading stops: ``reason`` is the word in ``trading_status``, ``source`` the channel it came through.

    A latching cause is lifted by a frontend only; an automatic one uses ``on_stop_automatic``.
    """

    reason: str
    source: str
    detail: str = ""
    latching: bool = False
    automatic: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """What one look found. The readings are None while Redis does not answer."""

    settings: Reading[TradingSettings] | None
    risk: Reading[RiskSettings] | None
    stop_file: bool
    signalled: bool
    redis_lost: str = ""
    old_redis: str = ""
    was_cut: bool = False
    silent: str = ""
    halt: Mapping[str, Any] | None = None
    reducing: bool = False


def find_causes(view: View, *, was_active: bool) -> list[Cause]:
    """Everything that forbids trading, a person's word before a machine's; none where all allows it. That a Redis came
    back empty from a restart is nobody's word.

    With Redis away for less than the limit nothing is judged: no cause, and nobody arms either.
    """
    causes = []
    if view.signalled:
        causes.append(Cause("emergency_stop", "signal", "SIGUSR1", latching=True))
    if view.stop_file:
        causes.append(Cause("emergency_stop", "stop_file", "STOP_FILE exists", latching=True))
    if view.redis_lost:
        causes.append(Cause("redis_lost", "redis", view.redis_lost, latching=True, automatic=True))
    if view.settings is not None and view.risk is not None:
        documents = list(_by_documents(view.settings, view.risk, was_active=was_active))
        machine = list(_by_machine(view))
        emptied = view.old_redis and view.was_cut and not somebody_spoke(view.settings)
        causes += [*machine, *documents] if emptied else [*documents, *machine]
    return causes


def somebody_spoke(settings: Reading[TradingSettings]) -> bool:
    """Whether ``trading_settings`` is somebody's word: a Redis that came back empty has none, or a worker's default."""
    return settings.raw is not None and (settings.error is not None or settings.value.updated_by != "backend_init")


def _by_documents(
    settings: Reading[TradingSettings], risk: Reading[RiskSettings], *, was_active: bool
) -> Iterator[Cause]:
    if risk.error is None and risk.value.emergency_stop_active:
        yield Cause("emergency_stop", "risk_settings", "emergency_stop_active is true", latching=True)
    if settings.error is not None:
        yield Cause("invalid_settings", "trading_settings", f"trading_settings: {settings.error}")
    elif not settings.value.enabled:
        reason = "emergency_stop" if was_active else "disabled_by_user"
        yield Cause(reason, "trading_settings", "enabled is not true")
    if risk.error is not None:
        yield Cause("invalid_settings", "risk_settings", f"risk_settings: {risk.error}")


def _by_machine(view: View) -> Iterator[Cause]:
    if view.old_redis:
        yield Cause("redis_lost", "redis", view.old_redis, latching=True, automatic=True)
    if view.silent:
        yield Cause("worker_silent", "trader", view.silent, latching=True, automatic=True)
    if view.halt is not None:
        reason = str(view.halt.get("reason"))
        detail = str(view.halt.get("detail", ""))
        latching = reason != "stale_data"
        yield Cause(reason if reason in HALTS else "risk_limit", "trader", detail, latching=latching, automatic=True)


def explicitly_lifted(settings: Reading[TradingSettings], risk: Reading[RiskSettings]) -> bool:
    """Whether both documents say so in so many words: enabled true, emergency_stop_active literally false."""
    if settings.error is not None or risk.error is not None or risk.raw is None or not settings.value.enabled:
        return False
    try:
        found = parse_json(risk.raw)
    except DocumentError:
        return False
    return isinstance(found, dict) and found.get("emergency_stop_active") is False
