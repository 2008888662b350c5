"""The documents that the emergency worker writes for others to read: status, report, latch, and the two switches."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from shared.audit import audit_entry
from shared.clock import Clock, rfc3339
from shared.control import write_default_settings
from shared.documents import RiskSettings, dump_json, parse_json
from shared.errors import DocumentError, StoreError, StoreRefused
from shared.logs import event_fields
from shared.status import merge_status, status_of
from shared.store import Store, judge, translated_errors
from worker.emergency.fence_line import FenceLine

_ATTEMPTS = 10
_TOLD_OF_A_STOP = frozenset(
    {"stop_id", "state", "reason", "source", "policy", "requested_at", "finished_at", "first_cancel_ms"}
    | {"orders_found", "orders_canceled", "orders_unconfirmed", "positions_open"}
)


class EmergencyKeys:
    """``account`` is the one whose status the worker tells. What writes raises StoreError."""

    def __init__(self, store: Store, account: str, fence: FenceLine, clock: Clock) -> None:
        self.store, self._account, self._fence, self._clock = store, account, fence, clock
        self._told_stop: tuple[object, object] | None = None

    def status(self, fields: Mapping[str, Any], epoch: int) -> None:
        """``active``, ``state``, ``stop_reason``, and a change of them in ``events``.

        An epoch in the status that was never given refuses nobody.
        """
        before = status_of(self.store.get_json(self.store.keys.trading_status), self._account)
        if not merge_status(self.store, self._account, fields, epoch):
            newest = max(self._fence.epoch() or 0, epoch)
            merge_status(self.store, self._account, fields, epoch, newest=newest)
        if any(before.get(name) != value for name, value in fields.items()):
            self._tell("trading", {"account": self._account, **fields, "epoch": epoch})

    def report(self, document: Mapping[str, Any]) -> None:
        """``stop_report``, and in ``events`` every state that a stop comes to."""
        self.store.put_json(self.store.keys.stop_report, document)
        told = (document["stop_id"], document["state"])
        if told != self._told_stop:
            self._tell("stop", {name: value for name, value in document.items() if name in _TOLD_OF_A_STOP})
            self._told_stop = told

    def reported(self, account: str) -> object:
        """The account's row of ``stop_report`` as it stands; None where there is none or Redis has no answer."""
        try:
            found = self.store.get_json(self.store.keys.stop_report)
        except StoreError:
            return None
        rows = found.get("accounts") if isinstance(found, dict) else None
        return rows.get(account) if isinstance(rows, dict) else None

    def show_latch(self, latch: Mapping[str, Any] | None) -> None:
        """``stop_latch`` as it is on disk."""
        before = self.store.get_json(self.store.keys.stop_latch)
        if latch is None:
            with translated_errors():
                self.store.client.delete(self.store.keys.stop_latch)
        else:
            self.store.put_json(self.store.keys.stop_latch, latch)
        if before != latch:
            self._tell("latch", {"latched": latch is not None, "reason": (latch or before or {}).get("reason")})

    def _tell(self, kind: str, told: Mapping[str, object]) -> None:
        """An entry of ``events``; a stream that is mangled keeps nothing else from being shown."""
        with suppress(StoreRefused):
            entry = event_fields(kind, {"time": rfc3339(self._clock.now()), **told})
            self.store.add_event(self.store.keys.events, entry)

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
