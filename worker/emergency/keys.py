"""The documents that the emergency worker writes for others to read: status, report, latch, and the two switches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.audit import audit_entry
from shared.clock import Clock
from shared.control import write_default_settings
from shared.documents import RiskSettings, dump_json, parse_json
from shared.errors import DocumentError
from shared.status import merge_status
from shared.store import Store, judge, translated_errors

_ATTEMPTS = 10


class EmergencyKeys:
    """``account`` is the one whose status the worker tells. Every method raises StoreError."""

    def __init__(self, store: Store, account: str, clock: Clock) -> None:
        self.store, self._account, self._clock = store, account, clock

    def status(self, fields: Mapping[str, Any], epoch: int) -> None:
        """``active``, ``state``, ``stop_reason``."""
        merge_status(self.store, self._account, fields, epoch)

    def report(self, document: Mapping[str, Any]) -> None:
        """``stop_report``."""
        self.store.put_json(self.store.keys.stop_report, document)

    def show_latch(self, latch: Mapping[str, Any] | None) -> None:
        """``stop_latch`` as it is on disk."""
        if latch is None:
            with translated_errors():
                self.store.client.delete(self.store.keys.stop_latch)
        else:
            self.store.put_json(self.store.keys.stop_latch, latch)

    def set_stop_flag(self) -> None:
        """``emergency_stop_active`` true in ``risk_settings``, where that is readable; all else stays as it stands."""
        key = self.store.keys.risk_settings
        for _ in range(_ATTEMPTS):
            raw = self.store.read_raw(key)
            try:
                found = parse_json(raw) if raw is not None else {}
            except DocumentError:
                return
            if judge(raw, RiskSettings, RiskSettings()).error is not None or not isinstance(found, dict):
                return
            if found.get("emergency_stop_active") is True:
                return
            new = dump_json({**found, "emergency_stop_active": True})
            if self.store.write_document(
                key, raw, new, audit_entry(self._clock, "emergency", "emergency", key, raw, new)
            ):
                return

    def write_default_settings(self) -> None:
        """OFF in so many words, where ``trading_settings`` is missing."""
        write_default_settings(self.store, self._clock, "emergency")
