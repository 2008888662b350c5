"""Reading the two switches' documents, remembering the last good values across errors and restarts."""

from __future__ import annotations

from typing import Any

from shared.clock import Clock, rfc3339
from shared.control import last_good, write_default_settings
from shared.documents import RiskSettings, TradingSettings
from shared.store import Store
from worker.trading.ports import Switches


class SwitchReader:
    """One trader's view of ``trading_settings`` and ``risk_settings``."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._good: tuple[TradingSettings, RiskSettings] | None = None

    def read(self) -> Switches:
        """Both documents as they stand. Raises StoreError where Redis does not answer."""
        if self._good is None:
            self._good = (last_good(self._store, TradingSettings), last_good(self._store, RiskSettings))
        settings, risk = self._store.read_settings(self._good[0]), self._store.read_risk(self._good[1])
        self._good = (settings.value, risk.value)
        return Switches(settings, risk)

    def write_default(self) -> None:
        """OFF in so many words, where ``trading_settings`` is missing. Raises StoreError."""
        write_default_settings(self._store, self._clock, "trading")

    def applied(self, switches: Switches) -> dict[str, Any]:
        """``trading_status.applied``: the whole documents in force and the versions they were read from."""
        settings = switches.settings.value.plain()
        if switches.settings.error is not None:
            settings["enabled"] = False
        return {
            "settings": settings,
            "risk": switches.risk.value.plain(),
            "versions": {"settings": switches.settings.version, "risk": switches.risk.version},
            "at": rfc3339(self._clock.now()),
        }
