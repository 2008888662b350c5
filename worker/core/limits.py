"""The limits of ``risk_settings`` as the rules ask for them, prepared once where the document changes."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import msgspec

from shared.documents import RiskSettings


class Limits(msgspec.Struct, frozen=True, gc=False):
    """See ``RiskSettings``; what it tells in seconds and minutes are spans of time here as well.

    A field of this is read in a quarter of the time that one of the document takes, and eighteen rules read a dozen.
    """

    emergency_stop_active: bool
    reduce_only: bool
    stale_data_seconds: Decimal
    stale: timedelta
    cooldown: timedelta
    price_collar_pct: Decimal
    max_order_notional: Decimal
    daily_notional_cap: Decimal
    max_position_per_ticker: int
    max_trades_per_run: int
    max_open_positions: int
    max_daily_loss_usd: Decimal


class _Prepared:
    """Documents are frozen, and every account has its own."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[int, tuple[RiskSettings, Limits]] = {}

    def __call__(self, settings: RiskSettings) -> Limits:
        known = self._known.get(id(settings))
        if known is not None and known[0] is settings:
            return known[1]
        limits = _prepare(settings)
        if len(self._known) >= self._most:
            self._known = {}
        self._known[id(settings)] = (settings, limits)
        return limits


def _prepare(settings: RiskSettings) -> Limits:
    return Limits(
        settings.emergency_stop_active,
        settings.reduce_only,
        settings.stale_data_seconds,
        timedelta(seconds=float(settings.stale_data_seconds)),
        timedelta(minutes=float(settings.cooldown_minutes)),
        settings.price_collar_pct,
        settings.max_order_notional,
        settings.daily_notional_cap,
        settings.max_position_per_ticker,
        settings.max_trades_per_run,
        settings.max_open_positions,
        settings.max_daily_loss_usd,
    )


limits_of = _Prepared(most=16)
"""The limits of a document, made when they are first asked for."""
